"""Programmable Messaging of Twilio."""

from __future__ import annotations

from postrider.contracts.provider_kinds.fields import (
    ID,
    ID_HINT,
    SECRET,
    SECRET_HINT,
    ProviderField,
    ProviderKind,
    common,
    sent_to_base,
)

BASE_URL = "https://api.twilio.com"

KIND = ProviderKind(
    kind="twilio",
    settings=(
        *common(BASE_URL, keyword_replies="off"),
        ProviderField(
            "account_sid",
            "text",
            "Account SID (AC…).",
            required=True,
            pattern=ID,
            hint=ID_HINT,
        ),
        ProviderField(
            "from",
            "text",
            "Sender: a number in E.164, a short code, or an alphanumeric sender id.",
            pattern=r"\+[1-9][0-9]{5,14}|[0-9]{3,8}|[0-9A-Za-z][0-9A-Za-z &_.-]{1,10}",
            hint="a number in E.164, a short code, or 2 to 11 letters and digits",
        ),
        ProviderField(
            "messaging_service_sid",
            "text",
            "Messaging Service SID (MG…), instead of `from`.",
            pattern=ID,
            hint=ID_HINT,
        ),
    ),
    credentials=(
        ProviderField(
            "auth_token",
            "text",
            "Auth token of the account; also checks the signatures of callbacks.",
            required=True,
            pattern=SECRET,
            hint=SECRET_HINT,
        ),
    ),
    exactly_one=(("from", "messaging_service_sid"),),
    sent_to=sent_to_base("auth_token", BASE_URL),
)

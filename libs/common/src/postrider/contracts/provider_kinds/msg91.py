"""The Flow API of MSG91."""

from __future__ import annotations

from postrider.contracts.provider_kinds.fields import (
    SECRET,
    SECRET_HINT,
    ProviderField,
    ProviderKind,
    common,
    sent_to_base,
)

BASE_URL = "https://control.msg91.com"

KIND = ProviderKind(
    kind="msg91",
    settings=(
        *common(BASE_URL),
        ProviderField(
            "sender",
            "text",
            "Sender id (header) of the templates; left out, the template's own.",
            pattern=r"[0-9A-Za-z]{3,16}",
            hint="3 to 16 letters and digits",
        ),
        ProviderField(
            "route",
            "choice",
            "Route, where the account has several: promotional or transactional.",
            choices=("1", "4"),
            aliases=(("promotional", "1"), ("transactional", "4")),
        ),
        ProviderField(
            "short_url",
            "choice",
            "Whether MSG91 shortens the links in a text.",
            default="off",
            choices=("off", "on"),
        ),
        ProviderField(
            "real_time_response",
            "choice",
            "Asks for MSG91's `realTimeResponse`.",
            default="off",
            choices=("off", "on"),
        ),
        ProviderField(
            "webhook_version",
            "choice",
            "Which version of the delivery webhook is chosen in MSG91's panel. It decides how receipts find texts.",
            default="v2",
            choices=("v2", "v3", "v4"),
        ),
        ProviderField(
            "recipients_per_call",
            "integer",
            "Most recipients in one call.",
            default=100,
            minimum=1,
            maximum=1000,
        ),
    ),
    credentials=(
        ProviderField(
            "auth_key",
            "text",
            "Auth key.",
            required=True,
            pattern=SECRET,
            hint=SECRET_HINT,
        ),
    ),
    sent_to=sent_to_base("auth_key", BASE_URL),
)

"""The SMS API of Vonage, formerly Nexmo."""

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

SIGNATURE_METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")

BASE_URL = "https://rest.nexmo.com"

KIND = ProviderKind(
    kind="vonage",
    settings=(
        *common(BASE_URL),
        ProviderField(
            "api_key",
            "text",
            "API key of the account.",
            required=True,
            pattern=ID,
            hint=ID_HINT,
        ),
        ProviderField(
            "from",
            "text",
            "Sender: a number with its country code, a short code, or an alphanumeric sender id.",
            required=True,
            pattern=r"\+?[0-9]{3,15}|[0-9A-Za-z][0-9A-Za-z &_.-]{1,10}",
            hint="a number, or 2 to 11 letters and digits",
        ),
        ProviderField(
            "signature_method",
            "choice",
            "How the account signs, as its API settings say: requests are signed instead of carrying the secret, "
            "and callbacks that are not signed this way are refused. Without it nothing is signed.",
            choices=SIGNATURE_METHODS,
        ),
    ),
    credentials=(
        ProviderField(
            "api_secret",
            "text",
            "API secret of the account.",
            required=True,
            pattern=SECRET,
            hint=SECRET_HINT,
        ),
        ProviderField(
            "signature_secret",
            "text",
            "Signature secret of the account; goes with `signature_method`.",
            pattern=SECRET,
            hint=SECRET_HINT,
        ),
    ),
    together=(("signature_method", "signature_secret"),),
    sent_to=sent_to_base("api_secret", BASE_URL),
)

"""The SMS API of Exotel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postrider.contracts.provider_kinds.fields import (
    ID,
    ID_HINT,
    SECRET,
    SECRET_HINT,
    ProviderField,
    ProviderKind,
    SentTo,
    common,
)
from postrider.contracts.urls import origin_of

SUBDOMAIN = "api.exotel.com"


def base_url_of(settings: Mapping[str, Any]) -> str:
    """Where the account's region is."""
    subdomain = str(settings.get("subdomain") or SUBDOMAIN).removeprefix("@")
    return str(settings.get("base_url") or f"https://{subdomain}").rstrip("/")


def _sent_to(settings: Mapping[str, Any]) -> SentTo:
    return {"api_token": frozenset({origin_of(base_url_of(settings))})}


KIND = ProviderKind(
    kind="exotel",
    settings=(
        *common(None),
        ProviderField(
            "subdomain",
            "text",
            "The region's host: api.exotel.com (Singapore), api.in.exotel.com (Mumbai); `base_url` wins.",
            default=SUBDOMAIN,
            pattern=r"@?[0-9A-Za-z-]{1,63}(\.[0-9A-Za-z-]{1,63}){1,5}",
            hint="a host name",
        ),
        ProviderField(
            "account_sid",
            "text",
            "Account SID, from the API settings.",
            required=True,
            pattern=ID,
            hint=ID_HINT,
        ),
        ProviderField(
            "sender_id",
            "text",
            "Sender: an ExoPhone, or a sender id (header) linked to it.",
            required=True,
            pattern=r"\+?[0-9A-Za-z][0-9A-Za-z-]{2,15}",
            hint="a number, or 3 to 16 letters, digits or -",
        ),
        ProviderField(
            "dlt_entity_id",
            "text",
            "DLT entity id; India demands it.",
            pattern=r"[0-9]{5,30}",
            hint="5 to 30 digits",
        ),
        ProviderField(
            "dlt_template_id",
            "text",
            "DLT template id of texts whose campaign names no `template_id`.",
            pattern=r"[0-9]{5,30}",
            hint="5 to 30 digits",
        ),
        ProviderField(
            "sms_type",
            "choice",
            "SmsType of every text; by_class: as the campaign's message_class; left out, Exotel finds it by its own "
            "templates.",
            choices=("transactional", "transactional_opt_in", "promotional", "by_class"),
        ),
        ProviderField("priority", "choice", "Priority of every text; high costs more.", choices=("normal", "high")),
        ProviderField(
            "bulk",
            "choice",
            "Several texts in one call, in one of the two shapes that Exotel documents; off: one text a call.",
            default="off",
            choices=("off", "json", "form"),
        ),
        ProviderField(
            "number_country",
            "text",
            "ISO 3166-1 country of the numbers that Exotel writes without country code in texts from people.",
            default="IN",
            pattern=r"[A-Z]{2}",
            hint="two capital letters",
        ),
    ),
    credentials=(
        ProviderField(
            "api_key",
            "text",
            "API key.",
            required=True,
            pattern=r"[\x21-\x39\x3b-\x7e]{1,256}",
            hint="1 to 256 printable characters without spaces and colons",
        ),
        ProviderField(
            "api_token",
            "text",
            "API token.",
            required=True,
            pattern=SECRET,
            hint=SECRET_HINT,
        ),
    ),
    sent_to=_sent_to,
)

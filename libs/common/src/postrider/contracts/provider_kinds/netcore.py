"""BulkSMS of Netcore (mytoday): a preset of the generic kind, netcore_provider.py."""

from __future__ import annotations

from postrider.contracts.netcore_provider import check_netcore, netcore_sent_to
from postrider.contracts.provider_kinds.fields import ProviderField, ProviderKind, common

KIND = ProviderKind(
    kind="netcore",
    settings=(
        *common("https://bulkpush.mytoday.com"),
        ProviderField("feed_id", "text", "Feed id of the account.", required=True),
        ProviderField("sender_id", "text", "Sender id; without it the feed's own."),
        ProviderField("format", "choice", "SingleMsgApi or JsonSingleApi.", default="form", choices=("form", "json")),
        ProviderField("entity_id", "text", "DLT entity id; with it each campaign names its DLT template."),
        ProviderField("path", "text", "Path of the API, when it is another."),
        ProviderField("fields", "object", "The vendor's names of fields, when they are others."),
        ProviderField("more", "object", "Further fields and their fixed values."),
        ProviderField("reply", "object", "What replies mean, as of kind generic."),
    ),
    credentials=(
        ProviderField("username", "text", "User name of the account.", required=True),
        ProviderField("password", "text", "Password of the account.", required=True),
    ),
    nested=check_netcore,
    sent_to=netcore_sent_to,
)

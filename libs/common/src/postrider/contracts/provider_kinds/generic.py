"""Any HTTP API, by configuration: the tables of generic_provider.py."""

from __future__ import annotations

from postrider.contracts.generic_provider import check_generic, generic_sent_to
from postrider.contracts.provider_kinds.fields import ProviderField, ProviderKind, common

KIND = ProviderKind(
    kind="generic",
    settings=(
        *common(None),
        ProviderField("url", "text", "Where texts go, placeholders allowed behind the host; a path is of `base_url`."),
        ProviderField("method", "choice", "Of the request.", default="POST", choices=("GET", "POST")),
        ProviderField("content_type", "choice", "Of a POST; by default what is given.", choices=("form", "json")),
        ProviderField("form", "object", "Key-values of the form; of a GET they join the query."),
        ProviderField("json", "object", "The document, once with a batch's array holding one element."),
        ProviderField("headers", "object", "Headers by name, placeholders allowed."),
        ProviderField("auth", "object", "`type`: none, basic (`username`) or oauth2 (`token_url`, `client_id`, …)."),
        ProviderField("batch", "object", "`key` of the array and `size`, the most texts in a call."),
        ProviderField("campaign_pairs", "object", "Which pairs a campaign may add: `message`, `header`, `global`."),
        ProviderField("variables_joiner", "text", "Joins $$TemplateVariables outside a JSON array.", default="|"),
        ProviderField("to_format", "choice", "+ and digits, or digits.", default="e164", choices=("e164", "digits")),
        ProviderField("secrets", "list", "Names of placeholders whose values are in the credentials."),
        ProviderField(
            "reply", "object", "What replies mean: `statuses`, `message_id`, `error_code`, `codes`, `records`."
        ),
        ProviderField("receipts", "choice", "Shape of callbacks.", default="none", choices=("clevertap", "none")),
    ),
    credentials=(
        ProviderField("password", "text", "Of auth basic."),
        ProviderField("client_secret", "text", "Of auth oauth2."),
        ProviderField("secrets", "object", "Values by the names in `settings.secrets`."),
    ),
    nested=check_generic,
    sent_to=generic_sent_to,
)

"""Texts that are kept in an inbox and sent to nobody."""

from __future__ import annotations

from postrider.contracts.provider_kinds.fields import ProviderField, ProviderKind, common

OUTCOMES = (
    "accept", "rejected_recipient", "rejected_content", "rejected_provider", "rejected_later", "in_doubt",
)  # fmt: skip

KIND = ProviderKind(
    kind="sandbox",
    settings=(
        *common(None),
        ProviderField("latency_ms", "integer", "How long each call takes.", default=0, minimum=0, maximum=60_000),
        ProviderField(
            "outcome",
            "choice",
            "What each call ends as. `in_doubt`: the text is lost and the reply says nothing.",
            default="accept",
            choices=OUTCOMES,
            aliases=(
                ("accepted", "accept"),
                *((name.replace("_", ": ", 1), name) for name in OUTCOMES if name.startswith("rejected_")),
                ("in doubt", "in_doubt"),
            ),
        ),
        ProviderField(
            "receipt",
            "choice",
            "What receipts say of an accepted text.",
            default="delivered",
            choices=("delivered", "undelivered", "none"),
        ),
    ),
)

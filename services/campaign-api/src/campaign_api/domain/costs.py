"""What texts would cost, by the parts of those that were tried. Pure; money is decimal from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

PRICE_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,8})?$"
_CENT_OF_A_CENT: Final = Decimal("0.0001")


def texts_of(found: Mapping[str, Any]) -> int:
    """Texts that would go out but for limits: one to each who is reachable and not left out, or, of a live campaign, as
    many as their event came to a person."""
    activity: Mapping[str, int | None] | None = found["activity"]
    reachable = int(found["reachable"]) - int(found.get("control", 0)) - int(found.get("not_in_reach", 0))
    people, events = (activity["people"], activity["events"]) if activity else (None, None)
    return -(-reachable * events // people) if people and events else reachable


def parts_of(sample: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """min, mean and max of the texts that came out."""
    if not sample or not sample["parts"]:
        return None
    parts = sample["parts"]
    return {"min": parts["min"], "mean": round(parts["total"] / sample["rendered"], 2), "max": parts["max"]}


def cost_of(sample: Mapping[str, Any] | None, texts: int, price: str | None) -> dict[str, str] | None:
    """Texts that fail in the sample cost nothing in the whole either."""
    if not sample or not sample["size"] or price is None:
        return None
    total = sample["parts"]["total"] if sample["parts"] else 0
    cost = Decimal(price) * texts * total / sample["size"]
    return {"price_per_part": price, "total": f"{cost.quantize(_CENT_OF_A_CENT, ROUND_HALF_UP):f}"}

"""What the receipts of a text's parts say of the text, for vendors who report each part by itself.

A person has read the text when they have all of it: it is delivered when every part is, and undelivered as soon as one
part definitely is not. Until then it is sent, from the first word of any carrier on. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FURTHEST = {"accepted": 0, "unknown": 0, "sent": 1, "undelivered": 2, "delivered": 3}
"""Receipts come in any order: of several for one part, or one text, the highest is what became of it."""


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """`part` is the provider's id of the part."""

    part: str
    status: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Whole:
    """The text's status, and why it is undelivered."""

    status: str
    code: str = ""


def whole_of(receipts: Iterable[PartReceipt], parts: int) -> Whole:
    """`parts`: how many the text has by our own count; where the vendor made more of it, theirs counts."""
    furthest: dict[str, PartReceipt] = {}
    for receipt in receipts:
        known = furthest.get(receipt.part)
        if known is None or FURTHEST[receipt.status] > FURTHEST[known.status]:
            furthest[receipt.part] = receipt
    lost = min((each for each in furthest.values() if each.status == "undelivered"), key=_by_id, default=None)
    if lost is not None:
        return Whole("undelivered", lost.code)
    statuses = [each.status for each in furthest.values()]
    if statuses.count("delivered") >= max(parts, len(statuses), 1):
        return Whole("delivered")
    return Whole("sent" if {"sent", "delivered"} & {*statuses} else "accepted")


def _by_id(receipt: PartReceipt) -> str:
    return receipt.part

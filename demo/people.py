"""The people of the story: CDNOW's customers, with made-up names, phones and zones by rule. Pure.

Rules, by customer number n (1 … 23,570):
- phone: +1, then an area code by n // 100, then 555 01 and n % 100 as two digits (the range reserved for fiction);
  every 250th has none; every 333rd said no to texts (`sms_consent: false`)
- zone: n % 6 into ZONES; every 101st has none and falls back (semantics: the phone's country, then the account)
- first name: n % 8 into NAMES; every 40th has none, so that the template's default is used
- a purchase's messageId is its row's number in the file; its time is noon UTC of its day
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "cdnow.csv.gz"
ZONES = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Anchorage",
    "Pacific/Honolulu",
)  # fmt: skip
WESTERNMOST = "Pacific/Honolulu"
NAMES = ("Ada", "Béla", "Chidi", "Dora", "Emeka", "Farah", "Goran", "Hana")
AREA_CODES = [
    code for code in range(201, 990) if code // 10 % 10 != 9 and code % 100 != 11 and code not in (555, 710, 900)
]


@dataclass(frozen=True)
class Purchase:
    """`row` counts from 1. `price` in US dollars, of the whole purchase."""

    row: int
    customer: int
    day: str
    quantity: int
    price: float


def purchases() -> list[Purchase]:
    """All rows of the file, in its order."""
    with gzip.open(DATA, "rt", newline="") as file:
        return [
            Purchase(row, int(line["customer_id"]), line["date"], int(line["quantity"]), float(line["price"]))
            for row, line in enumerate(csv.DictReader(file), 1)
        ]


def user_id(customer: int) -> str:
    return f"cdnow-{customer}"


def phone(customer: int) -> str | None:
    if customer % 250 == 0:
        return None
    return f"+1{AREA_CODES[customer // 100]}55501{customer % 100:02}"


def identify(customer: int) -> dict[str, Any]:
    """The identify message of one customer, in the Segment shape."""
    traits: dict[str, Any] = {"customer_number": customer}
    number = phone(customer)
    if number is not None:
        traits["phone"] = number
    if customer % 333 == 0:
        traits["sms_consent"] = False
    if customer % 101:
        traits["timezone"] = ZONES[customer % len(ZONES)]
    if customer % 40:
        traits["first_name"] = NAMES[customer % len(NAMES)]
    return {
        "type": "identify",
        "messageId": f"cdnow-person-{customer}",
        "userId": user_id(customer),
        "timestamp": "1997-01-01T00:00:00Z",
        "traits": traits,
    }


def track(purchase: Purchase) -> dict[str, Any]:
    """The track message of one purchase."""
    return {
        "type": "track",
        "messageId": f"cdnow-row-{purchase.row}",
        "userId": user_id(purchase.customer),
        "event": "Purchase",
        "timestamp": f"{purchase.day}T12:00:00Z",
        "properties": {"quantity": purchase.quantity, "price": purchase.price},
    }


def who_bought_twice_for_more_than(dollars: float, rows: list[Purchase]) -> set[str]:
    """The plain program over the file, against which the segment engine is compared: loops, no engine."""
    count: dict[int, int] = {}
    total: dict[int, float] = {}
    for purchase in rows:
        count[purchase.customer] = count.get(purchase.customer, 0) + 1
        total[purchase.customer] = total.get(purchase.customer, 0.0) + purchase.price
    tolerance = 1e-9 * max(1.0, dollars)
    return {user_id(customer) for customer in count if count[customer] >= 2 and total[customer] - dollars > tolerance}


def batches(messages: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(messages), size):
        yield messages[start : start + size]

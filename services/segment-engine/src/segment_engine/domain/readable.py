"""What a record of another service must hold for its tables, beyond its shape. Pure.

A planned group cannot give a batch up, and a worker cannot give up what was written down: whatever a table would refuse
has to be refused here, when the record is decoded, and becomes a dead letter.
"""

from __future__ import annotations

from datetime import datetime

from postrider.contracts.codec import Unreadable

MAX_COUNT = 2**63 - 1


def require_count(name: str, number: int, largest: int = MAX_COUNT) -> None:
    """Raises `Unreadable`."""
    if not 0 <= number <= largest:
        raise Unreadable(f"{name}: must be between 0 and {largest}")


def require_aware(name: str, at: datetime) -> None:
    """Raises `Unreadable`: a time without an offset is no moment."""
    if at.tzinfo is None:
        raise Unreadable(f"{name}: must have an offset")


def require_text(**texts: str) -> None:
    """Raises `Unreadable` for what Postgres keeps no text of."""
    for name, text in texts.items():
        if "\x00" in text:
            raise Unreadable(f"{name}: must not contain NUL")

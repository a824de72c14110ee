"""Opens the books of limits and caps, decides about a group of people, and writes back: one round of statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from scheduler.domain.gate import Candidate, Leave, Terms, consider, decide, names
from scheduler.domain.settled import Settled
from scheduler.store import book_rows


async def let_through(
    tx: AsyncConnection, candidates: Sequence[Candidate], terms: Mapping[str, Terms], now: datetime
) -> list[Settled | Leave]:
    """For each candidate, in their order. `terms` by campaign."""
    considered = [consider(candidate, terms[candidate.campaign_id], now) for candidate in candidates]
    counters, people = names(considered)
    books = await book_rows.open_books(tx, counters, people)
    decided = decide(considered, books)
    await book_rows.close_books(tx, books)
    return decided

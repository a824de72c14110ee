"""Opens the books of limits and caps, decides about a group of people, and writes back: one round of statements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from scheduler.domain.gate import Candidate, Leave, Terms, consider, decide, names
from scheduler.domain.settled import Settled
from scheduler.store import book_rows

AT_ONCE = 500
"""People after whom others get their turn: the event loop must not stand still for long."""


async def let_through(
    tx: AsyncConnection, candidates: Sequence[tuple[Candidate, Terms]], now: datetime
) -> list[Settled | Leave]:
    """For each candidate, in their order. Once a transaction: the rows are locked in one order, or two transactions
    could wait for each other's."""
    considered = []
    for number, (candidate, terms) in enumerate(candidates, 1):
        considered.append(consider(candidate, terms, now))
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    books = await book_rows.open_books(tx, *names(considered))
    decided: list[Settled | Leave] = []
    for start in range(0, len(considered), AT_ONCE):
        decided += decide(considered[start : start + AT_ONCE], books)
        await asyncio.sleep(0)
    await book_rows.close_books(tx, books)
    return decided

"""Tells delivery-events what was committed: records are stored with the change and published after the commit.

Must not be awaited by whoever writes: a slow broker delays the news, never a text. What it cannot keep in memory, or a
crash leaves, the outbox's relay publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import metrics
from dispatcher.domain.funnel import Change, moves
from dispatcher.domain.ledger import State, status_of
from dispatcher.domain.message import TEST_CAMPAIGN, Message
from dispatcher.store.suppressions import Suppression
from postrider.contracts.delivery_events import FUNNEL_MOVED, MESSAGE_CHANGED, TEST_RUN, AttemptSummary, MessageChanged
from postrider.contracts.envelope import Outgoing
from postrider.contracts.suppressions import SUPPRESSION_CHANGED, SuppressionChanged
from postrider.contracts.topics import DELIVERY_EVENTS, SUPPRESSIONS
from postrider.postgres.outbox import Outbox, Pending

MOST_KEPT = 2_000
"""Committed rows waiting in memory; more are left to the relay."""
Changed: TypeAlias = tuple[Message, datetime, Sequence[AttemptSummary]]
"""A message as it is after a change, with its new seq; the moment of the change; the calls for it."""

MOST_ATTEMPTS = 100
"""The latest calls that a record tells of: a text that was refused for a week must still fit into one."""


class Announcer:
    """A component (`run`). Rows are published in the order of their commits."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: list[Pending] = []
        self._wake = asyncio.Event()

    def moved(self, changes: Sequence[Change]) -> list[Outgoing]:
        return [self._outbox.outgoing(DELIVERY_EVENTS, move.campaign_id, FUNNEL_MOVED, move) for move in moves(changes)]

    def changed(self, changes: Iterable[Changed]) -> list[Outgoing]:
        return self._outbox.outgoing_all(
            DELIVERY_EVENTS,
            MESSAGE_CHANGED,
            (
                (message.user_id, _news_of(message, at, attempts), f"{message.message_id}:{message.seq}")
                for message, at, attempts in changes
            ),
        )

    def suppression(self, changed: Suppression) -> Outgoing:
        phone_hash = changed.phone_hash.hex()
        data = SuppressionChanged(
            phone_hash, changed.suppressed, changed.version, changed.reason, changed.source, changed.at
        )
        id = f"{phone_hash}:{changed.version}"
        return self._outbox.outgoing(SUPPRESSIONS, phone_hash, SUPPRESSION_CHANGED, data, id)

    async def add(self, tx: AsyncConnection, records: Sequence[Outgoing]) -> Pending | None:
        """In the transaction of the change. Hand what it returns to `publish_later` after the commit."""
        return await self._outbox.add(tx, records)

    def publish_later(self, pending: Pending | None) -> None:
        if pending is None:
            return
        if len(self._waiting) < MOST_KEPT:
            self._waiting.append(pending)
        metrics.PUBLISH_BACKLOG.set(len(self._waiting))
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, and then until nothing waits; a broker that is away then costs nothing but the relay's work."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set() or self._waiting:
                if not self._waiting:
                    waking = asyncio.create_task(self._wake.wait())
                    await asyncio.wait({waking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    waking.cancel()
                self._wake.clear()
                batch, self._waiting = self._waiting, []
                await asyncio.gather(*(self._outbox.publish(pending) for pending in batch))
                metrics.PUBLISH_BACKLOG.set(len(self._waiting))
        finally:
            stopping.cancel()


def _news_of(message: Message, at: datetime, attempts: Sequence[AttemptSummary]) -> MessageChanged:
    is_test = message.campaign_id == TEST_CAMPAIGN
    return MessageChanged(
        message_id=message.message_id, campaign_id=message.run_id if is_test else message.campaign_id,
        run_id=TEST_RUN if is_test else message.run_id,
        occurrence=message.occurrence, user_id=message.user_id, status=message.status, seq=message.seq, at=at,
        due_at=message.due_at, phone=message.phone, reason=message.reason, variant=message.variant,
        provider_id=message.provider_id, provider_message_id=message.provider_message_id, body=message.body,
        parts=message.parts, attempts=list(attempts)[-MOST_ATTEMPTS:],
    )  # fmt: skip


def change_of(before: Message, now: Message) -> Change:
    """How the funnel sees the step from one snapshot of a message to the next."""
    return Change(
        now.campaign_id, now.run_id, now.variant, before.status, before.provider_id, now.status, now.provider_id,
        now.reason,
    )  # fmt: skip


def change_from(state: State, now: Message) -> Change:
    """The same for a sweep, which knows the state before; sweeps move nothing that has a provider."""
    return Change(now.campaign_id, now.run_id, now.variant, status_of(state), "", now.status, "", now.reason)

"""Believes evidence: a provider has, or had, the text of an attempt. The one path to ACCEPTED outside a worker's own
settlement; receipts, look-ups and replies that came too late all end here.

Must not resend anything: evidence only ever ends a doubt or moves an accepted message on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import metrics
from dispatcher.announcer import Announcer, change_of
from dispatcher.domain.ledger import ACCEPTED, Event, State, apply, receive
from dispatcher.domain.message import Message, is_same_text, reference
from dispatcher.domain.settlement import Attempt
from dispatcher.store import evidence as store
from dispatcher.store import receipts, settles
from postrider.contracts.envelope import Outgoing
from postrider.logs import log

Result = Literal["applied", "nothing_new", "wait", "no_such_message", "other_provider"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """`status`: the provider's word on the text (sent, delivered, undelivered; else accepted)."""

    message_id: str
    attempt: int
    provider_id: str
    provider_message_id: str
    status: str
    code: str = ""


class Taken(Exception):
    """What a look-up found has become another message's meanwhile: it proves nothing of this one."""


@dataclass(frozen=True, slots=True)
class Believed:
    """`results` in the order of the evidence. `outgoing` goes into the transaction's outbox row."""

    results: list[Result]
    outgoing: list[Outgoing]


async def believe(
    tx: AsyncConnection, announcer: Announcer, items: Sequence[Evidence], *, is_guess: bool = False
) -> Believed:
    """Applies evidence to the locked rows, however often and in whatever order it comes.

    `is_guess`: it was found by its looks and not by our reference. Raises Taken, and the transaction is to be rolled
    back, when the provider's id belongs to another message.
    """
    before = await store.lock(tx, [item.message_id for item in items])
    now = dict(before)
    ended = await store.providers_of(tx, [(item.message_id, item.attempt) for item in items])
    results: list[Result] = []
    attempts: list[tuple[str, Attempt]] = []
    for item in items:
        message = now.get(item.message_id)
        if message is None:
            results.append("no_such_message")
            continue
        results.append(_weigh(message, item, ended.get((item.message_id, item.attempt))))
        if results[-1] != "applied":
            continue
        if message.state not in ACCEPTED:
            started = message.marked_at or message.due_at
            proven = Attempt(item.attempt, item.provider_id, started, "accepted", "", item.provider_message_id)
            attempts.append((item.message_id, proven))
            metrics.RESOLVED.labels("evidence").inc()
        now[item.message_id] = _believed(message, item)
    changed = [message for id, message in now.items() if message is not before[id]]
    if not changed:
        return Believed(results, [])
    for message_id, attempt in await settles.keep_attempts(tx, attempts):
        if is_guess:
            raise Taken
        metrics.DOUBLES.inc()
        log.error("provider_id_taken", message_id=message_id, provider=attempt.provider_id)
    rows = await store.write(
        tx, [(each, each.state, each.reason, each.provider_id, each.provider_message_id) for each in changed]
    )
    history = await settles.history(tx, [each.message_id for each, _ in rows])
    for message, _ in rows:
        metrics.SETTLED.labels(message.state.value).inc()
    moved = announcer.moved([change_of(before[message.message_id], message) for message, _ in rows])
    told = announcer.changed((message, at, history.get(message.message_id, ())) for message, at in rows)
    return Believed(results, [*moved, *told])


async def by_text(tx: AsyncConnection, items: Sequence[Evidence]) -> Sequence[Evidence]:
    """Replies whose ids are those of first parts, with the id that the text has: where a vendor reports each part by
    itself, a receipt of another part may have proven it before. It is one call all the same, and no double."""
    named = {(each.message_id, each.attempt): reference(each.message_id, each.attempt) for each in items}
    said = await receipts.of_parts(tx, {(each.provider_id, named[each.message_id, each.attempt]) for each in items})
    if not said:
        return items
    await store.lock(tx, [each.message_id for each in items])
    ids = await store.given_ids(tx, list(named))
    return [
        dataclasses.replace(each, provider_message_id=ids[each.message_id, each.attempt])
        if (each.message_id, each.attempt) in ids and (each.provider_id, named[each.message_id, each.attempt]) in said
        else each
        for each in items
    ]


def _weigh(message: Message, item: Evidence, ended_at: str | None) -> Result:
    """Whether this evidence changes this message."""
    asked = ended_at or (message.provider_id if message.attempt == item.attempt else None)
    if item.attempt > message.attempt or (asked is not None and asked != item.provider_id):
        return "other_provider"
    if message.state is State.SUBMITTING:
        return "wait"
    if message.state in ACCEPTED:
        if not is_same_text(message, item.attempt, item.provider_message_id):
            metrics.DOUBLES.inc()
            log.error("double_evidence", message_id=message.message_id, attempt=item.attempt, of=message.attempt)
            return "nothing_new"
        return "applied" if receive(message.state, item.status) is not None else "nothing_new"
    if message.state not in (State.IN_DOUBT, State.UNKNOWN) and item.status == "undelivered":
        return "nothing_new"  # it was given up as not sent, and was not
    return "applied"


def _believed(message: Message, item: Evidence) -> Message:
    if message.state not in ACCEPTED:
        message = replace(
            message, state=apply(message.state, Event.EVIDENCE), cause="", reason="", attempt=message.attempt,
            provider_id=item.provider_id, provider_message_id=item.provider_message_id,
        )  # fmt: skip
    event = receive(message.state, item.status)
    if event is None:
        return message
    reason = item.code if event is Event.RECEIPT_UNDELIVERED else ""
    return replace(message, state=apply(message.state, event), reason=reason)

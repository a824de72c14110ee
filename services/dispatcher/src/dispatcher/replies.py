"""Answers keyword texts: one call a text, by the provider and from the number that the person wrote to.

A way of its own beside the pipelines, with connections and a ledger (store/replies.py) of its own: a person who says
STOP is answered in seconds whatever campaign is under way, and may be, although they are suppressed. The rule of every
call holds here too: marked and committed before the first byte, never begun again unless it was proven not sent. See
docs/decisions/keyword-replies.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import metrics
from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.fleet import Fleet
from dispatcher.http_port import CalledOff
from dispatcher.providers.base import REPLY_ATTEMPT, OutgoingText
from dispatcher.providers.keyword_texts import text_of
from dispatcher.providers.keywords import languages_of
from dispatcher.sending import woken_at
from dispatcher.store import replies as store
from dispatcher.store import suppressions
from dispatcher.store.replies import Heard, Reply
from postrider.clock import Clock
from postrider.contracts.definitions import AccountSettings
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.sms.encoding import UnsendableText, analyse

AT_ONCE: Final = 4
"""Calls under way at one provider, in one process; its pool of connections has room for them."""
MOST_AN_HOUR: Final = 4
WINDOW_SECONDS: Final = 3600.0
"""A machine that answers each of our answers with a keyword gets so many, and no more."""
LASTS = timedelta(minutes=5)
"""Later it answers nothing any more. The US rules give a confirmation five minutes (47 CFR 64.1200(a)(12))."""
BEGIN_WITHIN_SECONDS: Final = 10.0
"""A call that has not got its connection so long after its mark does not begin."""
LEASE_MARGIN_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 1.0
BATCH: Final = 50


Suppress = Callable[[str, str, str], Awaitable[None]]
"""(phone, reason, source)"""


class Replies:
    """A component (`run`). `account`: its settings, as they are now."""

    def __init__(self, database: Database, clock: Clock, owner: str, account: Callable[[], AccountSettings]) -> None:
        self._database = database
        self._account = account
        self._clock = clock
        self._owner = owner
        self._fleet: Fleet | None = None
        self._suppress: Suppress | None = None
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._calls: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def bind(self, fleet: Fleet, suppress: Suppress) -> None:
        """Receipts and opt-outs are taken by parts that know this one, so these come after it."""
        self._fleet = fleet
        self._suppress = suppress

    async def order(self, tx: AsyncConnection, heard: Heard, *, has_changed: bool) -> None:
        """In the transaction that obeys the keyword; `wake` after its commit. STOP and START are answered when they
        have changed something, HELP always; a phone that others have blocked never is."""
        if not has_changed and (heard.keyword != "help" or await self._is_blocked(tx, heard.phone_hash)):
            return
        body = text_of(heard.keyword, languages_of(heard.said), self._account().keyword_replies)
        if body is None or not self._bound().answers_keywords(heard.provider_id, body):
            metrics.KEYWORD_REPLIES.labels("off").inc()
            return
        if not await store.order(tx, heard, body, MOST_AN_HOUR, WINDOW_SECONDS):
            metrics.KEYWORD_REPLIES.labels("too_many").inc()
            log.warning("keyword_reply_too_many", provider=heard.provider_id, keyword=heard.keyword)

    async def _is_blocked(self, tx: AsyncConnection, phone_hash: bytes) -> bool:
        reason = await suppressions.reason_of(tx, phone_hash)
        return reason is not None and reason not in suppressions.OPT_OUTS

    def wake(self) -> None:
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then until the calls under way have ended."""
        try:
            with woken_at(stop, self._wake):
                await self._run(stop)
            if self._under_way:
                await asyncio.wait(set(self._under_way.values()))
        finally:
            for task in self._under_way.values():
                task.cancel()

    async def _run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._turn()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("keyword_replies_wait", **failure(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), IDLE_SECONDS)
            self._wake.clear()

    async def _turn(self) -> None:
        async with self._database.begin() as tx:
            lost = await store.abandon(tx)
            due = await store.due(tx, BATCH, [provider for provider, n in self._calls.items() if n >= AT_ONCE])
        if lost:
            metrics.KEYWORD_REPLIES.labels("in_doubt").inc(lost)
            log.warning("keyword_replies_abandoned", n=lost)
        for reply in due:
            key = (reply.provider_id, reply.inbound_id)
            if key not in self._under_way and self._calls[reply.provider_id] < AT_ONCE:
                task = asyncio.create_task(self._answer(reply))
                self._under_way[key] = task
                self._calls[reply.provider_id] += 1
                task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        self._calls[key[0]] -= 1
        self._wake.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Its mark runs out, if it has one: then it is in doubt, and over.
            log.error("keyword_reply_failed", provider=key[0], **failure(error))

    async def _answer(self, reply: Reply) -> None:
        fleet = self._bound()
        pipeline = fleet.pipeline(reply.provider_id)
        if reply.now - reply.created_at > LASTS:
            await self._end(reply, None, "expired", "too_late")
            return
        try:
            known = analyse(reply.body)
        except UnsendableText:
            await self._end(reply, None, "refused", "unsendable")
            return
        if pipeline is None or not pipeline.breaker.lets_through(self._clock.monotonic()):
            await self._wait(reply, None, "provider_away", 2.0)
            return
        parts = await pipeline.budget.available(known.parts, known.parts)
        if parts is not None:
            if parts < known.parts:
                await self._wait(reply, None, "no_parts", max(pipeline.budget.wait_seconds, 0.2))
                return
            pipeline.budget.spend(known.parts)
        adapter, terms = pipeline.adapter, pipeline.terms
        started = self._clock.monotonic()
        async with self._database.begin() as tx:
            lease = terms.timeout_seconds + BEGIN_WITHIN_SECONDS + LEASE_MARGIN_SECONDS
            if not await store.mark(tx, reply, self._owner, lease):
                return  # another replica has it, or has ended it
        text = OutgoingText(
            reply.reply_id.hex, REPLY_ATTEMPT, f"{reply.reply_id.hex}.{REPLY_ATTEMPT}", reply.phone, reply.body,
            known.encoding, known.parts, validity_seconds=None, callback_url=None,
            may_begin=lambda: self._clock.monotonic() - started <= BEGIN_WITHIN_SECONDS, sender=reply.sender or None,
        )  # fmt: skip
        try:
            result = await adapter.submit(text)
        except CalledOff:
            await self._wait(reply, self._owner, "called_off", 1.0)
            return
        except Exception as error:  # noqa: BLE001  # an adapter's bug is a doubt
            log.error("adapter_failed", provider=reply.provider_id, **failure(error))
            result = SubmitResult(Outcome.IN_DOUBT, code="adapter_failed", unknown_code=True)
        await self._settle(reply, result)

    async def _settle(self, reply: Reply, result: SubmitResult) -> None:
        code = result.code or ""
        if result.unknown_code:
            metrics.UNKNOWN_CODES.labels(reply.provider_id).inc()
            log.error("unknown_code", provider=reply.provider_id, code=code)
        if result.suppress is not None and self._suppress is not None:
            await self._suppress(reply.phone, result.suppress, f"provider:{reply.provider_id}")
        if result.outcome is Outcome.REJECTED_LATER or (result.may_fail_over and result.not_begun):
            await self._wait(reply, self._owner, code, max(result.retry_after_seconds or 0.0, 2.0))
        elif result.is_definite_rejection:
            await self._end(reply, self._owner, "refused", code)
        else:
            state = "accepted" if result.is_accepted else "in_doubt"
            await self._end(reply, self._owner, state, code, result.provider_message_id or "")

    async def _wait(self, reply: Reply, owner: str | None, code: str, seconds: float) -> None:
        async with self._database.begin() as tx:
            await store.later(tx, reply, owner, code[:64], seconds)

    async def _end(self, reply: Reply, owner: str | None, state: str, code: str, provider_message_id: str = "") -> None:
        async with self._database.begin() as tx:
            ended = await store.end(tx, reply, owner, state, code[:64], provider_message_id)
        if ended:
            metrics.KEYWORD_REPLIES.labels(state).inc()

    def _bound(self) -> Fleet:
        assert self._fleet is not None
        return self._fleet

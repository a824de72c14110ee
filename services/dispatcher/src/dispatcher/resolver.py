"""Ends doubts: finds abandoned calls, looks texts up at their provider, and does what domain/doubt.py decides.

A doubt keeps its message with its provider. Nothing here sends a text again but the one case of a provider that
recognises its own (idempotent), with the same bytes and key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError

from dispatcher import evidence, metrics
from dispatcher.announcer import Announcer, change_of
from dispatcher.calls import may_send
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain import doubt
from dispatcher.domain.admission import Admitted, admit, campaign_says
from dispatcher.domain.doubt import Doubt, Hearing, decide
from dispatcher.domain.ledger import Event, State
from dispatcher.domain.message import Message, reference
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.evidence import Evidence
from dispatcher.fleet import Fleet
from dispatcher.http_port import CalledOff
from dispatcher.opt_out_news import OptOutNews
from dispatcher.providers.base import (
    Ambiguous,
    Found,
    LookUp,
    LookUpResult,
    NotFound,
    OutgoingText,
    ProviderAdapter,
    Unavailable,
)
from dispatcher.sending import woken_at
from dispatcher.store import doubts, settles
from dispatcher.store.alone import alone
from postrider.kafka.definitions import DefinitionsReader
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

LEASE_SECONDS = 20.0
"""A look-up that takes longer may be made twice, which is harmless: the first answer that is written counts."""
BATCH = 200
ABANDONED_SECONDS = 1.0
PAUSE_SECONDS = 0.2
DEFAULT_WAIT_SECONDS = 120.0
"""For texts of a provider whose definition is gone."""
MOST_ROUNDS = 4


class Resolver:
    """A component (`run`)."""

    def __init__(
        self,
        database: Database,
        database_clock: DatabaseClock,
        owner: str,
        fleet: Fleet,
        definitions: DefinitionsReader,
        announcer: Announcer,
        settle: Callable[[Settlement], None],
        look_ups: int,
        news: OptOutNews,
    ) -> None:
        self._database = database
        self._database_clock = database_clock
        self._owner = owner
        self._fleet = fleet
        self._definitions = definitions
        self._announcer = announcer
        self._settle = settle
        self._look_ups = look_ups
        self._news = news
        self._looking: set[asyncio.Task[None]] = set()
        self._by_provider: Counter[str] = Counter()
        self._hearing = Hearing()
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then waits for look-ups under way (they change nothing that is lost if they are cut off)."""
        with woken_at(stop, self._wake):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        abandoned_at = 0.0
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            try:
                if loop.time() >= abandoned_at:
                    abandoned_at = loop.time() + ABANDONED_SECONDS
                    await self._find_abandoned()
                await self._begin_looks()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("resolving_waits", **failure(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PAUSE_SECONDS)
            self._wake.clear()
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def _find_abandoned(self) -> None:
        """Calls whose lease is over: a crash, a stopped process, a database that was away too long."""
        while True:
            async with self._database.begin() as tx:
                found = await doubts.abandon(tx, self._fleet.waits(), DEFAULT_WAIT_SECONDS, BATCH)
                if not found.messages or found.now is None:
                    return
                lost = [
                    (each.message_id, Attempt(each.attempt, each.provider_id, each.marked_at or found.now, "in_doubt",
                                              "lease_over"))
                    for each in found.messages
                ]  # fmt: skip
                await settles.keep_attempts(tx, lost)
                history = await settles.history(tx, [each.message_id for each in found.messages])
                changes = [change_of(replace(each, state=State.SUBMITTING), each) for each in found.messages]
                changed = self._announcer.changed(
                    (each, found.now, history.get(each.message_id, ())) for each in found.messages
                )
                pending = await self._announcer.add(tx, [*self._announcer.moved(changes), *changed])
            self._announcer.publish_later(pending)
            metrics.DOUBTS.labels("lease_over").inc(len(found.messages))
            log.warning("calls_abandoned", n=len(found.messages))

    async def _begin_looks(self) -> None:
        """Each provider has look-ups of its own: those that hang at one take none from another."""
        while True:
            busy = [provider for provider, n in self._by_provider.items() if n >= self._look_ups]
            async with alone(self._database) as tx:
                due = await doubts.due(tx, self._owner, self._look_ups, LEASE_SECONDS, busy)
            if due.now is not None:
                self._database_clock.told(due.now)
            for message in due.messages:
                self._by_provider[message.provider_id] += 1
                task = asyncio.create_task(self._resolve(message))
                self._looking.add(task)
                task.add_done_callback(partial(self._ended, message.provider_id))
            if len(due.messages) < self._look_ups:
                return

    def _ended(self, provider_id: str, task: asyncio.Task[None]) -> None:
        self._looking.discard(task)
        self._by_provider[provider_id] -= 1
        self._wake.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # The message keeps its doubt, and its lease ends: it is looked at again.
            log.error("resolving_failed", provider=provider_id, **failure(error))

    async def _resolve(self, message: Message) -> None:
        asked_at = self._database_clock.now()
        adapter = self._fleet.adapter(message.provider_id)
        is_unusable = adapter is None and self._fleet.definition(message.provider_id) is not None
        answer: LookUpResult | None = Unavailable("unusable") if is_unusable else None
        if adapter is not None and adapter.capabilities.look_up:
            answer = await self._look_up(adapter, message)
        word = _word(answer)
        metrics.LOOK_UPS.labels(message.provider_id, word).inc()
        campaign = self._definitions.campaigns.get(message.campaign_id)
        what = None if campaign is None else campaign.whats.get(str(message.what_version))
        now = self._database_clock.now()
        wait_seconds = self._fleet.waits().get(message.provider_id, DEFAULT_WAIT_SECONDS)
        decision = decide(
            Doubt(
                now=now,
                not_before=message.not_before or asked_at,
                heard_since=self._hearing.since(message.provider_id, wait_seconds, now) if word == "negative" else now,
                send_by=message.send_by,
                answer=word,
                asked_at=asked_at,
                tries=message.look_ups,
                can_look_up=is_unusable or (adapter is not None and adapter.capabilities.look_up),
                is_idempotent=adapter is not None and adapter.capabilities.idempotent,
                may_double=what is not None and what.on_doubt == "may_double",
                is_stopped=campaign_says(campaign) == "cancel",
            )
        )
        match decision:
            case doubt.Believe():
                assert isinstance(answer, Found)
                await self._believe(message, answer, is_guess=True)
            case doubt.AskAgain(at):
                await self._later(message, at)
            case doubt.Resubmit():
                assert adapter is not None
                await self._resubmit(adapter, message)
            case doubt.Requeue(proven):
                self._end(message, Event.DISPROVE if proven else Event.RISK, "not_found" if proven else "risk")
            case doubt.Cancel():
                self._end(message, Event.CANCEL, "not_found", "campaign_stopped")
            case doubt.Expire():
                self._end(message, Event.EXPIRE, "not_found", "deadline")
            case doubt.GiveUp():
                self._end(message, Event.GIVE_UP, "unknown", message.reason)

    async def _look_up(self, adapter: ProviderAdapter, message: Message) -> LookUpResult:
        """Asks until what is found belongs to nobody else of ours."""
        known: frozenset[str] = frozenset()
        for _ in range(MOST_ROUNDS):
            answer = await self._ask(adapter, message, known)
            match answer:
                case Found(provider_message_id):
                    candidates: tuple[str, ...] = (provider_message_id,)
                case Ambiguous(provider_message_ids):
                    candidates = provider_message_ids
                case _:
                    return answer
            async with self._database.begin() as tx:
                if await doubts.has_twin_under_way(tx, message):
                    return Unavailable("the same text is being submitted")
                taken = await doubts.held_by_others(tx, message.provider_id, message.message_id, candidates)
                twins = await doubts.twins(tx, message) if isinstance(answer, Ambiguous) else []
            if taken - known:
                known |= taken
                continue
            if isinstance(answer, Ambiguous) and answer.is_alike:
                match doubt.share(candidates, twins, message.message_id):
                    case doubt.Share(id):
                        return Found(id, "accepted") if id else Unavailable("a twin comes first")
            return answer
        return Unavailable("too many texts that fit")

    async def _ask(self, adapter: ProviderAdapter, message: Message, known: frozenset[str]) -> LookUpResult:
        query = LookUp(
            message.message_id, reference(message.message_id, message.attempt), message.phone, message.body,
            message.marked_at or message.due_at, known, message.attempt,
            any_sender=bool(message.origin) and not message.origin.endswith(f".{adapter.origin.sender}"),
        )  # fmt: skip
        try:
            answer = await adapter.look_up(query)
        except Exception as error:  # noqa: BLE001  # an adapter's bug says nothing of the message, and must not keep it
            log.error("look_up_failed", provider=message.provider_id, **failure(error))
            answer = Unavailable("failed")
        if isinstance(answer, Unavailable):
            self._hearing.missed(message.provider_id)
        else:
            self._hearing.answered(message.provider_id, self._database_clock.now())
        if isinstance(answer, NotFound) and message.origin and message.origin.split(".")[0] != adapter.origin.account:
            return Unavailable("another account")
        return answer

    async def _believe(self, message: Message, found: Found, *, is_guess: bool) -> None:
        proof = Evidence(
            message.message_id, message.attempt, message.provider_id, found.provider_message_id, found.status
        )
        try:
            async with self._database.begin() as tx:
                believed = await evidence.believe(tx, self._announcer, [proof], is_guess=is_guess)
                pending = await self._announcer.add(tx, believed.outgoing)
        except (evidence.Taken, IntegrityError):
            # A twin was faster, in this process or another: what is left is looked at anew.
            await self._later(message, self._database_clock.now())
            return
        self._announcer.publish_later(pending)

    async def _later(self, message: Message, at: datetime) -> None:
        async with alone(self._database) as tx:
            await doubts.later(tx, self._owner, [(message, at)])

    async def _resubmit(self, adapter: ProviderAdapter, message: Message) -> None:
        """Acceptance ends the doubt; nothing else does, since a refusal of the repeat says nothing of the first."""
        again, started = self._database_clock.now(), asyncio.get_running_loop().time()
        async with self._database.begin() as tx:
            allowed = await doubts.may_resubmit(tx, self._owner, message.message_id)
        moment = doubt.later_than(self._database_clock.now(), 1.0)
        minimum = adapter.capabilities.min_validity_seconds
        verdict = admit(moment, message.send_by, message.allowed, message.on_hit, minimum)

        def may_begin() -> bool:
            return may_send(self._definitions, message.campaign_id) and self._news.allows(message.phone, started)

        if allowed and isinstance(verdict, Admitted) and may_begin():
            text = OutgoingText(
                message.message_id, message.attempt, reference(message.message_id, message.attempt),
                message.phone, message.body, "UCS-2" if message.encoding == "UCS-2" else "GSM-7", message.parts,
                verdict.validity_seconds, may_begin=may_begin,
            )  # fmt: skip
            with contextlib.suppress(CalledOff):
                result = await adapter.submit(text)
                if result.provider_message_id is not None:
                    await self._believe(message, Found(result.provider_message_id, "accepted"), is_guess=False)
                    return
        pause = min(2.0 ** min(message.look_ups, 6), doubt.LONGEST_PAUSE_SECONDS)
        await self._later(message, doubt.later_than(again, pause))

    def _end(self, message: Message, event: Event, how: str, reason: str = "") -> None:
        """Settled like a call: compare-and-set on our lease, with the attempt's last word."""
        metrics.RESOLVED.labels(how).inc()
        outcome = {"not_found": "not_found", "risk": "in_doubt", "unknown": "in_doubt"}[how]
        attempt = Attempt(
            message.attempt, message.provider_id, message.marked_at or message.due_at, outcome, message.reason
        )
        self._settle(Settlement(message, event, reason=reason or message.reason, attempt=attempt))


def _word(answer: LookUpResult | None) -> doubt.Answer:
    match answer:
        case Found():
            return "found"
        case NotFound():
            return "negative"
        case Ambiguous():
            return "ambiguous"
        case Unavailable():
            return "unavailable"
        case None:
            return "not_asked"

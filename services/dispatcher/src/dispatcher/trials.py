"""Test sends: one text each, through the ledger like every other, with all that it is made of in its own row.

They obey opt-outs and the order of a call, and no campaign's state, caps or hours (docs/decisions/test-sends.md). A
refusal goes on to the group's next provider and otherwise ends the test at once: whoever tries wants to know.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from dispatcher.announcer import Announcer
from dispatcher.calls import Sending
from dispatcher.domain.admission import Admitted, admit
from dispatcher.domain.ledger import WAITING, Event, State
from dispatcher.domain.message import LIVE, TEST_CAMPAIGN, Message, Queue
from dispatcher.domain.settlement import Settlement
from dispatcher.fleet import Fleet
from dispatcher.preparation import prepare
from dispatcher.sending import woken_at
from dispatcher.steps import not_admitted
from dispatcher.store import trials as store
from dispatcher.store.alone import alone
from dispatcher.store.trials import Trial
from postrider.contracts.definitions import CampaignDefinition, What, When, Who
from postrider.contracts.fields import Id, Name
from postrider.logs import failure, log
from postrider.phones import phone_hash
from postrider.postgres.database import is_outage
from postrider.sms.render_pool import RenderPool

SECONDS = 120.0
"""A test that is later is of no use to anybody."""
LEASE_SECONDS = 15.0
LOOK_SECONDS = 1.0
"""Tests of a process that died are found by another after this and their lease."""
BATCH = 20
WATCH_SECONDS = 0.1
_QUEUES = f"{TEST_CAMPAIGN}|"


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be tried. `message_id` is the key: asked twice it is one text. `campaign_id` "": of no campaign.
    `is_live`: its texts may name `Event.*`."""

    message_id: Id
    phone: Id
    what: What
    campaign_id: Id = ""
    campaign_name: str = ""
    is_live: bool = True
    country: Id | None = None
    user_id: Name = ""
    profile: dict[str, object] = {}
    event: dict[str, object] = {}


class Suppressed(Exception):
    """The phone must not be texted. `reason`: of the suppression."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Asked)


def standing_campaign() -> CampaignDefinition:
    """Whoever asks after the state of a test's campaign hears that it sends."""
    return CampaignDefinition(
        TEST_CAMPAIGN, 0, "running", "live_action", TEST_CAMPAIGN, "transactional", When(), Who(), 0, {}
    )


class Trials:
    """A component (`run`)."""

    def __init__(self, sending: Sending, fleet: Fleet, pool: RenderPool, announcer: Announcer, hash_key: bytes) -> None:
        self._sending = sending
        self._fleet = fleet
        self._pool = pool
        self._announcer = announcer
        self._hash_key = hash_key
        self._wake = asyncio.Event()

    async def keep(self, asked: Asked) -> None:
        """Returns when it is committed; from then on it is sent, once, whatever becomes of us. Raises `Suppressed`.

        A repeat is neither refused nor sent: it has happened."""
        hashed = bytes.fromhex(phone_hash(asked.phone, self._hash_key))
        async with self._sending.database.begin() as tx:
            reason = await store.suppression_of(tx, hashed)
            if reason is not None and await store.read(tx, asked.message_id) is None:
                raise Suppressed(reason)
            kept = await store.insert(
                tx, asked.message_id, asked.campaign_id, asked.user_id, asked.phone, hashed, asked.country,
                _encoder.encode(asked), SECONDS,
            )  # fmt: skip
            pending = None if kept is None else await self._announcer.add(tx, self._announcer.changed([(*kept, [])]))
        self._announcer.publish_later(pending)
        self._wake.set()

    async def read(self, message_id: str, wait_seconds: float = 0.0) -> Trial | None:
        """As it is, or as it is when something is known of it: at the latest after `wait_seconds`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds
        while True:
            async with alone(self._sending.database) as tx:
                found = await store.read(tx, message_id)
            if found is None or found.message.state not in (*WAITING, State.SUBMITTING) or loop.time() >= until:
                return found
            await asyncio.sleep(WATCH_SECONDS)

    def woken(self, queues: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
        """Texts wait again in these queues; returns those that are not of tests."""
        others = {each for each in queues if not each[1].startswith(_QUEUES)}
        if len(others) != len(set(queues)):
            self._wake.set()
        return others

    async def run(self, stop: asyncio.Event) -> None:
        with woken_at(stop, self._wake):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if await self._take_some() == BATCH:
                    continue
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("tests_wait", **failure(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)
            self._wake.clear()

    async def _take_some(self) -> int:
        started = self._sending.clock.monotonic()
        async with alone(self._sending.database) as tx:
            claimed, now = await store.claim(tx, self._sending.owner, BATCH, LEASE_SECONDS)
        if now is not None:
            self._sending.database_clock.told(now)
        for message, state in claimed:
            try:
                await self._try(message, state, started + LEASE_SECONDS)
            except Exception as error:  # one test must not end all tests
                if is_outage(error):
                    raise
                log.error("test_failed", **failure(error))
                self._fail(message, "personalisation_failed", "render_error")
        return len(claimed)

    async def _try(self, message: Message, state: State, leased_until: float) -> None:
        if message.attempt > 0 and (state is State.DEFERRED or message.provider_id not in message.tried):
            # Refused for now, or in doubt and then proven not sent: whoever tried sees that, and may try again.
            self._fail(message, "rejected", message.reason or "not_sent")
            return
        asked = _decoder.decode(message.variables)
        what = asked.what
        provider_id = self._carrier(what, message)
        pipeline = None if provider_id is None else self._fleet.pipeline(provider_id)
        if provider_id is None or pipeline is None:
            self._fail(message, "rejected", message.reason or "no_active_provider")
            return
        refused = self._fleet.refuses(what, provider_id)
        if refused is not None:
            self._fail(message, "personalisation_failed", f"not_for_provider: {refused}")
            return
        minimum = pipeline.adapter.capabilities.min_validity_seconds
        verdict = admit(self._sending.database_clock.now(), message.send_by, (), message.on_hit, minimum)
        if not isinstance(verdict, Admitted):
            self._sending.settle(not_admitted(message, verdict))
            return
        campaign = CampaignDefinition(
            asked.campaign_id or TEST_CAMPAIGN, 0, "running", "live_action" if asked.is_live else "one_time",
            asked.campaign_name, "", When(), Who(), 0, {"0": what},
        )  # fmt: skip
        prepared = await prepare(
            [message], campaign, what, provider_id, self._sending.definitions.settings, self._pool, leased_until
        )
        for settlement in prepared.settled:
            self._sending.settle(settlement)
        # Where it is claimed is its own; on the way out it is a text that somebody waits for.
        pipeline.put([replace(each, message=replace(each.message, lane=LIVE)) for each in prepared.ready])

    def _carrier(self, what: What, message: Message) -> str | None:
        """The first provider that has not refused it; of those, one whose breaker is closed if there is any."""
        network, now = self._fleet.network, self._sending.clock.monotonic()
        queue = Queue.parse(message.queue)
        left = [
            id
            for id in network.candidates(what, queue.country)
            if network.is_active(id) and id not in message.tried and self._fleet.pipeline(id) is not None
        ]
        for id in left:
            pipeline = self._fleet.pipeline(id)
            if pipeline is not None and pipeline.breaker.lets_through(now):
                return id
        return left[0] if left else None

    def _fail(self, message: Message, cause: str, reason: str) -> None:
        self._sending.settle(Settlement(message, Event.FAIL, cause=cause, reason=reason))

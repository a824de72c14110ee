"""The checks around one call: old news lets nobody claim or mark, and what is marked and must not begin is unmarked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dispatcher.announcer import Announcer
from dispatcher.calls import Prepared, ProviderTerms, Sending
from dispatcher.claimer import Claimer
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, Message
from dispatcher.domain.settlement import Settlement
from dispatcher.fleet import Fleet
from dispatcher.opt_out import OptOut
from dispatcher.pipeline import Pipeline
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from dispatcher.store import claims, intake
from postrider.clock import SystemClock
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, What, When, Who
from postrider.health import Health
from postrider.postgres.outbox import Outbox
from postrider.sms.render_pool import RenderPool
from tests.support.dispatching import Stage
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@dataclass
class News:
    """Definitions as told by the test. `statuses` are answered one after the other; the last one stays."""

    confirmed: bool = True
    statuses: list[str] = field(default_factory=lambda: ["running"])
    settings: AccountSettings = field(default_factory=AccountSettings)

    @property
    def campaigns(self) -> dict[str, CampaignDefinition]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        what = What("Hi")
        return {"cmp_1": CampaignDefinition("cmp_1", 1, status, "one_time", "", "", When(), Who(), 1, {"1": what})}

    def confirmed_within(self, seconds: float) -> bool:
        return self.confirmed


@dataclass
class Bench:
    """One pipeline on the real ledger, with its settlements kept instead of written."""

    stage: Stage
    news: News
    settled: list[Settlement]
    inbox: MemoryInbox
    sending: Sending
    pipeline: Pipeline

    async def claimed(self) -> Message:
        job = self.stage.job(profile={})
        async with self.stage.database.begin() as tx:
            _, queues = await intake.insert(tx, BULK, [(job, b"\0" * 32)])
            claim = await claims.claim(tx, "me", BULK, dict.fromkeys(queues, 10), 30.0)
        (message,) = claim.messages
        return message

    def put(self, message: Message) -> None:
        leased_until = SystemClock().monotonic() + 30
        self.pipeline.put([Prepared(message, What("Hi"), "Hi", "GSM-7", 1, leased_until)])

    async def state(self) -> tuple[Any, ...]:
        ((state, owner, attempt),) = await self.stage.rows("SELECT state, owner, attempt FROM ledger")
        return state, owner, attempt

    @asynccontextmanager
    async def running(self, run: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.ensure_future(run(stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def no_receipts(provider_id: str, receipts: Any) -> None:
    """The sandbox's receipts are not what is tested."""


@pytest.fixture
async def bench(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Bench]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as stage:
        clock, news, inbox = SystemClock(), News(), MemoryInbox()
        settled: list[Settlement] = []

        def nothing() -> None:
            """Nobody claims for this pipeline."""

        sending = Sending(
            stage.database, DatabaseClock(clock), clock, "me", news, 8, settled.append, lambda *_: False, nothing
        )
        parts = AdapterParts(lambda: pytest.fail("no HTTP here"), inbox, no_receipts)
        adapter = build_adapter("sandbox", "prv_a", {"receipt": "none"}, {}, parts)
        terms = ProviderTerms("prv_a", 10.0, 120.0, "", None)
        yield Bench(stage, news, settled, inbox, sending, Pipeline(sending, terms, adapter))


async def test_on_old_news_nobody_claims(bench: Bench) -> None:
    async with bench.stage.database.begin() as tx:
        _, queues = await intake.insert(tx, BULK, [(bench.stage.job(profile={}), b"\0" * 32)])
    bench.news.confirmed = False
    fleet = Fleet({}, {}, AdapterParts(lambda: pytest.fail("no HTTP here"), bench.inbox, no_receipts), b"\1" * 32, "")
    named: list[str] = []
    claimer = Claimer(bench.sending, fleet, RenderPool(), Health().check("postgres"), named.append)
    bench.news.statuses = ["stopped"]
    async with bench.running(claimer.run):
        claimer.woken({(BULK, name) for name in queues})
        await asyncio.sleep(0.4)
        assert await bench.state() == ("QUEUED", None, 0) and named == []
        bench.news.confirmed = True
        await eventually(lambda: named == ["cmp_1"])


async def test_on_old_news_nobody_marks(bench: Bench) -> None:
    bench.put(await bench.claimed())
    bench.news.confirmed = False
    async with bench.running(bench.pipeline.run):
        await asyncio.sleep(0.4)
        assert await bench.state() == ("QUEUED", "me", 0) and bench.inbox.texts == []
        bench.news.confirmed = True
        await eventually(lambda: len(bench.inbox.texts) == 1)
    assert await bench.state() == ("SUBMITTING", "me", 1)
    assert [each.event for each in bench.settled] == [Event.ACCEPT]


async def test_a_stop_before_the_mark_cancels(bench: Bench) -> None:
    bench.news.statuses = ["stopped"]
    bench.put(await bench.claimed())
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [each.event for each in bench.settled] == [Event.CANCEL])
    assert await bench.state() == ("QUEUED", "me", 0) and bench.inbox.texts == []


async def test_a_stop_between_mark_and_call_takes_the_mark_back(bench: Bench) -> None:
    bench.news.statuses = ["running", "stopped"]
    bench.put(await bench.claimed())
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [each.event for each in bench.settled] == [Event.UNMARK])
    assert bench.inbox.texts == [] and bench.settled[0].attempts_taken_back == 1
    assert await bench.state() == ("SUBMITTING", "me", 1), "until the settler writes it"


@pytest.mark.parametrize(
    "change",
    ["owner = 'another'", "lease_until = db_now()", "state = 'CANCELLED'", "attempt = 1", "send_by = db_now()",
     "allowed = '{}'"],
)  # fmt: skip
async def test_what_changed_under_us_is_not_called(bench: Bench, change: str) -> None:
    message = await bench.claimed()
    await bench.stage.execute(f"UPDATE ledger SET {change}")
    before = (await bench.state())[0]
    bench.put(message)
    async with bench.running(bench.pipeline.run):
        await asyncio.sleep(0.3)
    assert bench.inbox.texts == [] and (await bench.state())[0] == before


async def test_an_opt_out_is_seen_by_the_mark(bench: Bench) -> None:
    outbox = Outbox(bench.stage.database, bench.stage.publisher, "dispatcher", bench.stage.prefix)
    message = await bench.claimed()
    opt_out = OptOut(bench.stage.database, Announcer(outbox), b"\0" * 32, lambda _: None)
    await opt_out.suppress(message.phone, "opted_out", "test")
    await bench.stage.execute("UPDATE ledger SET phone_hash = (SELECT phone_hash FROM suppressions)")
    bench.put(message)
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [each.event for each in bench.settled] == [Event.SUPPRESS])
    assert bench.inbox.texts == []


async def test_a_lease_that_ran_out_in_the_buffer_is_left_alone(bench: Bench) -> None:
    message = await bench.claimed()
    late = Prepared(message, What("Hi"), "Hi", "GSM-7", 1, SystemClock().monotonic() + 0.5)
    bench.pipeline.put([late, replace(late)])
    async with bench.running(bench.pipeline.run):
        await asyncio.sleep(0.2)
    assert bench.inbox.texts == [] and bench.settled == []

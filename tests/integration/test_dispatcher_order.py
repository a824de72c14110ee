"""In which order texts come to a provider that takes one at a time: by class, and fair between campaigns. Told by its
log, not by a clock.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from dispatcher.claimer import Claimer
from dispatcher.domain.breaker import FIRST_OPEN_SECONDS, Breaker
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, LIVE, Queue
from dispatcher.domain.retry_budget import MOST
from dispatcher.fleet import Fleet
from dispatcher.http_port import HttpRequest, HttpResponse, InDoubt
from dispatcher.intake import Intake
from dispatcher.planner import Planner
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.sealed import Keys
from dispatcher.throttles import Throttles
from postrider.contracts.definitions import CampaignDefinition, What, When, Who
from postrider.contracts.send_jobs import SendJob
from postrider.health import Health
from postrider.kafka.batch import Batch, Received
from postrider.sms.render_pool import RenderPool
from tests.standins.scripted_http import ScriptedHttp
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Bench, News, no_receipts, pipeline_bench
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


class Campaigns(News):
    """All of them run."""

    @property
    def campaigns(self) -> dict[str, CampaignDefinition]:
        return {
            id: CampaignDefinition(id, 1, "running", "one_time", id, "", When(), Who(), 1, {"1": What("Hi")})
            for id in ("cmp_1", "cmp_2", "cmp_3")
        }


@pytest.fixture
async def bench(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Bench]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as stage:
        yield pipeline_bench(stage, Campaigns(), concurrency=1)


@pytest.fixture
def fleet(bench: Bench) -> Fleet:
    parts = AdapterParts(lambda: pytest.fail("no HTTP here"), bench.inbox, no_receipts)
    fleet = Fleet(*bench.network(), parts, Keys([b"\1" * 32]), "")
    fleet.bind(bench.sending)
    fleet.changed(bench.provider)
    return fleet


async def take_in(bench: Bench, lane: int, jobs: Sequence[SendJob]) -> set[tuple[int, str]]:
    """As from Kafka's topic of that lane."""
    queues: set[tuple[int, str]] = set()
    intake = Intake(lane, b"\0" * 32, queues.update)
    async with bench.stage.database.begin() as tx:
        await intake.handle(tx, Batch([Received(job, "", 0, 0, None, ()) for job in jobs], []))
    await intake.after_commit()
    return queues


@asynccontextmanager
async def sending(bench: Bench, fleet: Fleet) -> AsyncIterator[Claimer]:
    claimer = Claimer(bench.sending, fleet, RenderPool(), Health().check("postgres"), lambda _: None)
    async with bench.running(fleet.run), bench.running(claimer.run):
        yield claimer


def order(bench: Bench, **jobs: Sequence[SendJob]) -> str:
    """The provider's log, by the names given."""
    names = {job.message_id: name for name, group in jobs.items() for job in group}
    return "".join(names[text.message_id] for text in bench.inbox.texts)


async def test_transactional_goes_before_live_and_live_before_bulk(bench: Bench, fleet: Fleet) -> None:
    """However they came: a transactional text may be one of a scheduled campaign."""
    bulk = bench.stage.jobs(20, "cmp_1", profile={})
    live = bench.stage.jobs(10, "cmp_2", profile={})
    urgent = bench.stage.jobs(5, "cmp_3", profile={}, message_class="transactional")
    also = bench.stage.jobs(5, "cmp_3", profile={}, message_class="transactional")
    queues = await take_in(bench, BULK, [*bulk, *urgent])
    queues |= await take_in(bench, LIVE, [*live, *also])
    async with sending(bench, fleet) as claimer:
        claimer.woken(queues)
        await eventually(lambda: len(bench.inbox.texts) == 40)
    assert order(bench, t=[*urgent, *also], l=live, b=bulk) == "t" * 10 + "l" * 10 + "b" * 20


async def test_a_campaign_of_thousands_does_not_delay_the_first_texts_of_another(bench: Bench, fleet: Fleet) -> None:
    many, few = bench.stage.jobs(3_000, "cmp_1", profile={}), bench.stage.jobs(5, "cmp_2", profile={})
    queues = await take_in(bench, BULK, many)
    async with sending(bench, fleet) as claimer:
        claimer.woken(queues)
        await eventually(lambda: len(bench.inbox.texts) > 10)
        claimer.woken(await take_in(bench, BULK, few))
        before = len(bench.inbox.texts)
        await eventually(lambda: order(bench, m=many, f=few).count("f") == 5)
    last = order(bench, m=many, f=few).rindex("f")
    assert last - before < 100, "some go out while they are claimed; five hundred are in line before them"


async def test_what_was_refused_before_waits_for_its_share_of_the_calls(bench: Bench, fleet: Fleet) -> None:
    """A provider that refuses is asked again for a fifth of its first tries, and its first tries go on."""
    planner = Planner(
        bench.sending.definitions, fleet, Throttles(bench.sending.database, bench.sending.clock), lambda _: None
    )
    first, again = Queue("cmp_1", 1, "US").name, Queue("cmp_2", 1, "US", (), is_again=True).name
    active = {(BULK, first), (BULK, again)}
    async with bench.running(fleet.run):
        await eventually(lambda: fleet.pipeline("prv_a") is not None)
        wants = await planner.wants(active, BULK, is_rendering=False)
        assert wants[again][0] == MOST and wants[first][0] > MOST
        pipeline = fleet.pipeline("prv_a")
        assert pipeline is not None
        for _ in range(1_000):
            pipeline.caller.retries.spend(bench.sending.clock.monotonic())
        wants = await planner.wants(active, BULK, is_rendering=False)
        assert set(wants) == {first} and (BULK, again) in active, "it is looked at again"
        while not pipeline.room_again:
            pipeline.caller.retries.was_of_use()
        others = {(BULK, Queue(f"cmp_{n}", 1, "US", (), is_again=True).name) for n in (1, 2, 3)}
        given = [set(await planner.wants(others, BULK, is_rendering=False)) for _ in range(3)]
        assert [len(each) for each in given] == [1, 1, 1] and len(set.union(*given)) == 3, "they take turns"


async def test_countries_and_versions_of_a_campaign_share_its_room(bench: Bench, fleet: Fleet) -> None:
    planner = Planner(
        bench.sending.definitions, fleet, Throttles(bench.sending.database, bench.sending.clock), lambda _: None
    )
    many = {(BULK, Queue("cmp_1", 1, f"{one}{two}").name) for one in "ABCDE" for two in "ABCDEFGHIJ"}
    other = Queue("cmp_2", 1, "US").name
    async with bench.running(fleet.run):
        await eventually(lambda: fleet.pipeline("prv_a") is not None)
        wants = await planner.wants(many | {(BULK, other)}, BULK, is_rendering=False)
    of_many = sum(n for name, (n, _) in wants.items() if name != other)
    assert wants[other][0] == of_many == 250


@pytest.mark.parametrize("when", ["3600", "Tue, 01 Dec 2026 10:00:00 GMT"])
async def test_a_provider_that_asks_for_patience_gets_no_more_calls(bench: Bench, when: str) -> None:
    """Not those that wait for it either: they are free for whoever else may have them."""
    headers = {"retry-after": when, "date": "Tue, 01 Dec 2026 09:00:00 GMT"}
    http = ScriptedHttp([HttpResponse(429, headers, b'{"code": 20429}')])
    parts = AdapterParts(lambda: http, bench.inbox, no_receipts)
    settings = {"account_sid": ACCOUNT_SID, "from": "+15005550006"}
    adapter = build_adapter("twilio", "prv_a", settings, {"auth_token": AUTH_TOKEN}, parts)
    bench.pipeline.replace_adapter(bench.pipeline.terms, adapter)
    first, second = await bench.claimed(), await bench.claimed()
    bench.put(first)
    bench.put(second)

    async def given_back() -> bool:
        rows = await bench.stage.rows("SELECT message_id FROM ledger WHERE state = 'QUEUED' AND owner IS NULL")
        return [row.message_id.hex for row in rows] == [second.message_id]

    async with bench.running(bench.pipeline.run):
        await eventually(given_back)
        assert bench.pipeline.room(BULK) == 0 and not bench.pipeline.is_open, "an hour is longer than patience lasts"
    assert len(http.requests) == 1
    (settled,) = bench.settled
    assert settled.event is Event.REJECT_FOR_NOW and settled.message.message_id == first.message_id
    assert settled.next_at is not None and settled.next_at >= first.due_at + timedelta(minutes=59)


class Hanging:
    """A network on which nothing is answered before its end."""

    connection_limit = 1

    def __init__(self) -> None:
        self.requests = 0
        self.end = asyncio.Event()

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests += 1
        await self.end.wait()
        raise InDoubt("timeout")

    async def close(self) -> None:
        """Nothing is open."""


async def test_nobody_waits_behind_a_probe(bench: Bench) -> None:
    network = Hanging()
    parts = AdapterParts(lambda: network, bench.inbox, no_receipts)
    settings = {"account_sid": ACCOUNT_SID, "from": "+15005550006"}
    adapter = build_adapter("twilio", "prv_a", settings, {"auth_token": AUTH_TOKEN}, parts)
    bench.pipeline.replace_adapter(bench.pipeline.terms, adapter)
    due = bench.sending.clock.monotonic() - FIRST_OPEN_SECONDS
    bench.pipeline.caller.breaker = Breaker().stalled(due)
    assert bench.pipeline.room(BULK) == 1
    first, second = await bench.claimed(), await bench.claimed()
    bench.put(first)
    assert bench.pipeline.room(LIVE) == 0, "one text is enough to try"
    bench.put(second)

    async def given_back() -> bool:
        rows = await bench.stage.rows("SELECT message_id FROM ledger WHERE state = 'QUEUED' AND owner IS NULL")
        return [row.message_id.hex for row in rows] == [second.message_id]

    async with bench.running(bench.pipeline.run):
        await eventually(given_back)
        assert network.requests == 1 and bench.settled == [], "and the probe has not ended"
        network.end.set()
    assert [each.event for each in bench.settled] == [Event.DOUBT]

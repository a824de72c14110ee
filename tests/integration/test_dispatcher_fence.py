"""The checks around one call: old news lets nobody claim or mark, and what is marked and must not begin is unmarked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from dispatcher.announcer import Announcer
from dispatcher.calls import Prepared
from dispatcher.claimer import Claimer
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, LIVE, Message
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.fleet import Fleet
from dispatcher.http_port import CalledOff, HttpRequest, HttpResponse
from dispatcher.opt_out import OptOut
from dispatcher.planner import MOST_RENDERED
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.replies import Replies
from dispatcher.sealed import Keys
from dispatcher.steps import marked_of, rendered
from dispatcher.store import claims, intake, marks, settles
from postrider.clock import SystemClock
from postrider.contracts.definitions import AccountSettings, What
from postrider.contracts.send_jobs import Interval
from postrider.health import Health
from postrider.postgres.outbox import Outbox
from postrider.sms.message import Message as TextMessage
from postrider.sms.message import Outcome, Text
from postrider.sms.render_pool import RenderPool
from postrider.sms.values import Values
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Bench, no_receipts, pipeline_bench
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

KEYS = Keys([b"\1" * 32])


@pytest.fixture
async def bench(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Bench]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as stage:
        yield pipeline_bench(stage)


async def test_on_old_news_nobody_claims(bench: Bench) -> None:
    async with bench.stage.database.begin() as tx:
        _, queues = await intake.insert(tx, BULK, [(bench.stage.job(profile={}), b"\0" * 32)])
    bench.news.confirmed = False
    fleet = Fleet({}, {}, AdapterParts(lambda: pytest.fail("no HTTP here"), bench.inbox, no_receipts), KEYS, "")
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
    state, owner, attempt = await bench.state()
    assert (state, attempt) == ("SUBMITTING", 1) and owner not in (None, "me"), "a mark is an owner of its own"
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
    assert (await bench.state())[0] == "SUBMITTING", "until the settler writes it"


class Connecting:
    """A network on which connecting takes as long as it takes `then` to happen."""

    connection_limit = 1

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    async def send(self, request: HttpRequest) -> HttpResponse:
        self._then()
        assert not request.may_begin()
        raise CalledOff

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("then", [{"statuses": ["stopped"]}, {"statuses": ["paused"]}, {"confirmed": False}], ids=str)
async def test_a_stop_while_the_call_connects_takes_the_mark_back(bench: Bench, then: dict[str, Any]) -> None:
    """And so does news that has grown old meanwhile: a stop might be among what is not read."""
    network = Connecting(lambda: bench.news.__dict__.update(then))
    parts = AdapterParts(lambda: network, bench.inbox, no_receipts)
    settings = {"account_sid": ACCOUNT_SID, "from": "+15005550006"}
    adapter = build_adapter("twilio", "prv_a", settings, {"auth_token": AUTH_TOKEN}, parts)
    bench.pipeline.replace_adapter(bench.pipeline.terms, adapter)
    bench.put(await bench.claimed())
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [each.event for each in bench.settled] == [Event.UNMARK])
    assert bench.settled[0].attempts_taken_back == 1


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
    replies = Replies(bench.stage.database, SystemClock(), "me", AccountSettings)
    opt_out = OptOut(bench.stage.database, Announcer(outbox), b"\0" * 32, lambda _: None, replies)
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


async def mark(bench: Bench, name: str) -> Message:
    """Claims what waits and marks it; the message as the settlements of that mark hold it."""
    async with bench.stage.database.begin() as tx:
        queues = {queue for _, queue in await claims.queues(tx)}
        (message,) = (await claims.claim(tx, "me", BULK, dict.fromkeys(queues, 10), 30.0)).messages
    made = Prepared(message, What("Hi"), "Hi", "GSM-7", 1, SystemClock().monotonic() + 30)
    async with bench.stage.database.begin() as tx:
        marked = await marks.mark(tx, "me", name, "prv_a", "", [rendered(made)], 30)
    return marked_of(made, name, "prv_a", marked[message.message_id])


async def written(bench: Bench, *settlements: Settlement) -> list[Event]:
    async with bench.stage.database.begin() as tx:
        return [each.settlement.event for each in (await settles.settle(tx, settlements))[0]]


async def test_what_belongs_to_one_mark_never_touches_the_next(bench: Bench) -> None:
    """A taking back whose commit got no answer is written again, after the text was marked anew under the same
    number: it must not free a text whose call is under way."""
    async with bench.stage.database.begin() as tx:
        await intake.insert(tx, BULK, [(bench.stage.job(profile={}), b"\0" * 32)])
    first = Settlement(await mark(bench, "first"), Event.UNMARK, attempts_taken_back=1)
    assert await written(bench, first) == [Event.UNMARK]
    second = await mark(bench, "second")
    assert second.attempt == first.message.attempt
    assert await written(bench, first) == []
    assert await bench.state() == ("SUBMITTING", "second", 1)
    attempt = Attempt(1, "prv_a", second.due_at, "accepted", provider_message_id="SM1")
    accept = Settlement(second, Event.ACCEPT, attempt=attempt, provider_message_id="SM1")
    assert await written(bench, accept, first) == [Event.ACCEPT], "told by its place, not by the message"
    assert (await bench.state())[0] == "ACCEPTED"


async def test_news_that_grew_old_while_parts_were_drawn_begins_no_call(bench: Bench) -> None:
    message = await bench.claimed()
    bench.limit(parts_per_second=100)
    await bench.stage.execute(
        "INSERT INTO provider_budget (provider_id, tokens, refilled_at) VALUES ('prv_a', 100, db_now())"
    )
    bench.put(message)
    async with bench.stage.database.begin() as another:
        await another.execute(text("SELECT 1 FROM provider_budget FOR UPDATE"))
        async with bench.running(bench.pipeline.run):
            await asyncio.sleep(0.7)
            await another.rollback()
            await eventually(lambda: [each.event for each in bench.settled] == [Event.UNMARK])
    assert bench.inbox.texts == []


async def test_parts_are_not_spent_on_texts_whose_lease_is_over(bench: Bench) -> None:
    stale, fresh = await bench.claimed(), await bench.claimed()
    bench.limit(parts_per_second=0.05)
    await bench.stage.execute(
        "INSERT INTO provider_budget (provider_id, tokens, refilled_at) VALUES ('prv_a', 1, db_now())"
    )
    soon_over = SystemClock().monotonic() + 0.5
    bench.pipeline.put([Prepared(stale, What("Hi"), "Hi", "GSM-7", 1, soon_over)])
    bench.put(fresh)
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [each.message_id for each in bench.inbox.texts] == [fresh.message_id], 5)
    given_back = await bench.stage.rows("SELECT message_id FROM ledger WHERE state = 'QUEUED' AND owner IS NULL")
    assert [row.message_id.hex for row in given_back] == [stale.message_id]


async def test_what_a_stop_recalls_takes_no_parts_from_others(bench: Bench) -> None:
    stopped, other = await bench.claimed(), await bench.claimed()
    await bench.stage.execute("UPDATE ledger SET campaign_id = 'cmp_2' WHERE message_id = :id", id=stopped.message_id)
    bench.limit(parts_per_second=0.05)
    await bench.stage.execute(
        "INSERT INTO provider_budget (provider_id, tokens, refilled_at) VALUES ('prv_a', 1, db_now())"
    )
    bench.put(replace(stopped, campaign_id="cmp_2"))
    bench.put(other)
    bench.pipeline.recall("cmp_2")
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [each.message_id for each in bench.inbox.texts] == [other.message_id], 5)
    given_back = await bench.stage.rows("SELECT message_id FROM ledger WHERE state = 'QUEUED' AND owner IS NULL")
    assert [row.message_id.hex for row in given_back] == [stopped.message_id]


async def test_a_text_whose_group_was_edited_is_routed_again(bench: Bench) -> None:
    message = await bench.claimed()
    bench.news.carriers.clear()
    bench.put(message)

    async def given_back() -> bool:
        return await bench.state() == ("QUEUED", None, 0)

    async with bench.running(bench.pipeline.run):
        await eventually(given_back)
    assert bench.inbox.texts == [] and bench.settled == []


async def test_a_job_whose_intervals_hold_no_moment_never_leaves(bench: Bench) -> None:
    """Not the same as a job without intervals, which may leave at any time."""
    job = bench.stage.job(profile={})
    never = msgspec.structs.replace(job, allowed=[Interval(job.due_at, job.due_at)])
    async with bench.stage.database.begin() as tx:
        _, queues = await intake.insert(tx, LIVE, [(never, b"\0" * 32)])
        (message,) = (await claims.claim(tx, "me", LIVE, dict.fromkeys(queues, 10), 30.0)).messages
    bench.put(message)
    async with bench.running(bench.pipeline.run):
        await eventually(lambda: [(each.event, each.cause) for each in bench.settled] == [(Event.FAIL, "quiet_hours")])


class Slow(RenderPool):
    """Renders when told, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.go = asyncio.Event()

    async def render_messages(self, message: TextMessage, values: Sequence[Values]) -> list[Outcome]:
        self.asked.append(len(values))
        await self.go.wait()
        return [Text("Hi", "GSM-7", 1) for _ in values]


async def test_no_more_is_claimed_than_the_render_worker_can_do_within_a_lease(bench: Bench) -> None:
    bench.news.body = "{% for n in (1..3) %}{{ n }}{% endfor %}"
    jobs = bench.stage.jobs(100, profile={})
    async with bench.stage.database.begin() as tx:
        _, queues = await intake.insert(tx, BULK, [(job, b"\0" * 32) for job in jobs])
    pool = Slow()
    fleet = Fleet(*bench.network(), AdapterParts(lambda: pytest.fail("no HTTP here"), bench.inbox, no_receipts),
                  KEYS, "")  # fmt: skip
    fleet.bind(bench.sending)
    fleet.changed(bench.provider)
    claimer = Claimer(bench.sending, fleet, pool, Health().check("postgres"), lambda _: None)
    async with bench.running(fleet.run), bench.running(claimer.run):
        claimer.woken({(BULK, name) for name in queues})
        await eventually(lambda: pool.asked == [MOST_RENDERED])
        await asyncio.sleep(0.3)
        claimed = await bench.stage.rows("SELECT 1 FROM ledger WHERE owner IS NOT NULL")
        assert pool.asked == [MOST_RENDERED] and len(claimed) == MOST_RENDERED, "the rest waits without a lease"
        pool.go.set()
        await eventually(lambda: len(bench.inbox.texts) == 100)

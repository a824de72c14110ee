"""An opt-out that comes between a text's mark and its first byte, told to whichever replica."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.domain.ledger import Event
from dispatcher.http_port import CalledOff, HttpRequest, HttpResponse
from dispatcher.opt_out_news import OptOutNews
from dispatcher.pipeline import Pipeline
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.store import suppressions
from postrider.clock import FakeClock, SystemClock
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Bench, no_receipts, pipeline_bench
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def bench(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Bench]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as stage:
        yield pipeline_bench(stage)


class SlowToConnect:
    """A network on which connecting takes as long as it takes until the call may not begin any more."""

    connection_limit = 1

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._meanwhile = meanwhile

    async def send(self, request: HttpRequest) -> HttpResponse:
        assert request.may_begin()
        await self._meanwhile()
        await eventually(lambda: not request.may_begin())
        raise CalledOff

    async def close(self) -> None:
        """Nothing is open."""


async def opts_out(bench: Bench, phone: str, reason: str = "opted_out") -> None:
    """As another replica commits it."""
    async with bench.stage.database.begin() as tx:
        await suppressions.suppress(tx, phone, b"\1" * 32, reason, "test")


async def test_a_stop_while_the_call_connects_calls_it_off_at_every_replica(bench: Bench) -> None:
    news = OptOutNews(bench.stage.database, SystemClock())
    message = await bench.claimed()
    network = SlowToConnect(lambda: opts_out(bench, message.phone))
    settings = {"account_sid": ACCOUNT_SID, "from": "+15005550006"}
    parts = AdapterParts(lambda: network, bench.inbox, no_receipts)
    adapter = build_adapter("twilio", "prv_a", settings, {"auth_token": AUTH_TOKEN}, parts)
    bench.pipeline = Pipeline(replace(bench.sending, may_text=news.allows), bench.pipeline.terms, adapter)
    bench.put(message)
    async with bench.running(news.run), bench.running(bench.pipeline.run):
        await eventually(lambda: [each.event for each in bench.settled] == [Event.UNMARK])


async def test_news_that_are_old_let_nobody_begin_but_who_was_marked_just_now(bench: Bench) -> None:
    """Nobody reads: Postgres is away, say."""
    clock = FakeClock(datetime(2026, 12, 1, tzinfo=UTC))
    news = OptOutNews(bench.stage.database, clock)
    marked_at = clock.monotonic()
    assert news.allows("+15550000001", marked_at)
    clock.advance(timedelta(seconds=0.6))
    assert not news.allows("+15550000001", marked_at), "connecting took longer, and nothing was heard since"
    assert news.allows("+15550000001", clock.monotonic())


async def test_who_opts_out_is_known_and_who_came_back_is_not(bench: Bench) -> None:
    news = OptOutNews(bench.stage.database, SystemClock())
    came_back, gone = "+15550000002", "+15550000003"
    async with bench.stage.database.begin() as tx:
        await suppressions.suppress(tx, came_back, b"\2" * 32, "opted_out", "test")
        await suppressions.lift(tx, b"\2" * 32, "test")
        await suppressions.suppress(tx, gone, b"\3" * 32, "complaint", "test")
    now = SystemClock().monotonic
    async with bench.running(news.run):
        await eventually(lambda: not news.allows(gone, now()))
        assert news.allows(came_back, now() - 60), "and the news are fresh"


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [
        ("blocked", "opted_out", "blocked"),
        ("complaint", "provider_opt_out", "complaint"),
        ("opted_out", "blocked", "blocked"),
        ("complaint", "blocked", "blocked"),
        ("provider_opt_out", "opted_out", "opted_out"),
        ("opted_out", "provider_opt_out", "provider_opt_out"),
    ],
)
async def test_an_opt_out_never_takes_the_place_of_what_the_person_cannot_lift(
    bench: Bench, first: str, then: str, kept: str
) -> None:
    await opts_out(bench, "+15550000004", first)
    await opts_out(bench, "+15550000004", then)
    assert await bench.stage.rows("SELECT reason FROM suppressions WHERE suppressed") == [(kept,)]

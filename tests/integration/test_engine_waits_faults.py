"""Timers under kills, rebalances and forwarded records: who qualifies is what a naive look at all events says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from postrider.clock import SystemClock
from postrider.contracts.definitions import CampaignDefinition, Trigger, Unless, Who
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS, USER_EVENTS
from postrider.health import Health
from segment_engine.app import build
from segment_engine.event_store.chdb_store import ChdbStore
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, live_campaign, track

pytestmark = pytest.mark.integration

PEOPLE = 300
WITHIN = 3


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


def cart_left() -> CampaignDefinition:
    who = Who(trigger=Trigger("Cart", unless=Unless("Bought"), within_seconds=WITHIN))
    return live_campaign("Cart", campaign_id="cmp_in", kind="live_inaction", who=who)


@asynccontextmanager
async def killed_in_the_end(made: Engine) -> AsyncIterator[None]:
    """An engine whose parts are cut off wherever they are: nothing is drained."""
    async with build(made.settings) as service:
        tasks = [asyncio.ensure_future(part.run(asyncio.Event())) for part in service.components]
        try:
            await eventually(lambda: service.health.ready, 30)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Story:
    """Events with times of their own, sent in any order, some twice, some into a wrong partition."""

    def __init__(self, made: Engine, seed: int) -> None:
        self._made = made
        self._random = random.Random(seed)
        self.expected: dict[str, tuple[str, datetime]] = {}

    async def tell(self, first: int, last: int) -> None:
        events: list[dict[str, Any]] = []
        base = datetime.now(UTC)
        for number in range(first, last):
            user = f"u-{number}"
            began = base + timedelta(milliseconds=self._random.randrange(0, 300))
            events.append({**track(user, f"a-{number}", "Cart"), "timestamp": began.isoformat()})
            acted = self._random.choice([None, None, -0.1, 0.0, 1.0, WITHIN - 0.01])
            if acted is not None:
                at = began + timedelta(seconds=acted)
                events.append({**track(user, f"b-{number}", "Bought"), "timestamp": at.isoformat()})
            if acted is None or acted < 0:
                self.expected[user] = (f"a-{number}", began + timedelta(seconds=WITHIN))
            if self._random.random() < 0.2:
                events.append(events[-1])
        self._random.shuffle(events)
        for begin in range(0, len(events), 20):
            wrong = self._random.randrange(USER_EVENTS.partitions) if self._random.random() < 0.3 else None
            await self._made.send(*events[begin : begin + 20], partition=wrong)
            await asyncio.sleep(0.02)


async def qualified(made: Engine) -> list[QualifiedUser]:
    return await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)


async def is_complete(made: Engine, story: Story) -> bool:
    found = {user.user_id: (user.occurrence, user.due_at) for user in await qualified(made)}
    assert found.keys() <= story.expected.keys(), sorted(found.keys() - story.expected.keys())
    assert found.keys() == story.expected.keys()
    assert found == story.expected
    return True


async def test_kills_in_mid_stream_forget_nobody_and_text_nobody_who_acted(made: Engine) -> None:
    story = Story(made, 7)
    await made.define(cart_left())
    share = PEOPLE // 3
    async with killed_in_the_end(made):
        await story.tell(0, share)
    await story.tell(share, share + 20)
    async with killed_in_the_end(made):
        await story.tell(share + 20, 2 * share)
        await asyncio.sleep(WITHIN - 1)
    async with killed_in_the_end(made):
        await story.tell(2 * share, PEOPLE)
        await asyncio.sleep(1)
    async with made.running():
        await eventually(lambda: is_complete(made, story), 40)
        await asyncio.sleep(1)
        assert await is_complete(made, story)
        async with made.database.begin() as tx:
            assert (await tx.execute(text("SELECT count(*) FROM waits WHERE due_at IS NOT NULL"))).scalar_one() == 0
            assert (await tx.execute(text("SELECT count(*) FROM forwards"))).scalar_one() == 0


class Shared:
    """One store for two engines of this process, as a cluster would be for two machines."""

    def __init__(self, store: ChdbStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open(self) -> None:
        return None

    async def close(self) -> None:
        return None


async def test_two_replicas_and_a_rebalance_in_mid_stream(made: Engine, tmp_path: Path) -> None:
    story = Story(made, 11)
    store = ChdbStore(tmp_path / "shared", Health(SystemClock()).check("event_store"))
    await store.open()

    def shared(*_: Any) -> Any:
        return Shared(store)

    try:
        await made.define(cart_left())
        async with made.running(shared):
            await story.tell(0, 60)
            async with made.running(shared):
                await story.tell(60, 160)
                await asyncio.sleep(1)
                await story.tell(160, 200)
            await story.tell(200, PEOPLE)
            await eventually(lambda: is_complete(made, story), 40)
            await asyncio.sleep(1)
            assert await is_complete(made, story)
        found = [(user.user_id, user.occurrence) for user in await qualified(made)]
        assert len(found) == len(set(found))
    finally:
        await store.close()


class Held:
    """A store that takes no events until `back` is set."""

    def __init__(self, store: ChdbStore, back: asyncio.Event) -> None:
        self._store = store
        self._back = back

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def insert_events(self, *arguments: Any) -> None:
        await self._back.wait()
        await self._store.insert_events(*arguments)


async def test_a_store_that_is_away_holds_up_only_those_whose_filter_needs_it(made: Engine) -> None:
    back = asyncio.Event()
    made_by = Who(trigger=Trigger("Cart", unless=Unless("Bought"), within_seconds=1))
    filter = {"did": {"event": "Cart", "count": {"op": "eq", "value": 1}}}
    filtered = Who(trigger=made_by.trigger, filter=filter)
    await made.define(live_campaign("Cart", campaign_id="cmp_filtered", kind="live_inaction", who=filtered))
    await made.define(live_campaign("Cart", campaign_id="cmp_plain", kind="live_inaction", who=made_by))

    async def texted(*campaigns: str) -> bool:
        assert sorted(user.campaign_id for user in await qualified(made)) == list(campaigns)
        return True

    async with made.running(lambda folder, check: Held(ChdbStore(folder, check), back)):
        await made.send(track("u-1", "m-1", "Cart"))
        await eventually(lambda: texted("cmp_plain"))
        await made.send(track("u-2", "m-2", "Cart"))
        await eventually(lambda: texted("cmp_plain", "cmp_plain"))
        back.set()
        await eventually(lambda: texted("cmp_filtered", "cmp_filtered", "cmp_plain", "cmp_plain"))

"""All live kinds on real processes that are killed, joined and held up in mid-stream, against an oracle in plain
Python: repeats, reordering, late and misplaced events, and texts that went before what would have kept them back came.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from postrider.contracts.definitions import Trigger, Unless, When, Who
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS, USER_EVENTS
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse
from tests.support import live_oracle
from tests.support.engine_process import EngineProcess, engine_process
from tests.support.eventually import eventually
from tests.support.live_oracle import Answer, Seen, Texts, Told
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration

PEOPLE = 25
"""Of each campaign."""
SECONDS = 12
LATEST_DATE = 32
"""Seconds after those at which the last date can be due: three changes of up to eight, then six, and some to spare."""
SEND_BY = timedelta(seconds=60)
WITHIN = timedelta(seconds=4)
DAY = timedelta(days=1)
NOT_LEFT = {"not": {"did": {"event": "Left"}}}
TWICE = {"did": {"event": "Seen", "count": {"op": "gte", "value": 2}}}
UNLESS = Unless("Back", [{"property": "n", "op": "gte", "value": 5}])
CARTS = ("a", 7, 7.0, "7", True, 1, None)


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "unused") as made:
        yield made


async def define(made: Engine) -> None:
    seconds = int(WITHIN.total_seconds())
    when = When(send_by_seconds=int(SEND_BY.total_seconds()))
    for id, kind, trigger, filter in (
        ("act", "live_action", Trigger("Act", where=[{"property": "n", "op": "gt", "value": 5}]), None),
        ("twice", "live_action", Trigger("Twice"), TWICE),
        ("keep", "live_inaction", Trigger("Keep", unless=Unless("Kept"), within_seconds=seconds), NOT_LEFT),
        ("again", "live_inaction", Trigger(
            "Again", unless=UNLESS, within_seconds=seconds, same_property="cart", repeat="restart"), None),
        ("renews", "live_date", Trigger(date_attribute="renews", offset_seconds=-3_600), None),
        ("trip", "live_date", Trigger("Trip", date_property="leaves", offset_seconds=-86_400), NOT_LEFT),
    ):  # fmt: skip
        who = Who(trigger=trigger, filter=filter)
        await made.define(live_campaign("", campaign_id=id, kind=kind, who=who, when=when))


class Story:
    """What is sent when; user ids begin with the campaign's id."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._began = datetime.now(UTC)
        self._count = 0
        self.plan: list[tuple[datetime, dict[str, Any], bool]] = []
        """Moment, message, whether into any partition."""
        for number in range(PEOPLE):
            self._actions(f"act-{number}", f"twice-{number}")
            self._inactions(f"keep-{number}", f"again-{number}")
            self._dates(f"renews-{number}", f"trip-{number}")
        self.plan.sort(key=lambda planned: planned[0])
        self.until = max(self.plan[-1][0], self._began + timedelta(seconds=SECONDS + LATEST_DATE)) + WITHIN
        """By then all is due that is due in this story, and nothing else for a long time."""

    def _some_time(self) -> datetime:
        return self._began + timedelta(microseconds=self._chance.randrange(SECONDS * 1_000_000))

    def _late(self, at: datetime) -> tuple[datetime, datetime]:
        """When it is sent and when it happened, at this time; what is older than any deadline happened long before."""
        late = self._chance.choice([0, 0, 0, 0.2, 1, 3, 8, 90])
        return (at, at - timedelta(seconds=late)) if late == 90 else (at + timedelta(seconds=late), at)

    def _put(self, at: datetime, message: dict[str, Any]) -> None:
        is_track = message["type"] == "track"
        self.plan.append((at, message, is_track and self._chance.random() < 0.15))
        if is_track and self._chance.random() < 0.3:
            again = timedelta(seconds=self._chance.choice([0, 0.1, 2, 9]))
            self.plan.append((at + again, message, self._chance.random() < 0.3))

    def _did(self, user: str, event: str, at: datetime | None, **properties: Any) -> dict[str, Any]:
        self._count += 1
        message = track(user, f"m-{self._count}", event, **properties)
        if at is not None:
            message["timestamp"] = at.isoformat()
        if self._chance.random() < 0.05:
            message["historic"] = True
        return message

    def _actions(self, act: str, twice: str) -> None:
        at = self._some_time()
        sent, happened = self._late(at)
        self._put(sent, self._did(act, "Act", happened, n=self._chance.choice([5, 6, "6", None, 99.5])))
        for _ in range(self._chance.randrange(4)):
            self._put(at + timedelta(seconds=self._chance.choice([-5, -1, 0, 8])), self._did(twice, "Seen", at))
        self._put(at, self._did(twice, "Twice", self._chance.choice([at, None])))

    def _inactions(self, keep: str, again: str) -> None:
        if self._chance.random() < 0.3:
            self._put(self._some_time(), self._did(keep, "Left", None))
        for user, arm, act in ((keep, "Keep", "Kept"), (again, "Again", "Back")):
            base, is_late = self._some_time(), self._chance.random() < 0.3
            for _ in range(self._chance.randrange(1, 6)):
                at = base + timedelta(microseconds=self._chance.randrange(10_000_000))
                event = act if self._chance.random() < 0.45 else arm
                n, cart = self._chance.choice([4, 5, 6]), self._chance.choice(CARTS)
                sent, happened = self._late(at) if is_late else (at, at)
                self._put(sent, self._did(user, event, happened, n=n, cart=cart))

    def _dates(self, renews: str, trip: str) -> None:
        at = self._some_time()
        for number in range(self._chance.randrange(1, 4)):
            date = self._some_time() + timedelta(seconds=3_605)
            values = [date.isoformat(), date.isoformat(), (date + DAY).isoformat(), None, 5, "9999-12-31"]
            self._put(at, identify(renews, f"i-{number}", renews=self._chance.choice(values)))
            at += timedelta(seconds=self._chance.uniform(0, 8))
        if self._chance.random() < 0.3:
            self._put(self._some_time(), self._did(trip, "Left", None))
        due = at + timedelta(seconds=self._chance.choice([-300, -30, 0, 2, 6, 90_000]))
        leaves = self._chance.choice([(due + DAY).isoformat()] * 5 + ["soon", None, 7])
        sent, happened = self._late(at)
        self._put(sent, self._did(trip, "Trip", happened, leaves=leaves))

    async def tell(self, made: Engine) -> None:
        for at, message, is_anywhere in self.plan:
            await asyncio.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()))
            partition = self._chance.randrange(USER_EVENTS.partitions) if is_anywhere else None
            await made.send(message, partition=partition)


async def disturb(first: EngineProcess, second: EngineProcess, chance: random.Random) -> None:
    """Until the story is told: kills, a replica that comes and goes, one that stands still."""
    await asyncio.sleep(chance.uniform(0, 3))
    await first.start()
    await asyncio.sleep(6)
    await second.start()
    for _ in range(2):
        await asyncio.sleep(chance.uniform(1, 3))
        await first.end(signal.SIGKILL)
        await asyncio.sleep(chance.uniform(0, 2))
        await first.start()
        await asyncio.sleep(chance.uniform(2, 3))
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.5, 2))
        first.process.send_signal(signal.SIGCONT)
    await second.end(signal.SIGTERM)


async def launched_at(made: Engine, campaign: str) -> datetime:
    """When its launch was over, which looks for dates ahead in history, whatever the age of the events."""
    async with made.database.begin() as tx:
        sql = text("SELECT updated_at FROM alignments WHERE campaign_id = :campaign")
        found: datetime = (await tx.execute(sql, {"campaign": campaign})).scalar_one()
    return found


async def is_drained(made: Engine, sent: int) -> bool:
    """Everything read, nothing due."""
    log = await made.records(USER_EVENTS)
    async with made.database.begin() as tx:
        sql = "SELECT coalesce(sum(next_offset), 0) FROM consumer_progress WHERE consumer_group = 'segment-engine-live'"
        assert (await tx.execute(text(sql))).scalar_one() == len(log) >= sent
        for table in ("waits WHERE due_at <= db_now()", "forwards", "outbox"):
            assert (await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0
    return True


def answer(user: str, told: list[Told], launched: datetime, until: datetime) -> Answer:
    """What is right for one person, by the campaign that the user id names."""
    campaign = user.split("-")[0]
    left = [it.received for it in told if it.event == "Left"]
    if campaign == "act":
        ids = {it.id for it in told if it.is_fresh(SEND_BY) and _number(it.values.get("n")) > 5}
        return Answer(frozenset(ids), frozenset(ids))
    if campaign == "twice":
        (asked,) = [it for it in told if it.event == "Twice"]
        seen = [it.received for it in told if it.event == "Seen"]
        before = [received for received in seen if received <= asked.received]
        ids = {asked.id} if asked.is_fresh(SEND_BY) else set()
        return live_oracle.filtered(Answer(frozenset(ids), frozenset(ids)), len(before) >= 2, len(seen) >= 2)
    if campaign == "renews":
        values = [(it.received, it.values["renews"]) for it in told]
        return live_oracle.attribute(values, "renews", timedelta(hours=-1), SEND_BY, until)
    if campaign == "trip":
        (trip,) = [it for it in told if it.event == "Trip"]
        due = live_oracle.due_of(trip.values["leaves"], -DAY)
        if due is None or due > until or due < trip.received - SEND_BY:
            return Answer(frozenset(), frozenset())
        name = frozenset({f"{trip.id}:{live_oracle.name_of(trip.values['leaves'])}"})
        right = Answer(name, name)
        if not trip.is_fresh(SEND_BY):
            right = Answer(frozenset(), name if trip.received <= launched else frozenset())
        first = max(due, trip.received)
        return live_oracle.filtered(right, not left, all(received > first for received in left))
    found = [_inaction(key, campaign) for key in _keys(told, campaign).values()]
    both = Answer(
        frozenset[str]().union(*(it.must for it in found)), frozenset[str]().union(*(it.may for it in found))
    )  # fmt: skip
    if campaign == "again":
        return both
    first = min((max(it.at + WITHIN, it.received) for it in told if it.event == "Keep"), default=until)
    return live_oracle.filtered(both, not left, all(received > first for received in left))


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _keys(told: list[Told], campaign: str) -> dict[object, list[Told]]:
    keys: dict[object, list[Told]] = defaultdict(list)
    for it in told:
        cart = it.values.get("cart")
        if campaign == "keep":
            keys[""].append(it)
        elif cart is not None:
            keys[type(cart) if type(cart) in (str, bool) else float, cart].append(it)
    return keys


def _inaction(told: list[Told], campaign: str) -> Answer:
    arm, act = ("Keep", "Kept") if campaign == "keep" else ("Again", "Back")
    seen = [
        Seen(
            it.id, it.at, it.received, it.event == arm and it.is_fresh(SEND_BY),
            it.event == act and (campaign == "keep" or it.values["n"] >= 5),
        )
        for it in told
    ]  # fmt: skip
    return live_oracle.inaction(seen, WITHIN, campaign == "again")


@pytest.mark.parametrize("seed", [1])
async def test_who_is_texted_is_what_the_events_say(made: Engine, tmp_path: Path, seed: int) -> None:
    await define(made)
    async with ClickHouse(tmp_path / "store").serving() as store:
        changes = {
            "POSTRIDER_EVENT_STORE_PATH": "",
            "POSTRIDER_CLICKHOUSE_URL": store.url,
            "POSTRIDER_CLICKHOUSE_USER": USER,
            "POSTRIDER_CLICKHOUSE_PASSWORD": PASSWORD,
        }
        without_a_name = {**changes, "POSTRIDER_SEGMENT_ENGINE_PORT": "0"}  # leaves its groups at once
        async with engine_process(made, changes) as first, engine_process(made, without_a_name) as second:
            story = Story(seed)
            telling = asyncio.ensure_future(story.tell(made))
            await asyncio.gather(telling, disturb(first, second, random.Random(seed)))
            await asyncio.sleep(max(0.0, (story.until - datetime.now(UTC)).total_seconds()))
            await eventually(lambda: is_drained(made, len(story.plan)), 90, 0.5)
    launched = await launched_at(made, "trip")
    texts: dict[str, list[QualifiedUser]] = defaultdict(list)
    for user in await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser):
        assert user.campaign_id == user.user_id.split("-")[0]
        assert user.received_at >= user.due_at, "never before it is due"
        texts[user.user_id].append(user)
    by_user: dict[str, list[Told]] = defaultdict(list)
    for it in live_oracle.read(await made.records(USER_EVENTS)):
        by_user[it.user].append(it)
    wrong: list[tuple[str, Answer, Texts, list[Told]]] = []
    expected = 0
    for user_id, told in by_user.items():
        right = answer(user_id, told, launched, story.until)
        found = frozenset(user.occurrence for user in texts[user_id])
        expected += len(right.must)
        if not right.allows(found):
            wrong.append((user_id, right, found, told))
    assert not wrong, "\n".join(map(str, wrong))
    assert expected >= PEOPLE

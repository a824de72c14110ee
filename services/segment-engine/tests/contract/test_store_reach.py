"""Estimates by the event store: reasons, zones, countries, the sample, and what a live campaign's event did."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postrider.rules import parse_rule, parse_where
from segment_engine.domain.columns import (
    EventRow,
    ProfileRow,
    SuppressionRow,
    microseconds,
    profile_row,
    split,
)
from segment_engine.event_store.port import Activity, EvaluationContext, Reach
from segment_engine.event_store.sql_store import SqlEventStore
from tests.support.event_stores import FAR_APART, opened

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
EVERYBODY = parse_rule({"all": []})
CONTEXT = EvaluationContext(NOW, "Europe/Paris", country_zones={"IN": "Asia/Kolkata"})


@pytest_asyncio.fixture(params=FAR_APART)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlEventStore]:
    async with opened(request.param, tmp_path) as store:
        yield store


def person(user_id: str, phone: str = "", country: str = "", **known: Any) -> ProfileRow:
    return profile_row(
        user_id, 1, {}, phone=phone, phone_hash=f"h{phone}" if phone else "", phone_country=country, **known
    )


def bought(user_id: str, id: str, ago: timedelta, **properties: Any) -> EventRow:
    return EventRow(user_id, "Bought", microseconds(NOW - ago), microseconds(NOW), id, *split(properties))


async def test_who_is_not_reached_and_why_where_and_in_which_country(store: SqlEventStore) -> None:
    await store.upsert_profiles(
        [
            person("no-phone"),
            person("refused", "+911", "IN", consent=False),
            person("in", "+912", "IN"),
            person("in-too", "+912", "IN"),
            person("fr", "+331", "FR", time_zone="Asia/Tokyo"),
            person("stopped", "+332", "FR"),
        ]
    )
    await store.upsert_suppressions([SuppressionRow("h+332", True, 1)])
    found = await store.estimate(EVERYBODY, CONTEXT)
    assert found.reasons == {
        ("unreachable", "no_valid_phone"): 1,
        ("unreachable", "no_consent"): 1,
        ("suppressed", ""): 1,
        ("duplicate_phone", ""): 1,
    }
    assert found.by_zone == {"Asia/Kolkata": Reach(3, 1), "Asia/Tokyo": Reach(1, 1), "Europe/Paris": Reach(2, 0)}
    assert found.by_country == {"": Reach(1, 0), "IN": Reach(3, 1), "FR": Reach(2, 1)}
    assert (found.qualified, found.reachable) == (6, 2)
    each = await store.estimate(EVERYBODY, CONTEXT, once_per_phone=False)
    assert (each.reachable, each.duplicate_phone) == (3, 0)


async def test_one_seed_draws_the_same_reachable_people(store: SqlEventStore) -> None:
    zones = ("Asia/Tokyo", "Asia/Seoul", "")
    await store.upsert_profiles([person(f"u{n}", f"+{n}" if n % 2 else "", time_zone=zones[n % 3]) for n in range(400)])
    drawn = [(await store.estimate(EVERYBODY, CONTEXT, sample_size=50, seed=seed)).sample for seed in ("a", "a", "b")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 50
    assert all(int(user_id[1:]) % 2 for user_id in drawn[0])
    everybody = await store.estimate(EVERYBODY, CONTEXT, sample_size=1_000, seed="a")
    assert len(everybody.sample) == 200
    assert everybody.sample[:50] == drawn[0]
    assert (await store.estimate(EVERYBODY, CONTEXT)).sample == ()


async def test_an_event_is_counted_with_its_filters_and_inside_its_days(store: SqlEventStore) -> None:
    day = timedelta(days=1)
    await store.insert_events(
        [
            bought("a", "1", day, amount=60, what="shoes"),
            bought("a", "2", day * 2, amount=70, what="socks", tags=["x", 1, True]),
            bought("a", "3", day / 2, amount=5, what="gum"),
            bought("b", "4", day * 3, amount=90),
            bought("c", "5", day * 40, amount=90),
        ],
        "t",
    )
    where = parse_where([{"property": "amount", "op": "gt", "value": 50}])
    since = NOW - day * 30
    assert await store.activity("Bought", where, since, CONTEXT) == Activity(3, 2)
    assert await store.activity("Bought", (), since, CONTEXT) == Activity(4, 2)
    assert await store.activity("'; DROP TABLE events", (), since, CONTEXT) == Activity(0, 0)
    values = await store.latest_values("Bought", where, since, CONTEXT, ["a", "b", "c", "nobody"])
    assert values == {"a": {"amount": 60.0, "what": "shoes"}, "b": {"amount": 90.0}}
    tagged = parse_where([{"property": "what", "op": "eq", "value": "socks"}])
    values = await store.latest_values("Bought", tagged, since, CONTEXT, ["a"])
    assert (repr(values["a"]["amount"]), repr(values["a"]["tags"])) == ("70", "['x', 1, True]")  # as a text prints them
    assert await store.latest_values("Bought", where, since, CONTEXT, []) == {}


async def test_counts_are_those_of_a_plain_program_over_random_people(store: SqlEventStore) -> None:
    chance = random.Random(20261125)
    countries = {"IN": "Asia/Kolkata", "FR": "Europe/Paris", "US": None, "": None}
    for turn in range(6):
        people = [_random_person(chance, turn, n, sorted(countries)) for n in range(300)]
        stopped = {f"h+{turn}{n}" for n in range(40) if chance.random() < 0.3}
        await store.upsert_profiles(people)
        await store.upsert_suppressions([SuppressionRow(hash, True, 1) for hash in sorted(stopped)])
        rule = parse_rule({"attribute": {"name": "turn", "op": "eq", "value": turn}})
        for require, once in ((False, True), (True, True), (False, False)):
            context = replace(
                CONTEXT, require_consent=require, country_zones={"IN": "Asia/Kolkata", "FR": "Europe/Paris"}
            )
            found = await store.estimate(rule, context, once_per_phone=once, sample_size=20, seed="s")
            verdicts = _plainly(people, stopped, require=require, once=once)
            reached = {id for id, verdict in verdicts.items() if verdict == ("", "")}
            assert found.qualified == len(people)
            assert found.reachable == len(reached)
            assert found.reasons == Counter(verdict for verdict in verdicts.values() if verdict[0])
            assert found.qualified == found.reachable + sum(found.reasons.values())
            assert found.by_zone == _tally(
                (row.time_zone or countries[row.phone_country] or "Europe/Paris", row.user_id in reached)
                for row in people
            )
            assert found.by_country == _tally((row.phone_country, row.user_id in reached) for row in people)
            assert set(found.sample) <= reached
            assert len(found.sample) == min(20, len(reached))


def _random_person(chance: random.Random, turn: int, n: int, countries: list[str]) -> ProfileRow:
    phone = f"+{turn}{chance.randrange(200)}" if chance.random() < 0.8 else ""
    return profile_row(
        f"{turn}-{chance.randrange(10**9)}-{n}",
        1,
        {"turn": turn},
        phone=phone,
        phone_hash=f"h{phone}" if phone else "",
        phone_country=chance.choice(countries),
        time_zone=chance.choice(["", "Asia/Tokyo", "America/New_York"]),
        consent=chance.choice([None, None, True, False]),
    )


def _plainly(people: list[ProfileRow], stopped: set[str], *, require: bool, once: bool) -> dict[str, tuple[str, str]]:
    """user_id → verdict and reason; ("", "") is reachable."""
    verdicts: dict[str, tuple[str, str]] = {}
    had: set[str] = set()
    for row in sorted(people, key=lambda row: row.user_id.encode()):
        if not row.phone_valid:
            verdicts[row.user_id] = ("unreachable", "no_valid_phone")
        elif not (row.consent if row.consent is not None else not require):
            verdicts[row.user_id] = ("unreachable", "no_consent")
        elif row.phone_hash in stopped:
            verdicts[row.user_id] = ("suppressed", "")
        elif once and row.phone_hash in had:
            verdicts[row.user_id] = ("duplicate_phone", "")
        else:
            had.add(row.phone_hash)
            verdicts[row.user_id] = ("", "")
    return verdicts


def _tally(people: Iterable[tuple[str, bool]]) -> dict[str, Reach]:
    found: dict[str, Reach] = {}
    for name, reached in people:
        before = found.get(name, Reach(0, 0))
        found[name] = Reach(before.qualified + 1, before.reachable + reached)
    return found

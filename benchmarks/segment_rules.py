"""The rules of `benchmarks.segments`, each as a rule, by hand for the event store, and by hand for Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MOMENT = int(NOW.timestamp())
PEOPLE = "SELECT user_id FROM profiles FINAL WHERE NOT deleted AND "
_PG = "SELECT user_id FROM profiles p WHERE "
_EVENTS = "SELECT user_id FROM events WHERE event = "
_AMOUNT = "(properties->>'amount')::float8"


@dataclass(frozen=True)
class Case:
    """`by_hand` selects user_ids from the store's events and profiles, `in_postgres` from the same in Postgres."""

    name: str
    rule: dict[str, Any]
    by_hand: str
    in_postgres: str


def did(event: str, **more: Any) -> dict[str, Any]:
    return {"did": {"event": event, **more}}


def last(days: int) -> dict[str, str]:
    return {"last": f"P{days}D"}


def since(days: int, at: str = "at") -> str:
    return f"{at} >= {MOMENT - days * 86400}000000 AND {at} <= {MOMENT}000000"


def pg_since(days: int, at: str = "at") -> str:
    now = f"timestamptz '{NOW.isoformat()}'"
    return f"{at} >= {now} - interval '{days} days' AND {at} <= {now}"


def pg_not(event: str, days: int) -> str:
    return f"NOT EXISTS (SELECT FROM events e WHERE e.user_id = p.user_id AND event = '{event}' AND {pg_since(days)})"


OVER_50 = [{"property": "amount", "op": "gt", "value": 50}]
LIVES = {"attribute": {"name": "city", "op": "in", "value": ["City 3", "City 7", "City 11"]}}
_CITIES = "('City 3', 'City 7', 'City 11')"
_FIVE = ", ".join(f"'Event {number}'" for number in range(10, 15))
HEAVY = Case(
    "heavy: twice, not, attribute",
    {
        "all": [
            did("Event 1", where=OVER_50, count={"op": "gte", "value": 2}, window=last(300)),
            {"not": did("Event 2", window=last(90))},
            LIVES,
        ]
    },
    f"{PEOPLE} strs['city'] IN {_CITIES} AND user_id IN ({_EVENTS} 'Event 1' AND {since(300)} AND nums['amount'] > 50 "
    f"GROUP BY user_id HAVING count() >= 2) AND user_id NOT IN ({_EVENTS} 'Event 2' AND {since(90)})",
    f"{_PG} traits->>'city' IN {_CITIES} AND user_id IN ({_EVENTS} 'Event 1' AND {pg_since(300)} AND {_AMOUNT} > 50 "
    f"GROUP BY user_id HAVING count(*) >= 2) AND {pg_not('Event 2', 90)}",
)
SMALL = Case("once, not, attribute", {"all": [did("Event 1", where=OVER_50), {"not": did("Event 2")}, LIVES]}, "", "")
"""For the small store alone."""

CASES = (
    Case(
        "did an event, ever",
        did("Event 7"),
        f"{PEOPLE} user_id IN ({_EVENTS} 'Event 7')",
        f"{_PG} user_id IN ({_EVENTS} 'Event 7')",
    ),
    Case(
        "attribute in a list",
        LIVES,
        f"{PEOPLE} strs['city'] IN {_CITIES}",
        f"{_PG} traits->>'city' IN {_CITIES}",
    ),
    Case(
        "did, property, last 30 days",
        did("Event 3", where=OVER_50, window=last(30)),
        f"{PEOPLE} user_id IN ({_EVENTS} 'Event 3' AND {since(30)} AND nums['amount'] > 50)",
        f"{_PG} user_id IN ({_EVENTS} 'Event 3' AND {pg_since(30)} AND {_AMOUNT} > 50)",
    ),
    Case(
        "did not, last 60 days",
        {"not": did("Event 5", window=last(60))},
        f"{PEOPLE} user_id NOT IN ({_EVENTS} 'Event 5' AND {since(60)})",
        f"{_PG} {pg_not('Event 5', 60)}",
    ),
    HEAVY,
    Case(
        "heavy: sum of a property",
        did("Event 0", window=last(365), aggregate={"property": "amount", "fn": "sum", "op": "gt", "value": 300}),
        f"{PEOPLE} user_id IN ({_EVENTS} 'Event 0' AND {since(365)} GROUP BY user_id HAVING sum(nums['amount']) > 300)",
        f"{_PG} user_id IN ({_EVENTS} 'Event 0' AND {pg_since(365)} GROUP BY user_id HAVING sum({_AMOUNT}) > 300)",
    ),
    Case(
        "heavy: one of five events, twice",
        {"any": [did(f"Event {number}", count={"op": "gte", "value": 2}) for number in range(10, 15)]},
        f"{PEOPLE} user_id IN (SELECT user_id FROM events WHERE event IN ({_FIVE}) GROUP BY user_id, event "
        "HAVING count() >= 2)",
        f"{_PG} user_id IN (SELECT user_id FROM events WHERE event IN ({_FIVE}) GROUP BY user_id, event "
        "HAVING count(*) >= 2)",
    ),
    Case(
        "heavy: first time within 90 days",
        did("Event 4", first_time=True, window=last(90)),
        f"{PEOPLE} user_id IN ({_EVENTS} 'Event 4' GROUP BY user_id HAVING {since(90, 'min(at)')})",
        f"{_PG} user_id IN ({_EVENTS} 'Event 4' GROUP BY user_id HAVING {pg_since(90, 'min(at)')})",
    ),
    Case(
        "heavy: evenings of weekends",
        did("Event 6", time_of_day=["18:00", "22:00"], days_of_week=["sat", "sun"]),
        f"{PEOPLE} user_id IN ({_EVENTS} 'Event 6' AND toHour(at_time) BETWEEN 18 AND 21 "
        "AND toDayOfWeek(at_time) >= 6)",
        f"{_PG} user_id IN ({_EVENTS} 'Event 6' AND extract(hour FROM at AT TIME ZONE 'UTC') BETWEEN 18 AND 21 "
        "AND extract(isodow FROM at AT TIME ZONE 'UTC') >= 6)",
    ),
)

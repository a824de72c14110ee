"""When a date's timer is due, for whom, and for which occurrence."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postrider.zones import load_zone
from segment_engine.domain import date_timers
from segment_engine.domain.columns import microseconds
from segment_engine.domain.date_timers import State, Terms
from segment_engine.domain.waits import Carried

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CARRIED = Carried(2, {"to": "Goa"})


def terms(**changes: Any) -> Terms:
    given: dict[str, Any] = {
        "offset": timedelta(0), "at_local_time": None, "yearly": False, "send_by": timedelta(minutes=15),
        "zone": "America/New_York", "account_zone": "Asia/Kolkata",
    }  # fmt: skip
    return Terms(**{**given, **changes})


def due(text: str, now: datetime = NOW, **changes: Any) -> str | None:
    planned = date_timers.plan(State("k", text), microseconds(now), terms(**changes))
    return None if planned is None else planned.due.isoformat().removesuffix("+00:00")


NINE = {"at_local_time": time(9)}
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        # a moment, a local time of the account's zone, a day of it
        ("2026-03-05T10:00:00Z", {}, "2026-03-05T10:00:00"),
        ("2026-03-05T10:00:00+02:00", {"offset": -DAY}, "2026-03-04T08:00:00"),
        ("2026-03-05T10:00", {}, "2026-03-05T04:30:00"),
        ("2026-03-05", {"offset": timedelta(hours=1)}, "2026-03-04T19:30:00"),
        # at a time of the recipient's day
        ("2026-03-05", NINE, "2026-03-05T14:00:00"),
        ("2026-03-05", {**NINE, "offset": -DAY}, "2026-03-04T14:00:00"),
        ("2026-03-05T02:00:00Z", NINE, "2026-03-04T14:00:00"),
        ("2026-03-05T02:00:00Z", {**NINE, "zone": "Asia/Tokyo"}, "2026-03-05T00:00:00"),
        ("2026-03-05T02:00:00Z", {**NINE, "offset": timedelta(hours=3)}, "2026-03-05T14:00:00"),
        # clocks that jump: 02:30 does not exist on 8 March in New York, happens twice on 1 November
        ("2026-03-08", {"at_local_time": time(2, 30)}, "2026-03-08T07:30:00"),
        ("2026-11-01", {"at_local_time": time(1, 30)}, "2026-11-01T05:30:00"),
        # past by more than the deadline allows, or by less
        ("2026-03-01T11:44:59Z", {}, None),
        ("2026-03-01T11:45:00Z", {}, "2026-03-01T11:45:00"),
        # every year
        ("1990-03-05", {**NINE, "yearly": True}, "2026-03-05T14:00:00"),
        ("1990-02-20", {**NINE, "yearly": True}, "2027-02-20T14:00:00"),
        ("1992-02-29", {**NINE, "yearly": True}, "2027-02-28T14:00:00"),
        ("2040-06-01", {**NINE, "yearly": True}, None),
        ("2030-06-01", {**NINE, "yearly": True}, "2030-06-01T13:00:00"),
        ("1990-03-05T10:00:00Z", {"yearly": True, "offset": -DAY}, "2026-03-04T10:00:00"),
        ("1990-12-31", {**NINE, "yearly": True, "offset": 365 * DAY}, "2026-12-31T14:00:00"),
        # nothing to go by
        ("0001-01-01", {**NINE, "yearly": True}, None),
        ("9999-12-31T23:59:59Z", {"offset": 365 * DAY}, None),
        ("9999-12-31", NINE, None),
        ("soon", {}, None),
    ],
)
def test_when_it_is_due(text: str, changes: dict[str, Any], expected: str | None) -> None:
    assert due(text, **changes) == expected


def test_a_local_day_that_does_not_exist_is_skipped() -> None:
    """Samoa had no 30 December 2011."""
    now = datetime(2011, 12, 1, tzinfo=UTC)
    assert due("2011-12-30", now, at_local_time=time(9), zone="Pacific/Apia") is None
    assert due("2011-12-31", now, at_local_time=time(9), zone="Pacific/Apia") == "2011-12-30T19:00:00"
    assert due("2010-12-30", now, at_local_time=time(9), zone="Pacific/Apia", yearly=True) == "2012-12-29T19:00:00"


ZONES = st.sampled_from(["UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Pacific/Kiritimati"])


@given(
    st.dates(date(1930, 1, 1), date(2030, 1, 1)),
    ZONES,
    st.integers(-365, 365),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.integers(0, 366 * 3),
)
def test_a_yearly_day_is_the_next_anniversary(born: date, zone: str, days: int, clock: time, later: int) -> None:
    """Against a walk over all the days of the coming years."""
    now = NOW + timedelta(days=later)
    wanted = terms(zone=zone, yearly=True, at_local_time=clock, offset=timedelta(days=days))
    planned = date_timers.plan(State("k", born.isoformat()), microseconds(now), wanted)
    assert planned is not None
    earliest = now - timedelta(minutes=15)
    found = None
    for year in range(max(born.year, now.year - 3), now.year + 12):
        try:
            anniversary = born.replace(year=year)
        except ValueError:
            anniversary = date(year, 2, 28)
        local = datetime.combine(anniversary + timedelta(days=days), clock)
        at = local.replace(tzinfo=load_zone(zone), fold=0).astimezone(UTC)
        if at >= earliest:
            found = (at, anniversary.isoformat())
            break
    assert (planned.due, planned.day) == found


def test_a_yearly_timer_goes_on_with_the_next_year_and_never_twice_for_one() -> None:
    wanted = terms(yearly=True, **NINE)
    kept = date_timers.armed("birthday", "1990-03-01", CARRIED, microseconds(NOW), wanted)
    assert kept is not None
    assert kept.due == microseconds(datetime(2026, 3, 1, 14, tzinfo=UTC))
    assert date_timers.fire(kept.state, kept.due - 1, wanted).occurrences == []
    fired = date_timers.fire(kept.state, kept.due, wanted)
    assert [(o.name, o.due, o.carried) for o in fired.occurrences] == [("birthday:2026-03-01", kept.due, CARRIED)]
    assert fired.kept is not None
    assert fired.kept.due == microseconds(datetime(2027, 3, 1, 14, tzinfo=UTC))
    again = date_timers.moved(fired.kept.state, "1990-03-01", kept.due + 1, wanted)
    assert again == fired.kept
    corrected = date_timers.moved(fired.kept.state, "1990-03-02", kept.due + 1, wanted)
    assert corrected is not None
    assert corrected.due == microseconds(datetime(2026, 3, 2, 14, tzinfo=UTC))


def test_a_date_fires_once_and_its_name_knows_no_spelling() -> None:
    names = set()
    for text in ("2026-03-05T10:00:00Z", "2026-03-05T12:00:00+02:00", "2026-03-05T10:00Z"):
        kept = date_timers.armed("m-1", text, CARRIED, microseconds(NOW), terms())
        assert kept is not None
        assert kept.due is not None
        fired = date_timers.fire(kept.state, kept.due, terms())
        assert fired.kept is not None
        assert (fired.kept.due, fired.kept.keep_until) == (
            None,
            kept.due + terms().send_by // timedelta(microseconds=1),
        )
        assert date_timers.moved(fired.kept.state, text, kept.due + 1, terms()) == fired.kept
        assert date_timers.moved(fired.kept.state, "2026-03-06", kept.due + 1, terms()) is not None
        names |= {occurrence.name for occurrence in fired.occurrences}
    assert names == {"m-1:2026-03-05T10:00:00Z"}


@pytest.mark.parametrize("value", [None, 20260305, True, ["2026-03-05"], "5 March", "", "2026-02-30", {}])
def test_what_is_no_date_arms_nothing_and_disarms(value: object) -> None:
    assert date_timers.armed("k", value, CARRIED, microseconds(NOW), terms()) is None
    kept = date_timers.armed("k", "2026-03-05", CARRIED, microseconds(NOW), terms())
    assert kept is not None
    assert date_timers.moved(kept.state, value, microseconds(NOW), terms()) is None


def test_a_move_of_the_person_moves_the_timer() -> None:
    kept = date_timers.armed("k", "2026-03-05", CARRIED, microseconds(NOW), terms(**NINE))
    assert kept is not None
    moved = date_timers.replanned(kept.state, microseconds(NOW), terms(zone="Asia/Tokyo", **NINE))
    assert moved is not None
    assert moved.due == microseconds(datetime(2026, 3, 5, tzinfo=UTC))


@pytest.mark.parametrize("yearly", [True, False])
def test_an_armed_occurrence_fires_however_late(yearly: bool) -> None:
    """The scheduler tells who is too late: nobody is forgotten without a record."""
    wanted = terms(yearly=yearly, **NINE)
    kept = date_timers.armed("k", "2026-03-05", CARRIED, microseconds(NOW), wanted)
    assert kept is not None
    late = microseconds(NOW + timedelta(days=40))
    for state in (kept.state, (date_timers.replanned(kept.state, late, wanted) or kept).state):
        fired = date_timers.fire(state, late, wanted)
        assert [(o.name, o.due) for o in fired.occurrences] == [("k:2026-03-05", kept.due)]
        assert fired.kept is not None
        assert (fired.kept.due is not None) is yearly
    again = date_timers.moved(kept.state, "2026-03-05", late, wanted)
    assert again is not None
    assert again.due == late

"""A `when` from anybody: what it cannot mean is refused with the field and a reason, whatever it is made of."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from campaign_api.api.models.account import FrequencyCap
from campaign_api.api.models.campaigns import CampaignIn
from campaign_api.domain.campaign_changes import judged_times, times_of, timing_of
from campaign_api.domain.occurrences import occurrences_of
from campaign_api.domain.resource import Resource
from campaign_api.domain.when_checks import check_when

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ZONE = "Europe/Berlin"
SETTINGS = {"account_time_zone": ZONE}
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MODEL: TypeAdapter[Any] = TypeAdapter(CampaignIn)


def body_of(kind: str, when: Any) -> dict[str, Any]:
    who: dict[str, Any] = {"trigger": {"event": "E"}} if kind == "live_action" else {"rule": {"all": []}}
    return {"name": "n", "kind": kind, "when": when, "who": who, "what": {"body": "x"}}


def problems(kind: str, when: Any) -> dict[str, str]:
    """Pointer → reason, from the model or, when that takes it, from the checks."""
    try:
        content = MODEL.validate_json(json.dumps(body_of(kind, when))).content()
    except ValidationError as error:
        return {"/" + "/".join(str(part) for part in each["loc"][1:]): each["msg"] for each in error.errors()}
    return {problem.pointer: problem.message for problem in check_when(content, ZONE, NOW, dates=True)}


def recurring(**more: Any) -> dict[str, str]:
    return problems("recurring", {"recurrence": "FREQ=DAILY", "times": ["09:00"], **more})


def one_time(**more: Any) -> dict[str, str]:
    return problems("one_time", {"at": "2026-12-01T09:00:00", **more})


def quiet(days: Any, start: Any, end: Any, **more: Any) -> dict[str, str]:
    return one_time(quiet_hours={"windows": [{"days": days, "from": start, "to": end}], **more})


def test_the_example_of_the_page_is_taken() -> None:
    page = Path(__file__).parents[4] / "docs" / "scheduling.md"
    examples = re.findall(r'`(\{"recurrence".*\})`', page.read_text(encoding="utf-8"))
    assert examples
    for example in examples:
        assert recurring(**json.loads(example)) == {}


def test_a_day_as_a_bound_is_the_whole_day() -> None:
    assert recurring(start="2026-11-25", end="2026-11-26") == {}
    assert recurring(end="2026-11-25", times=["13:01"]) == {}
    assert problems("live_action", {"start": "2026-11-25", "end": "2026-11-25"}) == {}
    bounds = timing_of(
        body_of("live_action", {"start": "2026-11-25", "end": "2026-11-25"}), {"account_time_zone": ZONE}
    )
    assert bounds["bounds"] == {"start": "2026-11-24T23:00:00+00:00", "end": "2026-11-25T22:59:59.999999+00:00"}


@pytest.mark.parametrize(
    ("found", "pointer", "reason"),
    [
        (recurring(end="2026-11-24"), "/when/end", "is past in the account's time zone, Europe/Berlin"),
        (recurring(end="2026-11-24", time_zone="user"), "/when/end", "is past in every time zone on Earth"),
        (recurring(start="2027-01-02", end="2027-01-01"), "/when/end", "is before the start"),
        (recurring(start="2026-12-01T09:00:00Z"), "/when/start", "must be a local time without offset"),
        (recurring(start="2201-01-01"), "/when/start", "has a year that is not from 1900 to 2200"),
        (recurring(recurrence="FREQ=DAILY\nDTSTART:20260101T000000"), "/when/recurrence", "FREQ must be"),
        (recurring(recurrence="FREQ=DAILY;EXDATE=20261201"), "/when/recurrence", "'EXDATE' is no part"),
        (recurring(recurrence="FREQ=SECONDLY"), "/when/recurrence", "FREQ must be"),
        (recurring(recurrence="FREQ=DAILY;INTERVAL=٣"), "/when/recurrence", "INTERVAL must be"),
        (recurring(recurrence="FREQ=DAILY;COUNT=10001"), "/when/recurrence", "COUNT can be 10000 at most"),
        (recurring(recurrence="FREQ=DAILY;INTERVAL=999999999"), "/when/recurrence", "has no occurrence ahead"),
        (recurring(recurrence="FREQ=MONTHLY;BYDAY=MO;BYSETPOS=200"), "/when/recurrence", "never happens"),
        (recurring(times=["24:00"]), "/when/times/0", "must be a time of a 24-hour clock"),
        (recurring(times=["09:00\n"]), "/when/times/0", "must be a time of a 24-hour clock"),
        (recurring(times=["٠٩:٠٠"]), "/when/times/0", "must be a time of a 24-hour clock"),
        (recurring(times=[]), "/when/times", "at least 1"),
        (recurring(at="2026-12-01T09:00:00"), "/when/at", "not permitted"),
        (one_time(at="2201-01-01T00:00:00"), "/when/at", "has a year that is not from 1900 to 2200"),
        (one_time(at="2026-12-01T24:00:00"), "/when/at", "no such date or time"),
        (one_time(at="2026-12-01T09:00:00+01:00"), "/when/at", 'must be "now" or a local time without offset'),
        (one_time(at=None), "/when/at", "valid string"),
        (one_time(recurrence="FREQ=DAILY"), "/when/recurrence", "not permitted"),
        (one_time(time_zone="europe/berlin"), "/when/time_zone", "an IANA zone"),
        (one_time(time_zone="../../etc/passwd"), "/when/time_zone", "an IANA zone"),
        (one_time(time_zone="+01:00"), "/when/time_zone", "an IANA zone"),
        (one_time(throttle_per_minute=True), "/when/throttle_per_minute", "valid integer"),
        (one_time(catch_up="P8D"), "/when/catch_up", "at most 7 days"),
        (one_time(send_by="PT0.5H"), "/when/send_by", "fractions are not allowed"),
        (problems("multiple_dates", {"at": ["now"]}), "/when/at/0", "must be a local time without offset"),
        (problems("multiple_dates", {"at": ["2027-01-01T00:00:00"] * 10_000}), "/when/at", "at most 366"),
        (problems("live_action", {"at": "2026-12-01T09:00:00"}), "/when/at", "not permitted"),
        (problems("live_action", {"catch_up": "PT1H"}), "/when/catch_up", "null"),
        (problems("live_action", None), "/when", "object"),
        (quiet(["Mon"], "21:00", "09:00"), "/when/quiet_hours/windows/0/days/0", "'mon'"),
        (quiet([], "21:00", "09:00"), "/when/quiet_hours/windows/0/days", "at least 1"),
        (quiet(["mon"], "21:00", "24:00"), "/when/quiet_hours/windows/0/to", "must be a time of a 24-hour clock"),
        (quiet(WEEK, "21:00", "21:00"), "/when/quiet_hours/windows", "leave no minute of the week"),
        (quiet(["mon"], "21:00", "09:00", on_hit="drop"), "/when/quiet_hours/on_hit", "'discard' or 'delay'"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_with_its_field(found: dict[str, str], pointer: str, reason: str) -> None:
    assert list(found) == [pointer]
    assert reason in found[pointer]


def test_odd_and_meaningful_is_taken() -> None:
    assert quiet(["mon", "mon"], "21:00", "21:00") == {}
    assert one_time(quiet_hours={"windows": []}) == {}
    for alias in ("US/Pacific", "Asia/Calcutta", "EST", "Etc/GMT+12"):
        assert one_time(time_zone=alias) == {}
    assert recurring(recurrence="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;COUNT=10000", start="1900-01-01") == {}


PARTS = [
    "FREQ=DAILY",
    "FREQ=WEEKLY",
    "FREQ=MONTHLY",
    "FREQ=YEARLY",
    "INTERVAL=7",
    "INTERVAL=99",
    "COUNT=3",
    "COUNT=0",
    "UNTIL=20270101",
    "UNTIL=20270101T000000Z",
    "UNTIL=20270230",
    "WKST=SU",
    "WKST=XX",
    "BYDAY=MO",
    "BYDAY=5MO",
    "BYDAY=-53SU",
    "BYDAY=",
    "BYMONTHDAY=31",
    "BYMONTHDAY=0",
    "BYMONTHDAY=-31",
    "BYMONTH=2",
    "BYMONTH=13",
    "BYSETPOS=-1",
    "BYSETPOS=366",
    "BYYEARDAY=366",
    "BYWEEKNO=53",
    "BYHOUR=1",
    "X=1",
    "=",
    ";",
]
BOUNDS = [None, "2026-11-25", "2026-11-25T23:59:59", "1900-01-01", "2200-12-31T23:59:00", "0000-00-00", "x", 5]
FIELDS = {
    "times": st.lists(st.sampled_from(["00:00", "09:00", "23:59", "9:00"]), max_size=3),
    "start": st.sampled_from(BOUNDS),
    "end": st.sampled_from(BOUNDS),
    "time_zone": st.sampled_from(["account", "user", "best_time", "Pacific/Apia", "Mars"]),
    "short_month": st.sampled_from(["skip", "last_day"]),
}
ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**20), st.text(max_size=5), st.just([]), st.just({}))
ODD = st.dictionaries(
    st.sampled_from([*FIELDS, "send_by", "catch_up", "quiet_hours", "passed_zone"]), ANYTHING, max_size=1
)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.sampled_from(PARTS), max_size=7),
    fields=st.fixed_dictionaries({}, optional=FIELDS),
    odd=ODD,
)
def test_every_answer_is_a_field_and_a_reason(parts: list[str], fields: dict[str, Any], odd: dict[str, Any]) -> None:
    for pointer, reason in recurring(recurrence=";".join(parts), **{**fields, **odd}).items():
        assert pointer.startswith("/when/")
        assert reason


def test_an_edit_keeps_dates_that_were_judged() -> None:
    """A campaign that has sent its first date can be given a third."""
    before = body_of("multiple_dates", {"at": ["2026-11-20T09:00:00", "2026-12-01T09:00:00"], "time_zone": "account"})
    after = body_of("multiple_dates", {"at": [*before["when"]["at"], "2026-12-05T09:00:00"], "time_zone": "account"})
    judged = judged_times(before, after)
    assert times_of(before) != times_of(after)
    assert check_when(after, ZONE, NOW, dates=True, judged=judged) == []
    (past,) = check_when(after, ZONE, NOW, dates=True)
    assert past.pointer == "/when/at/0"
    elsewhere = body_of("multiple_dates", {**after["when"], "time_zone": "user"})
    assert judged_times(before, elsewhere) == frozenset()


def test_a_campaign_that_has_ended_has_no_next_occurrences() -> None:
    body = body_of(
        "recurring", {"recurrence": "FREQ=DAILY", "times": ["09:00"], "short_month": "skip", "time_zone": "user"}
    )
    internal = {"scheduled_at": NOW.isoformat(), "send_by_seconds": 900}
    shown = {
        status: len(
            occurrences_of(Resource("c", "campaign", 1, status, body, internal, NOW, NOW), SETTINGS, None, 20, NOW)[
                "items"
            ]
        )
        for status in ("scheduled", "paused", "stopped", "completed")
    }
    assert shown == {"scheduled": 20, "paused": 20, "stopped": 0, "completed": 0}


def test_a_cap_is_in_whole_days() -> None:
    with pytest.raises(ValidationError, match="must be whole days or weeks"):
        FrequencyCap.model_validate({"count": 1, "per": "PT36H"})


def test_an_edit_of_what_is_no_time_moves_nothing() -> None:
    before = body_of("one_time", {"at": "2026-12-01T09:00:00", "time_zone": "user", "send_by": "PT1H"})
    assert times_of(before) == times_of({**before, "when": {**before["when"], "send_by": "PT2H"}})

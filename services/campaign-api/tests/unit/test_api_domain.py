"""States, funnel, keys, changes, CSV: the pure decisions of campaign-api."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_api.domain.campaign_changes import check_change, send_by_of, with_what
from campaign_api.domain.campaign_checks import Surroundings, check_campaign, names_of, rules_of
from campaign_api.domain.campaign_states import (
    TERMINAL,
    TRANSITIONS,
    Event,
    Progress,
    Status,
    apply,
    follow,
    release,
)
from campaign_api.domain.csv_rows import rows
from campaign_api.domain.errors import Conflict, Invalid
from campaign_api.domain.funnel import Cell, deltas, report
from campaign_api.domain.keys import Caller, StoredKey, all_scopes, is_valid, new_key, split_key
from campaign_api.domain.resource import Resource
from campaign_api.domain.snapshots import snapshot_of
from postrider.contracts.definitions import CampaignDefinition, Trigger, Unless
from postrider.contracts.delivery_events import STATUSES, FunnelMoved
from postrider.contracts.what_fields import what_fields

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
AROUND = Surroundings(
    account_time_zone="America/New_York",
    segments={
        "seg_1": {"all": []},
        "seg_gap": {"in_segment": "seg_9"},
        "seg_loop": {"not": {"in_segment": "seg_loop"}},
        "seg_wide": {"any": [{"attribute": {"name": str(n), "op": "exists"}} for n in range(200)]},
    },
    campaigns=frozenset({"cmp_1"}),
    user_lists={"lst_1": "ready", "lst_2": "loading"},
    providers={"prv_1": "active", "prv_2": "archived"},
    groups={"grp_1": ("prv_2", "prv_1"), "grp_2": ("prv_2",)},
    default_group_id="grp_1",
    takes=dict.fromkeys(("prv_1", "prv_2"), what_fields("sandbox", {})),
)


ALWAYS = [
    {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "21:00", "to": "09:00"},
    {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "08:30", "to": "21:00"},
]


def recurring(**more: Any) -> dict[str, Any]:
    when = {"recurrence": "FREQ=DAILY", "times": ["09:00"], "short_month": "skip", "time_zone": "account"}
    return campaign(kind="recurring", when=when | more)


def campaign(**more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "kind": "one_time",
        "name": "n",
        "when": {"at": "2026-12-02T09:00:00", "time_zone": "account"},
        "who": {"rule": {"all": []}},
        "what": {"body": "Hi"},
    }
    return body | more


def live(**more: Any) -> dict[str, Any]:
    return campaign(**{"kind": "live_action", "when": {}, "who": {"trigger": {"event": "E", "where": []}}} | more)


def inaction(**trigger: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "event": "E",
        "where": [],
        "unless": {"event": "F", "where": []},
        "within": "PT5M",
        "repeat": "keep",
    }
    return live(kind="live_inaction", who={"trigger": {**given, "same_property": None, **trigger}})


def on_date(**trigger: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "event": None,
        "where": [],
        "date_property": None,
        "date_attribute": None,
        "offset": "PT0S",
    }
    return live(kind="live_date", who={"trigger": {**given, "at_local_time": None, "yearly": False, **trigger}})


def wrong(body: dict[str, Any], **more: Any) -> dict[str, str]:
    return {problem.pointer: problem.message for problem in check_campaign(body, AROUND, NOW, **more)}


def test_a_rule_may_name_whatever_there_is() -> None:
    names = [
        {"in_segment": "seg_1"},
        {"in_segment": "seg_wide"},
        {"user_list": "lst_1"},
        {"messaged": {"campaign_id": "cmp_1", "status": "converted"}},
    ]
    assert wrong(campaign(who={"rule": {"any": names}})) == {}
    assert wrong(live(who={"trigger": {"event": "E", "where": []}, "filter": {"not": {"any": names}}})) == {}


def test_a_campaign_names_what_its_rules_name_and_its_segment() -> None:
    who = {"rule": {"any": [{"user_list": "lst_1"}, {"in_segment": "seg_1"}]}, "filter": {"not": {"in_segment": "s2"}}}
    assert names_of(rules_of(who)) == ["lst_1", "s2", "seg_1"]
    assert names_of(rules_of({"segment_id": "seg_1", "rule": None})) == ["seg_1"]
    assert names_of([{"in_segment": 5}, None, {"any": []}]) == []


def test_every_move_that_is_not_in_the_table_is_refused() -> None:
    for status in Status:
        for event in Event:
            if (status, event) in TRANSITIONS:
                assert apply(status, event) is TRANSITIONS[status, event]
            else:
                with pytest.raises(Conflict):
                    apply(status, event)
    assert not any(status in TERMINAL for status, _ in TRANSITIONS)


def test_a_live_campaign_runs_from_the_moment_it_is_released() -> None:
    assert release(Status.DRAFT, Event.SCHEDULE, "one_time") is Status.SCHEDULED
    assert release(Status.DRAFT, Event.SCHEDULE, "live_action") is Status.RUNNING
    assert release(Status.PENDING_APPROVAL, Event.APPROVE, "live_date") is Status.RUNNING
    assert release(Status.PAUSED, Event.RESUME, "live_action") is Status.RUNNING
    assert release(Status.PAUSED, Event.RESUME, "recurring") is Status.SCHEDULED


@pytest.mark.parametrize(
    ("status", "state", "has_started", "open_messages", "then"),
    [
        (Status.SCHEDULED, "requested", False, 0, Status.SCHEDULED),
        (Status.SCHEDULED, "running", True, 5, Status.RUNNING),
        (Status.SCHEDULED, "planned", True, 0, Status.RUNNING),
        (Status.RUNNING, "running", True, 0, Status.RUNNING),
        (Status.RUNNING, "planned", True, 0, Status.RUNNING),
        (Status.RUNNING, "expanded", True, 1, Status.RUNNING),
        (Status.RUNNING, "expanded", True, 0, Status.COMPLETED),
        (Status.SCHEDULED, "expired", False, 0, Status.COMPLETED),
        (Status.SCHEDULED, "expanded", True, 3, Status.RUNNING),
        (Status.RUNNING, "failed", False, 0, Status.COMPLETED),
        (Status.RUNNING, "stopped_by_safety_check", False, 0, Status.COMPLETED),
        (Status.PAUSED, "expanded", True, 0, Status.PAUSED),
        (Status.STOPPED, "expanded", True, 0, Status.STOPPED),
        (Status.COMPLETED, "running", True, 0, Status.COMPLETED),
    ],
)
def test_a_campaign_follows_its_runs(
    status: Status, state: str, has_started: bool, open_messages: int, then: Status
) -> None:
    assert follow(status, campaign(), Progress(state, has_started, open_messages)) is then
    # The total of a scheduled campaign bounds its runs, and does not end it.
    limited = campaign(who={"rule": {"all": []}, "limits": {"total": 1}})
    assert follow(status, limited, Progress(state, has_started, open_messages, sent=1)) is then


@pytest.mark.parametrize(
    ("status", "total", "open_messages", "sent", "then"),
    [
        (Status.RUNNING, 3, 0, 3, Status.COMPLETED),
        (Status.RUNNING, 3, 0, 2, Status.RUNNING),
        (Status.RUNNING, 3, 1, 2, Status.RUNNING),
        # Lowered below what was taken: the rest is sent first.
        (Status.RUNNING, 2, 1, 3, Status.RUNNING),
        (Status.RUNNING, 2, 0, 3, Status.COMPLETED),
        (Status.RUNNING, None, 0, 10**9, Status.RUNNING),
        (Status.PAUSED, 3, 0, 3, Status.PAUSED),
        (Status.STOPPED, 3, 0, 3, Status.STOPPED),
        (Status.COMPLETED, 4, 0, 3, Status.COMPLETED),
    ],
)
def test_a_live_campaign_ends_when_its_total_was_sent(
    status: Status, total: int | None, open_messages: int, sent: int, then: Status
) -> None:
    body = live(who={"trigger": {"event": "E"}, "limits": {"total": total}})
    assert follow(status, body, Progress(open_messages=open_messages, sent=sent)) is then
    assert follow(status, live(), Progress(open_messages=open_messages, sent=sent)) is status


def test_a_live_campaign_without_a_total_gets_none_later() -> None:
    def limited(total: int | None) -> dict[str, Any]:
        return live(who={"trigger": {"event": "E"}, "limits": None if total is None else {"total": total}})

    for status in (Status.SCHEDULED, Status.RUNNING, Status.PAUSED):
        with pytest.raises(Conflict) as refused:
            check_change(status, limited(None), limited(5))
        assert refused.value.problems[0].pointer == "/who/limits/total"
        for before, after in ((5, 9), (9, 5), (5, None), (None, None)):
            check_change(status, limited(before), limited(after))
    check_change(Status.DRAFT, limited(None), limited(5))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (campaign(when={"at": "2026-12-01"}), "/when/at"),
        (campaign(when={"at": "2026-02-30T09:00:00"}), "/when/at"),
        (campaign(when={"at": "2026-12-02T09:00:00Z"}), "/when/at"),
        (campaign(when={"at": "2026-12-01T02:59:59"}), "/when/at"),
        (campaign(when={"at": "2026-11-30T19:59:59", "time_zone": "user"}), "/when/at"),
        (campaign(when={"at": "now", "time_zone": "Europe/Pariis"}), "/when/time_zone"),
        (campaign(when={"at": "2026-12-01T08:59:59", "time_zone": "Europe/Paris"}), "/when/at"),
        (campaign(when={"at": "now", "time_zone": "best_time"}), "/when/fallback_time"),
        (campaign(when={"at": "now", "fallback_time": "09:00"}), "/when/fallback_time"),
        (campaign(when={"at": "now", "best_time_event": "E"}), "/when/best_time_event"),
        (live(when={"time_zone": "best_time"}), "/when/time_zone"),
        (live(when={"start": "2026-12"}), "/when/start"),
        (live(when={"delay": "PT5"}), "/when/delay"),
        (live(when={"delay": "P31D"}), "/when/delay"),
        ({**inaction(), "when": {"delay": "PT5M"}}, "/when/delay"),
        ({**on_date(date_attribute="birthday"), "when": {"delay": "PT5M"}}, "/when/delay"),
        (live(when={"start": "2026-12-05T09:00:00", "end": "2026-12-05T09:00:00"}), "/when/end"),
        (live(when={"end": "2026-12-01T02:59:59"}), "/when/end"),
        (campaign(kind="multiple_dates", when={"at": ["2026-12-02T09:00:00", "x"]}), "/when/at/1"),
        (campaign(kind="multiple_dates", when={"at": ["2026-12-02T09:00:00", "2026-12-02T09:00"]}), "/when/at/1"),
        (campaign(kind="multiple_dates", when={"at": ["2026-12-01T02:00:00", "2026-12-02T09:00"]}), "/when/at/0"),
        (
            campaign(
                kind="multiple_dates",
                when={
                    "at": ["2026-12-02T09:00:00", "2026-12-02T10:00"],
                    "time_zone": "best_time",
                    "fallback_time": "09:00",
                },
            ),
            "/when/at/1",
        ),
        (recurring(recurrence="FREQ=HOURLY"), "/when/recurrence"),
        (recurring(recurrence="FREQ=DAILY;BYHOUR=9"), "/when/recurrence"),
        (recurring(recurrence="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "/when/recurrence"),
        (recurring(recurrence="FREQ=DAILY;UNTIL=20261101"), "/when/recurrence"),
        (recurring(times=["09:00", "09:00"]), "/when/times"),
        (recurring(start="2026-12"), "/when/start"),
        (recurring(start="2026-12-03T00:00:00", end="2026-12-02T00:00:00"), "/when/end"),
        (recurring(times=["09:00", "10:00"], time_zone="best_time", fallback_time="09:00"), "/when/times"),
        (campaign(when={"at": "now", "quiet_hours": {"windows": ALWAYS}}), "/when/quiet_hours/windows"),
        (campaign(who={"rule": {"all": []}, "min_gap": "P1M"}), "/who/min_gap"),
        (campaign(who={"rule": {"all": []}, "limits": {"daily": 5}}), "/who/limits/daily"),
        (live(who={"trigger": {"event": "E", "where": []}, "limits": {"run": 5}}), "/who/limits/run"),
        (campaign(who={"rule": {"all": []}, "safety_limit": 5}), "/owner_email"),
        (campaign(owner_email="nobody"), "/owner_email"),
        (campaign(when={"at": "now", "send_by": "PT0S"}), "/when/send_by"),
        (campaign(when={"at": "now", "catch_up": "P1M"}), "/when/catch_up"),
        (campaign(who={}), "/who"),
        (campaign(who={"rule": {"all": []}, "segment_id": "seg_1"}), "/who"),
        (campaign(who={"segment_id": "seg_2"}), "/who/segment_id"),
        (campaign(who={"rule": {"any": []}}), "/who/rule/any"),
        (campaign(who={"rule": {"any": [{"all": []}, {"in_segment": "seg_9"}]}}), "/who/rule/any/1/in_segment"),
        (campaign(who={"rule": {"not": {"in_segment": "seg_gap"}}}), "/who/rule/not/in_segment"),
        (campaign(who={"rule": {"in_segment": "seg_loop"}}), "/who/rule/in_segment"),
        (campaign(who={"rule": {"all": [{"in_segment": "seg_wide"}] * 2}}), "/who/rule"),
        (campaign(who={"segment_id": "seg_gap"}), "/who/segment_id"),
        (campaign(who={"rule": {"user_list": "lst_9"}}), "/who/rule/user_list"),
        (campaign(who={"rule": {"not": {"user_list": "lst_2"}}}), "/who/rule/not/user_list"),
        (campaign(who={"rule": {"messaged": {"campaign_id": "cmp_9", "status": "accepted"}}}),
         "/who/rule/messaged/campaign_id"),
        (live(who={"trigger": {"event": "E", "where": []}, "filter": {"all": [{"in_segment": "seg_9"}]}}),
         "/who/filter/all/0/in_segment"),
        (campaign(what={"body": " "}), "/what/body"),
        (campaign(what={"body": "{{ Event.amount }}"}), "/what/body"),
        (campaign(what={"body": "Hi", "fallback_body": "{% if %}"}), "/what/fallback_body"),
        (campaign(what={"body": "Hi", "provider_id": "prv_9"}), "/what/provider_id"),
        (campaign(what={"body": "Hi", "provider_id": "prv_2"}), "/what/provider_id"),
        (campaign(what={"body": "Hi", "provider_id": "prv_1", "provider_group_id": "grp_1"}), "/what/provider_id"),
        (campaign(what={"body": "Hi", "provider_group_id": "grp_9"}), "/what/provider_group_id"),
        (campaign(what={"body": "Hi", "provider_group_id": "grp_2"}), "/what/provider_group_id"),
        (live(who={"trigger": {"event": "E", "where": [{"property": "p", "op": "gt", "value": "x"}]}}),
         "/who/trigger/where/0/value"),
        (live(who={"trigger": {"event": "E", "where": []}, "filter": {"any": []}}), "/who/filter/any"),
        (inaction(unless={"event": "F", "where": [{"property": "p", "op": "no"}]}), "/who/trigger/unless/where/0/op"),
        (inaction(within="PT0S"), "/who/trigger/within"),
        (inaction(within="-PT5M"), "/who/trigger/within"),
        (inaction(within="P30DT1S"), "/who/trigger/within"),
        (inaction(within="P1M"), "/who/trigger/within"),
        (on_date(), "/who/trigger"),
        (on_date(event="E"), "/who/trigger/date_property"),
        (on_date(date_property="d"), "/who/trigger/event"),
        (on_date(date_attribute="d", event="E"), "/who/trigger/event"),
        (on_date(date_attribute="d", date_property="d"), "/who/trigger/date_property"),
        (on_date(date_attribute="d", where=[{"property": "p", "op": "exists"}]), "/who/trigger/where"),
        (on_date(date_attribute="d", offset="P366D"), "/who/trigger/offset"),
        (on_date(date_attribute="d", offset="-P366D"), "/who/trigger/offset"),
        (on_date(date_attribute="d", offset="1 day"), "/who/trigger/offset"),
        (on_date(date_attribute="d", at_local_time="24:00"), "/who/trigger/at_local_time"),
        (on_date(date_attribute="d", at_local_time="9:00"), "/who/trigger/at_local_time"),
        ({**on_date(date_attribute="d"), "what": {"body": "{{ Event.amount }}"}}, "/what/body"),
    ],
)  # fmt: skip
def test_a_campaign_that_cannot_work_names_the_field(body: dict[str, Any], pointer: str) -> None:
    assert set(wrong(body)) == {pointer}


def test_a_campaign_that_can_work_has_no_problems() -> None:
    assert wrong(campaign()) == {}
    assert wrong(campaign(when={"at": "2026-11-30T20:00:01", "time_zone": "user"})) == {}
    assert wrong(campaign(when={"at": "2020-01-01T09:00:00"}), dates=False) == {}
    assert wrong(campaign(when={"at": "2026-12-01T09:00:00", "time_zone": "Europe/Paris"})) == {}
    assert wrong(campaign(when={"at": "now", "time_zone": "best_time", "fallback_time": "09:00"})) == {}
    assert wrong(recurring(recurrence="FREQ=MONTHLY;BYMONTHDAY=31", short_month="last_day", time_zone="user")) == {}
    assert wrong(recurring(start="2026-11-01T00:00:00", end="2026-12-31T00:00:00")) == {}
    assert wrong(campaign(when={"at": "now", "quiet_hours": {"windows": ALWAYS[:1]}})) == {}
    assert wrong(live(when={"start": "2026-11-01T00:00:00", "end": "2027-01-01T00:00:00"})) == {}
    limited = {"rule": {"all": []}, "limits": {"run": 5, "total": 9}, "safety_limit": 9}
    assert wrong(campaign(who=limited, owner_email="ada@example.com")) == {}
    daily = {"trigger": {"event": "E", "where": []}, "limits": {"daily": 5}}
    assert wrong(live(who=daily)) == {}
    assert wrong(live(what={"body": "{{ Event.amount }}"})) == {}
    event = {"what": {"body": "{{ Event.amount }}"}}
    assert wrong({**inaction(within="P30D", same_property="p", repeat="restart"), **event}) == {}
    assert wrong({**inaction(within="PT1S"), **event}) == {}
    assert wrong({**on_date(event="E", date_property="d", offset="-P365D", at_local_time="23:59"), **event}) == {}
    assert wrong(on_date(date_attribute="d", yearly=True, offset="P1DT12H", at_local_time="00:00")) == {}


def test_a_syntax_error_is_found_by_line_and_column() -> None:
    assert wrong(campaign(what={"body": "one\ntwo {{ Profile.x"}))["/what/body"].startswith("line 2, column 5")


def test_without_a_default_group_the_provider_has_to_be_named() -> None:
    around = Surroundings(providers={"prv_1": "active"}, takes=AROUND.takes)
    (problem,) = check_campaign(campaign(), around, NOW)
    assert problem.pointer == "/what/provider_group_id"
    assert not check_campaign(campaign(what={"body": "x", "provider_id": "prv_1"}), around, NOW)


def test_a_campaign_keeps_its_side_once_it_is_scheduled() -> None:
    old = campaign()
    check_change(Status.DRAFT, old, live())
    check_change(Status.RUNNING, old, old | {"kind": "multiple_dates", "name": "m", "what": {"body": "New"}})
    with pytest.raises(Conflict) as refused:
        check_change(Status.SCHEDULED, old, live())
    assert [problem.pointer for problem in refused.value.problems] == ["/kind"]


@pytest.mark.parametrize("make", [live, inaction, lambda: on_date(date_attribute="d")])
def test_a_live_campaign_keeps_its_kind(make: Any) -> None:
    old = make()
    check_change(Status.RUNNING, old, old | {"name": "m", "when": {"send_by": "PT1H"}, "who": {"trigger": {}}})
    with pytest.raises(Conflict) as refused:
        check_change(Status.PAUSED, old, old | {"kind": "one_time", "message_class": "transactional"})
    assert [problem.pointer for problem in refused.value.problems] == ["/kind"]


def defined(body: dict[str, Any]) -> CampaignDefinition:
    internal = {**with_what({}, body, {}), "scheduled_at": NOW.isoformat(), "send_by_seconds": 900}
    body = {"name": "n", "message_class": "promotional", **body}
    made = Resource("cmp_1", "campaign", 2, "running", body, internal, NOW, NOW)
    snapshot = snapshot_of(made).definition
    assert isinstance(snapshot, CampaignDefinition)
    return snapshot


def test_what_a_live_campaign_waits_for_is_in_its_definition() -> None:
    made = defined(inaction(same_property="cart", repeat="restart"))
    assert made.who.trigger == Trigger(
        "E", unless=Unless("F"), within_seconds=300, same_property="cart", repeat="restart"
    )
    made = defined(on_date(event="E", date_property="d", offset="-P1D", at_local_time="09:00"))
    assert made.who.trigger == Trigger("E", date_property="d", offset_seconds=-86_400, at_local_time="09:00")
    made = defined(on_date(date_attribute="d", yearly=True))
    assert made.who.trigger == Trigger(date_attribute="d", yearly=True)
    delays = [defined(live(when={"delay": delay})).when.delay_seconds for delay in (None, "PT45M", "P30D")]
    assert delays == [0, 2_700, 30 * 86_400]
    filtered = defined(live(who={"trigger": {"event": "E", "where": []}, "filter": {"all": []}}))
    assert (filtered.who.trigger, filtered.who.filter) == (Trigger("E"), {"all": []})
    # As bodies were kept before the other kinds came.
    older = dict.fromkeys(("unless", "within", "same_property", "repeat", "date_property", "offset", "yearly"))
    body = live(who={"trigger": {"event": "E", "where": [], **older}, "filter": None})
    assert wrong(body) == {}
    assert defined(body).who.trigger == Trigger("E")


def test_each_changed_what_is_a_version_that_stays() -> None:
    body = campaign(what={"body": "{{ Profile.b }} {{ Profile.a }}", "fallback_body": "{{ Profile.c | default: '' }}"})
    one = with_what({}, body, {"max_parts": 3, "transliterate": True})
    assert one["what_version"] == 1
    what = one["whats"]["1"]
    assert what["references"]["profile"] == ["a", "b", "c"]
    assert (what["max_parts"], what["transliterate"]) == (3, True)
    assert with_what(one, body, {"max_parts": 3, "transliterate": True}) == one
    two = with_what(one, campaign(), {})
    assert (two["what_version"], list(two["whats"])) == (2, ["1", "2"])
    full = {"what_version": 100, "whats": {str(n): {"body": str(n)} for n in range(1, 101)}}
    with pytest.raises(Invalid):
        with_what(full, campaign(), {})


def test_the_deadline_is_the_campaigns_else_the_accounts_else_the_products() -> None:
    account = {"send_by": {"scheduled": "PT1H", "live": None}}
    assert send_by_of(campaign(when={"send_by": "PT5M"}), account) == timedelta(minutes=5)
    assert send_by_of(campaign(), account) == timedelta(hours=1)
    assert send_by_of(live(), account) == timedelta(minutes=15)
    assert send_by_of(campaign(), {"send_by": None}) == timedelta(hours=4)


MOVES = st.lists(
    st.builds(
        FunnelMoved,
        campaign_id=st.just("cmp"),
        to_status=st.sampled_from(STATUSES),
        n=st.integers(0, 50),
        run_id=st.sampled_from(["", "r1", "r2"]),
        from_status=st.sampled_from(["", *STATUSES]),
        from_provider_id=st.sampled_from(["", "a"]),
        provider_id=st.sampled_from(["", "a", "b"]),
        reason=st.sampled_from(["", "x"]),
    )
)


@given(MOVES)
def test_the_report_adds_up_whatever_moved(moves: list[FunnelMoved]) -> None:
    shown = report(deltas(moves), [])
    funnel = shown["funnel"]
    qualified = sum(move.n for move in moves if not move.from_status)
    assert funnel["qualified"] == qualified
    assert sum(funnel[status] for status in STATUSES) == qualified
    for group in ("by_provider", "by_run", "by_variant"):
        for name, n in funnel.items():
            assert n == sum(row[name] for row in shown[group])


def test_a_run_without_messages_is_in_the_report() -> None:
    shown = report({}, [{"run_id": "r", "state": "expired", "reason": "catch_up"}])
    assert [(row["run_id"], row["state"], row["qualified"]) for row in shown["by_run"]] == [("r", "expired", 0)]


def test_reasons_are_counted_for_statuses_that_are_final() -> None:
    cells = deltas([FunnelMoved("c", "rejected", 2, from_status="pending", reason="21211"),
                    FunnelMoved("c", "unknown", 1, from_status="in_doubt", reason="timeout")])  # fmt: skip
    assert cells[Cell("c", "", "", "", "unknown", "")] == 1
    assert report(cells, [])["by_reason"] == [{"status": "rejected", "reason": "21211", "n": 2}]


def test_a_key_is_known_by_its_hash_until_it_expires() -> None:
    id, whole = new_key()
    split = split_key(whole)
    assert split is not None
    assert split[0] == id
    stored = StoredKey(id, split[1], ("campaigns:write",), NOW)
    assert is_valid(stored, split[1], NOW - timedelta(seconds=1))
    assert not is_valid(stored, split[1], NOW)
    assert not is_valid(stored, b"x" * 32, NOW - timedelta(seconds=1))
    for nonsense in ("", "key_", whole[:-1], whole + "x", id):
        assert split_key(nonsense) is None


def test_scopes_that_write_may_read() -> None:
    assert Caller("k", all_scopes(["campaigns:write"])).may("campaigns:read")
    assert not Caller("k", all_scopes(["events:write"])).may("campaigns:read")
    assert Caller("k", all_scopes(["admin"])).may("providers:write")


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_is_a_formula(text: str) -> None:
    cell = rows([{"body": text}]).split(",")[9]
    assert cell.lstrip('"').startswith("'")


def test_a_phone_stays_a_phone() -> None:
    assert ",+15550100123," in rows([{"phone": "+15550100123"}])

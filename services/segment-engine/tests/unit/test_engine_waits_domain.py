"""Which rows an event concerns, under which key, and what becomes of one that is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postrider.contracts.definitions import CampaignDefinition, References, Trigger, Unless, What, When, Who
from postrider.contracts.user_events import UserEvent
from segment_engine.domain import firing, wait_kinds
from segment_engine.domain.columns import microseconds
from segment_engine.domain.firing import Evaluated, Outcome
from segment_engine.domain.live_campaigns import LiveCampaign, LiveCampaigns
from segment_engine.domain.profiles import Contact, Profile
from segment_engine.domain.verdicts import REACHABLE
from segment_engine.domain.wait_kinds import Change
from segment_engine.domain.waits import (
    Carried,
    Kept,
    Occurrence,
    Row,
    WaitId,
    same_property_key,
    short,
    timing_hash,
    trigger_hash,
)

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
US = microseconds(NOW)
FILTER = {"all": list[Any]()}


def campaign(kind: str = "live_inaction", filter: Any = None, **trigger: Any) -> CampaignDefinition:
    given: dict[str, Any] = {"event": "Cart", "unless": Unless("Bought"), "within_seconds": 60}
    if kind != "live_inaction":
        given = {"event": "Cart"}
    return CampaignDefinition(
        "cmp_1", 3, "running", kind, "n", "transactional", When(send_by_seconds=900),
        Who(trigger=Trigger(**{**given, **trigger}), filter=filter), 2,
        {"1": What("Hi", References([], ["amount"])), "2": What("Hi", References(["city"], ["amount"]))}, NOW,
    )  # fmt: skip


def event(name: str = "Cart", id: str = "m-1", **changes: Any) -> UserEvent:
    values: dict[str, Any] = {
        "type": "track", "user_id": "u-1", "message_id": id, "event": name, "at": NOW, "received_at": NOW,
        "values": {"amount": 50, "other": 1}, "historic": False,
    }  # fmt: skip
    return UserEvent(**{**values, **changes})


def concerns(definition: CampaignDefinition, happened: UserEvent) -> list[tuple[bool, bool]]:
    found = LiveCampaigns([definition], "UTC").waiting_for(happened)
    return [(concern.arms, concern.acts) for concern in found]


def live(definition: CampaignDefinition) -> LiveCampaign:
    return LiveCampaigns([definition], "UTC").waiting[definition.campaign_id]


@pytest.mark.parametrize(
    ("definition", "happened", "expected"),
    [
        (campaign(), event(), [(True, False)]),
        (campaign(), event("Bought"), [(False, True)]),
        (campaign(), event("cart"), []),
        (campaign(unless=Unless("Cart")), event(), [(True, True)]),
        (campaign(unless=Unless("Cart", [{"property": "amount", "op": "gt", "value": 99}])), event(), [(True, False)]),
        (campaign(where=[{"property": "amount", "op": "gt", "value": 99}]), event(), []),
        # What is too old or historic arms nothing, and disarms.
        (campaign(), event(historic=True), []),
        (campaign(), event("Bought", historic=True), [(False, True)]),
        (campaign(), event(at=NOW - timedelta(seconds=901)), []),
        (campaign(), event("Bought", at=NOW - timedelta(days=30)), [(False, True)]),
        (campaign(), event(received_at=NOW - timedelta(milliseconds=1), at=NOW - timedelta(milliseconds=1)), []),
        # An action waits only for its filter.
        (campaign("live_action"), event(), []),
        (campaign("live_action", FILTER), event(), [(True, False)]),
        (campaign("live_date", date_property="d"), event(), [(True, False)]),
        (campaign("live_date", event="", date_attribute="d"), event(""), []),
    ],
)
def test_what_concerns_a_campaign_that_waits(
    definition: CampaignDefinition, happened: UserEvent, expected: list[tuple[bool, bool]]
) -> None:
    assert concerns(definition, happened) == expected


def test_an_action_with_a_filter_is_not_due_at_once() -> None:
    assert LiveCampaigns([campaign("live_action", FILTER)], "UTC").triggered_by(event()) == []
    assert len(LiveCampaigns([campaign("live_action")], "UTC").triggered_by(event())) == 1


def test_a_broken_unless_harms_no_other() -> None:
    broken = msgspec.structs.replace(campaign(unless=Unless("B", [{"op": "x"}])), campaign_id="cmp_2")
    index = LiveCampaigns([broken, campaign()], "UTC")
    assert index.unusable == ["cmp_2"]
    assert len(index.waiting_for(event())) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (10, 10.0, True),
        (-0.0, 0, True),
        (2**53 + 1, 2**53, True),
        ("10", 10, False),
        (True, 1, False),
        (True, "true", False),
        (False, 0, False),
        ("a", "A", False),
        ("", "", True),
        ("#x", "#x", True),
        ("x" * 500, "x" * 499, False),
        ("x" * 500, "x" * 500, True),
        ("é", "e\u0301", False),
    ],
)
def test_keys_are_equal_as_rules_say(one: object, other: object, same: bool) -> None:
    assert (same_property_key(one) == same_property_key(other)) is same
    assert len(same_property_key(one) or "") <= 65


@pytest.mark.parametrize("value", [None, [], ["a"], {}, 10**400])
def test_what_is_no_scalar_has_no_key(value: object) -> None:
    assert same_property_key(value) is None


@given(st.text(max_size=300), st.text(max_size=300))
def test_short_names_differ_as_long_ones_do(one: str, other: str) -> None:
    assert (short(one) == short(other)) is (one == other)


def change_of(definition: CampaignDefinition, *events: UserEvent) -> dict[WaitId, Change]:
    changes: dict[WaitId, Change] = {}
    for happened in events:
        for concern in LiveCampaigns([definition], "UTC").waiting_for(happened):
            wait_kinds.add_event(changes, concern, happened, happened.message_id)
    return changes


def armed(definition: CampaignDefinition, *events: UserEvent) -> Row:
    ((id, change),) = change_of(definition, *(events or (event(),))).items()
    kept = wait_kinds.apply(None, change, "UTC", "UTC", US)
    assert kept is not None
    return Row(id, 0, change.campaign.made_by, kept)


def test_each_value_of_the_same_property_is_a_row_of_its_own() -> None:
    definition = campaign(same_property="cart")
    events = [event(id=f"m-{n}", values={"cart": value}) for n, value in enumerate([1, 1.0, "1", True, None, [1]])]
    changes = change_of(definition, *events, event("Bought", "b", values={"cart": 1}), event("Bought", "c", values={}))
    assert sorted((key, len(change.happenings)) for (_, _, key), change in changes.items()) == [
        ('"1', 1), ("1.0", 3), ("true", 1),
    ]  # fmt: skip
    assert change_of(campaign(), *events).keys() == {("cmp_1", "u-1", "")}


def test_the_time_of_what_is_armed_follows_the_terms_of_now() -> None:
    row = armed(campaign())
    assert row.kept.due == US + 60_000_000
    longer = live(campaign(within_seconds=90))
    later = wait_kinds.replanned(longer, row.kept.state, US, "UTC", "UTC", US)
    assert later is not None
    assert later.due == US + 90_000_000
    early = settle(row, longer, now=US + 60_000_000)
    assert early is not None
    assert (early.occurrences, early.kept, early.dropped) == ([], later, "")


def settle(
    row: Row, definition: LiveCampaign | None, profile: Profile | None = None, filtered: Evaluated | None = None,
    now: int = US + 60_000_000,
) -> Outcome | None:  # fmt: skip
    return firing.settle(row, definition, profile, filtered, now, "UTC")


def test_what_is_due_fires_by_the_campaign_of_now() -> None:
    row = armed(campaign())
    fired = settle(row, live(campaign()))
    assert fired is not None
    assert [(o.name, o.due, o.carried) for o in fired.occurrences] == [
        ("m-1", US + 60_000_000, Carried(2, {"amount": 50}))
    ]
    assert settle(row, None) == Outcome([], None, "campaign_ended")
    assert settle(row, live(campaign(unless=Unless("Paid")))) == Outcome([], None, "trigger_changed")
    erased = Profile("u-1", 4, {}, Contact(), deleted=True)
    assert settle(row, live(campaign()), erased) == Outcome([], None, "erased")


def test_a_filter_decides_only_about_those_it_was_asked_about() -> None:
    filtered = live(campaign(filter=FILTER))
    row = armed(campaign())
    assert settle(row, filtered) is None
    assert settle(row, filtered, filtered=Evaluated(frozenset({"u-2"}), frozenset({"u-2"}))) is None
    failed = settle(row, filtered, filtered=Evaluated(frozenset({"u-1"}), frozenset()))
    assert failed is not None
    assert (failed.occurrences, failed.dropped) == ([], "filtered")
    assert failed.kept is not None  # what repeats it inside its span is still a repeat
    passed = settle(row, filtered, filtered=Evaluated(frozenset({"u-1"}), frozenset({"u-1"})))
    assert passed is not None
    assert len(passed.occurrences) == 1


def delayed(seconds: int, filter: dict[str, Any] | None = None) -> CampaignDefinition:
    made = campaign("live_action", filter)
    return msgspec.structs.replace(made, when=msgspec.structs.replace(made.when, delay_seconds=seconds))


def test_a_delayed_action_is_due_so_long_after_its_event() -> None:
    assert LiveCampaigns([delayed(60)], "UTC").triggered_by(event()) == []
    assert LiveCampaigns([delayed(60)], "UTC").filtered == []
    row = armed(delayed(60))
    assert row.kept.due == US + 60_000_000
    assert armed(delayed(60), event(at=NOW - timedelta(seconds=50))).kept.due == US + 10_000_000
    # Never before it was written, or what is behind it in the log would be unread.
    late = armed(delayed(60), event(at=NOW - timedelta(seconds=300)))
    assert late.kept.due == US
    fired = settle(late, live(delayed(60)), now=US)
    assert fired is not None
    assert [(o.name, o.due) for o in fired.occurrences] == [("m-1", US - 240_000_000)]
    assert fired.kept is not None
    assert (fired.kept.due, fired.kept.keep_until) == (None, US - 240_000_000 + 900_000_000)


def test_each_event_of_a_delayed_action_has_a_text_of_its_own() -> None:
    rows = [armed(delayed(60), event(id=id)) for id in ("m-1", "m-2")]
    assert [row.id for row in rows] == [("cmp_1", "u-1", "m-1"), ("cmp_1", "u-1", "m-2")]


def test_a_delay_that_is_edited_moves_what_is_armed() -> None:
    row = armed(delayed(60))
    longer, shorter = live(delayed(90)), live(delayed(5))
    assert (longer.made_by, longer.plan != live(delayed(60)).plan) == (row.made_by, True)
    put_off = settle(row, longer, now=US + 60_000_000)
    assert put_off is not None
    assert put_off.occurrences == []
    assert put_off.kept == row.kept._replace(due=US + 90_000_000)
    for campaign_, now, due in ((shorter, US, US + 5_000_000), (shorter, US + 8_000_000, US + 8_000_000)):
        moved = wait_kinds.replanned(campaign_, row.kept.state, now, "UTC", "UTC", US)
        assert moved == row.kept._replace(due=due)


def test_a_delayed_action_with_a_filter_asks_it_when_it_is_due() -> None:
    row = armed(delayed(60, FILTER))
    assert row.kept.due == US + 60_000_000
    passed = Evaluated(frozenset({"u-1"}), frozenset({"u-1"}))
    fired = settle(row, live(delayed(60, FILTER)), filtered=passed, now=US + 60_000_000)
    assert fired is not None
    assert [o.due for o in fired.occurrences] == [US + 60_000_000]


def test_an_action_whose_filter_was_taken_away_is_not_forgotten() -> None:
    row = armed(campaign("live_action", FILTER))
    assert row.kept.due == US
    fired = settle(row, live(campaign("live_action")), now=US)
    assert fired is not None
    assert [o.name for o in fired.occurrences] == ["m-1"]


def test_a_repeat_of_what_was_decided_asks_no_filter_again() -> None:
    """As long as an event of that time could arm."""
    for definition, repeat in (
        (campaign("live_action", FILTER), event()),
        (campaign("live_date", FILTER, date_property="d"), event(values={"d": "2026-12-01T09:00:00Z"})),
    ):
        row = armed(definition, repeat)
        asked = Evaluated(frozenset({"u-1"}), frozenset())
        outcome = settle(row, live(definition), filtered=asked, now=US)
        assert outcome is not None
        assert (outcome.occurrences, outcome.dropped) == ([], "filtered")
        assert outcome.kept is not None
        assert (outcome.kept.due, outcome.kept.keep_until) == (None, US + 900_000_000)
        if definition.kind == "live_date":
            ((_, again),) = change_of(definition, repeat).items()
            assert wait_kinds.apply(outcome.kept.state, again, "UTC", "UTC", US) == outcome.kept


def test_the_text_is_the_newest_whose_values_were_kept() -> None:
    profile = Profile("u-1", 1, {"city": "Pune", "secret": 1}, Contact("+15552000001", "US"))
    occurrence = Occurrence("m-1", US, Carried(1, {"amount": 50}))
    user = firing.qualified(campaign(), "u-1", occurrence, profile, REACHABLE, "Asia/Tokyo", NOW)
    assert (user.what_version, user.profile, user.event) == (2, {"city": "Pune"}, {"amount": 50})
    assert (user.zone, user.phone, user.due_at, user.campaign_version) == ("Asia/Tokyo", "+15552000001", NOW, 3)
    more = msgspec.structs.replace(
        campaign(), what_version=3, whats={**campaign().whats, "3": What("x", References([], ["size"]))}
    )
    assert firing.what_of(more, Carried(1, {})) == (1, References([], ["amount"]))
    assert firing.what_of(more, Carried(0, {}))[0] == 3


def test_hashes_tell_what_made_a_row_from_when_it_is_due() -> None:
    base = campaign()
    for changed in (campaign(within_seconds=61), campaign(repeat="restart")):
        assert trigger_hash(changed) == trigger_hash(base)
        assert timing_hash(changed, "UTC") != timing_hash(base, "UTC")
    for changed in (campaign(event="X"), campaign(same_property="p"), campaign(unless=Unless("Bought", [{"a": 1}]))):
        assert trigger_hash(changed) != trigger_hash(base)
    date = campaign("live_date", date_property="d")
    assert timing_hash(date, "UTC") != timing_hash(date, "Asia/Tokyo")
    assert timing_hash(base, "UTC") == timing_hash(base, "Asia/Tokyo")
    assert trigger_hash(msgspec.structs.replace(base, version=9, name="m")) == trigger_hash(base)


def test_a_row_of_a_date_is_made_once_and_moves_with_the_zone() -> None:
    definition = campaign("live_date", date_property="d", at_local_time="09:00")
    happened = event(values={"d": "2026-12-24", "amount": 1})
    row = armed(definition, happened)
    assert row.id == ("cmp_1", "u-1", "m-1")
    ((_, again),) = change_of(definition, happened).items()
    assert wait_kinds.apply(row.kept.state, again, "UTC", "UTC", US) == row.kept
    moved = wait_kinds.apply(row.kept.state, Change(live(definition), moved_at=US), "Asia/Tokyo", "UTC", US)
    assert moved is not None
    assert moved.due == microseconds(datetime(2026, 12, 24, tzinfo=UTC))
    assert wait_kinds.apply(None, Change(live(definition), moved_at=US), "UTC", "UTC", US) is None


def test_a_trait_that_may_not_arm_moves_and_disarms() -> None:
    attribute = live(campaign("live_date", event="", date_attribute="d"))

    def after(known: bytes | None, value: object, may_arm: bool) -> Kept | None:
        trait = wait_kinds.Trait(value, US, may_arm)
        return wait_kinds.apply(known, Change(attribute, trait=trait), "UTC", "UTC", US)

    assert after(None, "2026-12-24", False) is None
    row = after(None, "2026-12-24", True)
    assert row is not None
    moved = after(row.state, "2026-12-25", False)
    assert moved is not None
    assert (moved.due or 0) - (row.due or 0) == 86_400_000_000
    assert after(row.state, None, False) is None

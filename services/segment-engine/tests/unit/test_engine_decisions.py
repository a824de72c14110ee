"""Which campaigns an event triggers, and how an audience is cut into pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from postrider.contracts import codec
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.definitions import CampaignDefinition, References, Trigger, What, When, Who
from postrider.contracts.user_events import UserEvent
from segment_engine.domain.live_campaigns import LiveCampaigns, qualified
from segment_engine.domain.pages import Member, Stream, after_pages, make_page, page_user, with_newest_what
from segment_engine.domain.profiles import Contact, Profile
from segment_engine.domain.verdicts import REACHABLE

NOW = datetime(2026, 12, 1, 9, 0, 0, 5_000, UTC)


def campaign(**changes: Any) -> CampaignDefinition:
    made = CampaignDefinition(
        "cmp_1", 3, "running", "live_action", "n", "transactional", When(send_by_seconds=900),
        Who(trigger=Trigger("Bought", [{"property": "amount", "op": "gte", "value": 50}])), 2,
        {"2": What("Hi", References(["city", "missing"], ["amount"]))}, NOW,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def event(**changes: Any) -> UserEvent:
    values: dict[str, Any] = {
        "type": "track", "user_id": "u-1", "message_id": "m-1", "event": "Bought", "at": NOW, "received_at": NOW,
        "values": {"amount": 50, "other": 1}, "historic": False,
    }  # fmt: skip
    return UserEvent(**{**values, **changes})


def triggered(definition: CampaignDefinition, happened: UserEvent) -> bool:
    return bool(LiveCampaigns([definition], "UTC").triggered_by(happened))


@pytest.mark.parametrize(
    ("definition", "happened", "expected"),
    [
        ({}, {}, True),
        ({}, {"event": "bought"}, False),
        ({}, {"values": {"amount": 49.9}}, False),
        ({}, {"historic": True}, False),
        ({}, {"at": NOW - timedelta(seconds=900)}, True),
        ({}, {"at": NOW - timedelta(seconds=900, microseconds=1)}, False),
        ({"status": "scheduled"}, {}, True),
        ({"status": "paused"}, {}, True),
        ({"status": "stopped"}, {}, False),
        ({"status": "draft"}, {}, False),
        ({"status": "completed"}, {}, False),
        ({"kind": "one_time"}, {}, False),
        ({"scheduled_at": NOW + timedelta(microseconds=999)}, {}, True),
        ({"scheduled_at": NOW + timedelta(milliseconds=1)}, {}, False),
        ({"when": When(start=NOW)}, {}, True),
        ({"when": When(start=NOW + timedelta(seconds=1))}, {}, False),
        ({"when": When(end=NOW)}, {}, False),
        ({"when": When(end=NOW + timedelta(seconds=1))}, {}, True),
    ],
)
def test_what_triggers(definition: dict[str, Any], happened: dict[str, Any], expected: bool) -> None:
    assert triggered(campaign(**definition), event(**happened)) is expected


def test_a_trigger_that_cannot_be_compiled_is_named_and_harms_no_other() -> None:
    broken = campaign(campaign_id="cmp_2", who=Who(trigger=Trigger("Bought", [{"op": "nonsense"}])))
    index = LiveCampaigns([broken, campaign()], "UTC")
    assert index.unusable == ["cmp_2"]
    assert [found.campaign_id for found in index.triggered_by(event())] == ["cmp_1"]


def test_only_what_the_template_names_travels_and_nothing_is_due_in_the_future() -> None:
    profile = Profile("u-1", 1, {"city": "Pune", "secret": "x"}, Contact("+15552000001", "US"))
    late = event(at=NOW + timedelta(minutes=4))
    user = qualified(campaign(), late, "m-1", profile, REACHABLE, "Asia/Tokyo")
    assert (user.profile, user.event) == ({"city": "Pune"}, {"amount": 50})
    assert (user.zone, user.phone, user.country) == ("Asia/Tokyo", "+15552000001", "US")
    assert (user.due_at, user.campaign_version, user.what_version) == (NOW, 3, 2)


STREAM = Stream("run_1", "UTC", "cmp_1", "once", 1, ("name",), 500, 4, 99)


def test_a_page_holds_as_many_as_fit_and_the_rest_comes_next() -> None:
    users = [PageUser(f"u-{n}", 100 + n, profile={"name": "x" * 100}) for n in range(100)]
    stream, seen, pages = STREAM, list[PageUser](), list[AudiencePage]()
    while True:
        page = make_page(stream, users[len(seen) :], True, max_bytes=3_000)
        assert len(codec.encode(page)) <= 3_000
        pages.append(page)
        seen += page.users
        stream = after_pages(stream, [page])
        if page.last:
            break
    assert seen == users
    assert [page.page for page in pages] == list(range(4, 4 + len(pages)))
    assert (stream.after_rank, stream.next_page) == (199, 4 + len(pages))


def test_one_person_always_fits_and_an_empty_page_moves_no_rank() -> None:
    large = PageUser("u", 7, profile={"name": "x" * 5_000})
    assert make_page(STREAM, [large], True, max_bytes=100).last
    empty = make_page(STREAM, [], True)
    assert after_pages(STREAM, [empty]).after_rank == 99


def test_nothing_of_a_person_who_is_not_texted_travels() -> None:
    profile = Profile("u", 1, {"name": "Ann"}, Contact("+15552000001", "US"))
    fine = page_user(Member(0, "u", ""), profile, None, ["name"], False)
    assert fine == PageUser("u", 0, "", "", "+15552000001", "US", {"name": "Ann"})
    assert page_user(Member(0, "u", "duplicate_phone"), profile, None, ["name"], False).profile == {}
    assert page_user(Member(0, "u", ""), None, None, ["name"], False) == PageUser("u", 0, "cancelled", "erased")


def test_an_edit_reaches_the_pages_that_are_not_made_with_the_values_it_names() -> None:
    stream = Stream("run_1", "Etc/UTC", "cmp_1", "once", 1, ("first_name",), 500, 3, 1_499)
    edited = with_newest_what(stream, campaign())
    assert (edited.what_version, edited.references) == (2, ("city", "missing"))
    assert (edited.next_page, edited.after_rank) == (3, 1_499)
    assert with_newest_what(edited, campaign(what_version=1, whats={"1": What("Hi")})) is edited
    assert with_newest_what(stream, None) is stream

"""From a qualified person to a job or to the status that settles them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from postrider.contracts import ids
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, Limits, References, What, When, Who
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.send_jobs import Interval, SendJob
from postrider.scheduling.occurrences import is_scheduled
from scheduler.domain import jobs
from scheduler.domain.gate import Books, consider, decide, terms_of
from scheduler.domain.jobs import live_message, page_message, what_version_for
from scheduler.domain.moves import RunName, Zone, expand, live_moves
from scheduler.domain.run_states import RunState, ZoneState
from scheduler.domain.runs import edited, new_run
from scheduler.domain.settled import Settled

NOW = datetime(2026, 12, 1, 9, 0, 1, tzinfo=UTC)
DUE = datetime(2026, 12, 1, 9, 0, 0, tzinfo=UTC)
SEND_BY = DUE + timedelta(hours=4)
USER = PageUser("u1", 0, phone="+12025550101", country="US", profile={"first_name": "Ann"})


def page(*users: PageUser, last: bool = True, number: int = 0) -> AudiencePage:
    return AudiencePage("run_1", "cmp_1", "once", "UTC", number, last, 3, list(users))


def campaign(status: str = "running", version: int = 5, **when: object) -> CampaignDefinition:
    return CampaignDefinition(
        campaign_id="cmp_1",
        version=version,
        status=status,
        kind="live_action",
        name="n",
        message_class="transactional",
        when=msgspec.structs.replace(When(send_by_seconds=900), **when),
        who=Who(),
        what_version=2,
        whats={"1": What("a"), "2": What("b")},
        scheduled_at=DUE,
    )


def qualified(**changes: object) -> QualifiedUser:
    user = QualifiedUser("cmp_1", 5, 1, "evt-1", "u1", DUE, DUE, "UTC", phone="+12025550101", event={"total": 60})
    return msgspec.structs.replace(user, **changes)


def page_job(
    page: AudiencePage, user: PageUser, due_at: datetime, message_class: str, now: datetime
) -> SendJob | Settled:
    candidate = jobs.page_candidate(page, user, page.zone, due_at)
    if isinstance(candidate, Settled):
        return candidate
    made = msgspec.structs.replace(
        campaign(send_by_seconds=4 * 3600), kind="one_time", message_class=message_class, who=Who(rule={"all": []})
    )
    (decided,) = decide([consider(candidate, terms_of(made, AccountSettings(), "UTC"), now)], Books())
    return (
        decided
        if isinstance(decided, Settled)
        else jobs.page_job(page, user, page.zone, decided, page.what_version, message_class)
    )


def live_job(user: QualifiedUser, made: CampaignDefinition | None, now: datetime) -> SendJob | Settled:
    candidate = jobs.live_candidate(user, made, now)
    if isinstance(candidate, Settled) or made is None:
        assert isinstance(candidate, Settled)
        return candidate
    terms = terms_of(made, AccountSettings(), "UTC", end=made.when.end)
    (decided,) = decide([consider(candidate, terms, now)], Books())
    return decided if isinstance(decided, Settled) else jobs.live_job(user, made, decided)


def test_a_page_makes_a_job_of_its_own_what_version() -> None:
    job = page_job(page(USER), USER, DUE, "transactional", NOW)
    assert isinstance(job, SendJob)
    assert job.message_id == ids.message_id("cmp_1", "once", "u1")
    assert (job.run_id, job.what_version, job.zone, job.phone) == ("run_1", 3, "UTC", "+12025550101")
    assert (job.due_at, job.send_by, job.allowed, job.on_hit) == (DUE, SEND_BY, [Interval(DUE, SEND_BY)], "delay")
    assert (job.profile, job.country, job.message_class) == ({"first_name": "Ann"}, "US", "transactional")


@pytest.mark.parametrize(
    ("verdict", "reason", "settled"),
    [
        ("unreachable", "no_phone", Settled("unreachable", "no_phone")),
        ("suppressed", "opted_out", Settled("suppressed", "opted_out")),
        ("duplicate_phone", "", Settled("duplicate_phone", "")),
        ("cancelled", "erased", Settled("cancelled", "erased")),
        ("a_verdict_of_tomorrow", "", Settled("cancelled", "a_verdict_of_tomorrow")),
    ],
)
def test_a_verdict_settles(verdict: str, reason: str, settled: Settled) -> None:
    user = PageUser("u1", 0, verdict, reason)
    assert page_job(page(user), user, DUE, "transactional", NOW) == settled
    assert live_job(qualified(verdict=verdict, reason=reason), campaign(), NOW) == settled


def test_past_the_deadline_there_is_no_job() -> None:
    expired = Settled("expired", "deadline")
    assert page_job(page(USER), USER, DUE, "transactional", SEND_BY) == expired
    assert live_job(qualified(), campaign(), DUE + timedelta(seconds=900)) == expired


def test_an_unreachable_person_is_that_also_past_the_deadline() -> None:
    user = PageUser("u1", 0, "unreachable", "no_phone")
    assert page_job(page(user), user, DUE, "transactional", SEND_BY) == Settled("unreachable", "no_phone")


def test_everybody_has_a_first_row_in_the_message_log() -> None:
    row = page_message(page(USER), USER, page_job(page(USER), USER, DUE, "x", NOW), DUE, NOW)
    assert (row.status, row.seq, row.phone, row.due_at, row.run_id) == ("pending", 0, USER.phone, DUE, "run_1")
    row = live_message(qualified(), Settled("cancelled", "campaign_stopped"), NOW)
    assert (row.status, row.reason, row.seq, row.message_id) == (
        "cancelled",
        "campaign_stopped",
        0,
        ids.message_id("cmp_1", "evt-1", "u1"),
    )


def test_a_live_job_carries_the_event_that_qualified() -> None:
    job = live_job(qualified(), campaign(), NOW)
    assert isinstance(job, SendJob)
    assert (job.run_id, job.occurrence, job.event) == ("", "evt-1", {"total": 60})
    assert (job.due_at, job.send_by) == (DUE, DUE + timedelta(seconds=900))


FIRST = References(["first_name"], ["total"])


@pytest.mark.parametrize(
    ("newest", "carried", "made_for"),
    [
        (FIRST, 1, 2),
        (References(["first_name"]), 1, 2),
        (References(), 1, 2),
        (References(["first_name", "city"], ["total"]), 1, 1),
        (References(["first_name"], ["total", "shop"]), 1, 1),
        (References(["city"]), 2, 2),
        (References(["first_name"]), 3, 3),
        (References(["first_name"]), 0, 0),
    ],
)
def test_an_edit_of_the_text_reaches_jobs_that_carry_all_its_values(
    newest: References, carried: int, made_for: int
) -> None:
    edited_campaign = msgspec.structs.replace(campaign(), whats={"1": What("a", FIRST), "2": What("b", newest)})
    assert what_version_for(edited_campaign, carried) == made_for
    job = live_job(qualified(what_version=carried), edited_campaign, NOW)
    assert isinstance(job, SendJob)
    assert job.what_version == made_for


def test_a_live_text_is_not_put_off_by_a_fast_clock() -> None:
    job = live_job(qualified(due_at=NOW + timedelta(minutes=4)), campaign(), NOW)
    assert isinstance(job, SendJob)
    assert job.due_at == NOW
    assert job.allowed[0].start == NOW


def test_the_end_of_a_live_campaign_caps_the_deadline() -> None:
    end = DUE + timedelta(seconds=30)
    job = live_job(qualified(), campaign(end=end), NOW)
    assert isinstance(job, SendJob)
    assert job.send_by == end
    assert live_job(qualified(), campaign(end=DUE), NOW) == Settled("expired", "campaign_ended")


@pytest.mark.parametrize("kind", ["live_action", "live_inaction", "live_date"])
def test_every_live_kind_makes_jobs_and_no_runs(kind: str) -> None:
    made = msgspec.structs.replace(campaign(), kind=kind)
    assert not is_scheduled(made)
    occurrence = "birthday:2026-12-01"
    job = live_job(qualified(occurrence=occurrence, what_version=2), made, NOW)
    assert isinstance(job, SendJob)
    assert (job.occurrence, job.due_at, job.send_by) == (occurrence, DUE, DUE + timedelta(seconds=900))
    assert job.message_id == ids.message_id("cmp_1", occurrence, "u1")


@pytest.mark.parametrize("status", ["stopped", "draft"])
def test_a_live_campaign_that_does_not_send_cancels(status: str) -> None:
    assert live_job(qualified(), campaign(status), NOW) == Settled("cancelled", f"campaign_{status}")


def test_who_triggers_when_the_total_is_sent_is_limited() -> None:
    assert live_job(qualified(), campaign("completed"), NOW) == Settled("limited", "total")


@pytest.mark.parametrize(
    ("limits", "cut", "reason"),
    [
        (Limits(run=3), 3, "run"),
        (Limits(run=3, total=9), 3, "run"),
        (Limits(run=3, total=9), 2, "total"),
        (Limits(total=9), 2, "total"),
    ],
)
def test_a_run_that_is_cut_says_by_which_limit(limits: Limits, cut: int, reason: str) -> None:
    made = msgspec.structs.replace(campaign(), kind="one_time", who=Who(rule={"all": []}, limits=limits))
    candidate = jobs.page_candidate(page(USER), USER, "UTC", DUE)
    assert not isinstance(candidate, Settled)
    terms = terms_of(made, AccountSettings(), "UTC", cut)
    assert decide([consider(replace(candidate, rank=cut), terms, NOW)], Books()) == [Settled("limited", reason)]
    (below,) = decide([consider(replace(candidate, rank=cut - 1), terms, NOW)], Books())
    assert not isinstance(below, Settled)


def test_a_campaign_that_is_gone_cancels() -> None:
    assert live_job(qualified(), None, NOW) == Settled("cancelled", "campaign_deleted")


def test_live_moves_add_up_by_campaign_and_reason() -> None:
    job = live_job(qualified(), campaign(), NOW)
    gone = Settled("unreachable", "no_phone")
    moved = live_moves([("c1", job), ("c1", job), ("c1", gone), ("c2", gone)])
    assert {(m.campaign_id, m.from_status, m.to_status, m.reason, m.n) for m in moved} == {
        ("c1", "", "pending", "", 2),
        ("c1", "", "unreachable", "no_phone", 1),
        ("c2", "", "unreachable", "no_phone", 1),
    }


def zone(users: int, **changes: object) -> Zone:
    return replace(Zone("UTC", users, ZoneState.REQUESTED, DUE, SEND_BY), **changes)  # type: ignore[arg-type]


def job() -> SendJob:
    made = page_job(page(USER), USER, DUE, "transactional", NOW)
    assert isinstance(made, SendJob)
    return made


def test_a_last_page_with_people_missing_accounts_for_them() -> None:
    expansion = expand(zone(3), page(USER), [job()], NOW)
    assert expansion.zone.state is ZoneState.EXPANDED
    assert [(m.from_status, m.to_status, m.reason, m.n) for m in expansion.moves] == [
        ("pending", "cancelled", "missing_from_pages", 2)
    ]
    assert expansion.unexpanded == {"UTC": 1}


def test_a_page_with_more_people_than_counted_qualifies_them() -> None:
    expansion = expand(zone(1), page(USER, USER), [job(), Settled("suppressed", "stop")], NOW)
    assert [(m.from_status, m.to_status, m.n) for m in expansion.moves] == [
        ("", "pending", 1),
        ("pending", "suppressed", 1),
    ]
    assert expansion.unexpanded == {}


def test_a_page_out_of_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="page 1"):
        expand(zone(1), page(USER, number=1), [job()], NOW)


def one_time(version: int, at: str, body: str = "a", what_version: int = 1) -> CampaignDefinition:
    whats = {str(number): What(body) for number in range(1, what_version + 1)}
    when = When(at=at, time_zone="account")
    return CampaignDefinition(
        "cmp_1", version, "scheduled", "one_time", "n", "promotional", when, Who(), what_version, whats, DUE
    )


def test_an_edit_reaches_a_run_until_its_audience_is_fixed() -> None:
    lead = timedelta(seconds=60)
    run = new_run(one_time(1, "2026-12-24T18:00:00"), "UTC", lead, NOW)
    assert run.name == RunName(ids.run_id("cmp_1", "once"), "cmp_1", "once")
    later = one_time(2, "2026-12-24T19:00:00", what_version=2)
    moved = edited(run, later, "UTC", lead)
    assert moved.request_at == run.request_at + timedelta(hours=1)
    fixed = edited(replace(run, state=RunState.RUNNING), later, "UTC", lead)
    assert fixed.definition.when == run.definition.when
    assert (fixed.definition.what_version, fixed.definition.version) == (2, 2)
    assert edited(fixed, one_time(1, "2026-12-24T20:00:00"), "Asia/Tokyo", lead) is fixed


def test_the_account_zone_counts_until_the_audience_is_fixed() -> None:
    run = new_run(one_time(1, "2026-12-24T18:00:00"), "UTC", timedelta(0), NOW)
    moved = edited(run, run.definition, "Asia/Tokyo", timedelta(0))
    assert moved.request_at == run.request_at - timedelta(hours=9)
    assert edited(run, run.definition, "UTC", timedelta(0)) is run

"""Whether a waiting text may leave now, and for how long it is valid."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.admission import Admitted, Missed, WaitUntil, admit, campaign_says, cancel_reason
from dispatcher.domain.fence import BEGIN_WITHIN_SECONDS, lease_seconds, may_begin
from postrider.contracts.definitions import CampaignDefinition, What, When, Who

NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_any_time_until_the_deadline() -> None:
    assert admit(NOW, at(2), (), "discard") == Admitted(120)
    assert admit(NOW, at(0), (), "discard") == Missed("expired", "deadline")


def test_validity_ends_with_the_interval_or_the_deadline_rounded_down() -> None:
    assert admit(NOW, at(60), [(at(-5), at(1.51))], "delay") == Admitted(90)
    assert admit(NOW, at(1), [(at(-5), at(30))], "delay") == Admitted(60)


def test_between_intervals_it_waits_for_the_next() -> None:
    allowed = [(at(30), at(40)), (at(-10), at(-5))]
    assert admit(NOW, at(60), allowed, "discard") == WaitUntil(at(30), "quiet_hours")


def test_all_intervals_missed_is_what_the_job_says() -> None:
    allowed = [(at(-10), at(-5))]
    assert admit(NOW, at(60), allowed, "discard") == Missed("quiet_hours", "quiet_hours")
    assert admit(NOW, at(60), allowed, "delay") == Missed("expired", "quiet_hours")
    assert admit(NOW, at(20), [(at(30), at(40))], "delay") == Missed("expired", "quiet_hours")


def test_below_the_vendors_minimum_it_waits_or_expires() -> None:
    allowed = [(at(-10), at(0.1)), (at(30), at(40))]
    assert admit(NOW, at(60), allowed, "delay", minimum_seconds=20) == WaitUntil(at(30), "quiet_hours")
    assert admit(NOW, at(60), allowed[:1], "delay", minimum_seconds=20) == Missed("expired", "validity_too_short")
    assert admit(NOW, at(0.1), (), "delay", minimum_seconds=20) == Missed("expired", "validity_too_short")


def campaign(status: str, deleted: bool = False) -> CampaignDefinition:
    return CampaignDefinition(
        "cmp_1", 1, status, "one_time", "", "", When(), Who(), 1, {"1": What("Hi")}, deleted=deleted
    )


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("scheduled", "send"), ("running", "send"), ("completed", "send"), ("paused", "hold"), ("stopped", "cancel"),
        ("rejected", "cancel"), ("draft", "cancel"), ("pending_approval", "cancel"),
    ],
)  # fmt: skip
def test_what_a_campaign_says(status: str, says: str) -> None:
    assert campaign_says(campaign(status)) == says


def test_a_deleted_campaign_cancels() -> None:
    assert campaign_says(None) == campaign_says(campaign("running", deleted=True)) == "cancel"
    assert (cancel_reason(None), cancel_reason(campaign("stopped"))) == ("campaign_deleted", "campaign_stopped")


@pytest.mark.parametrize("timeout", [0.5, 10, 60])
def test_no_call_begins_late(timeout: float) -> None:
    assert may_begin(100.0, 100.0, timeout) and may_begin(100.0 + BEGIN_WITHIN_SECONDS, 100.0, timeout)
    assert not may_begin(100.01 + BEGIN_WITHIN_SECONDS, 100.0, timeout)
    # The slowest call that may begin ends well before its lease does.
    assert BEGIN_WITHIN_SECONDS + timeout < lease_seconds(timeout)


INTERVALS = st.lists(st.tuples(st.integers(-200, 4_000), st.integers(1, 1_500)), min_size=1, max_size=6)


@given(INTERVALS, st.integers(-100, 5_000), st.sampled_from([None, 1, 60, 300]), st.sampled_from(["delay", "discard"]))
def test_whatever_happens_a_text_is_valid_only_where_it_is_allowed(
    stretches: list[tuple[int, int]], send_by: int, minimum: int | None, on_hit: str
) -> None:
    """Time passes as it does between the tries of a text: each verdict is taken as it is given, up to the deadline."""
    allowed = [(NOW + timedelta(seconds=at), NOW + timedelta(seconds=at + long)) for at, long in stretches]
    deadline = NOW + timedelta(seconds=send_by)
    moment = NOW
    while True:
        verdict = admit(moment, deadline, allowed, on_hit, minimum)
        match verdict:
            case Admitted(seconds):
                assert seconds >= (minimum or 1)
                end = moment + timedelta(seconds=seconds)
                assert end <= deadline
                assert any(start <= moment and end <= last for start, last in allowed)
                moment += timedelta(seconds=170)  # it was refused, and waits
            case WaitUntil(at):
                assert moment < at < deadline and any(start == at for start, _ in allowed)
                moment = at
            case Missed(status, _):
                assert status == "expired" or on_hit == "discard"
                return

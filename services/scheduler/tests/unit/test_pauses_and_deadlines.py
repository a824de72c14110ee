"""What a pause does to what comes due in it, and which words it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from postrider.contracts.definitions import CampaignDefinition, What, When, Who
from scheduler.domain.moves import Zone
from scheduler.domain.run_states import ZoneState
from scheduler.domain.runs import Run, new_run

DUE = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
SEND_BY = DUE + timedelta(hours=4)
ZONE = Zone("UTC", 5, ZoneState.WAITING, DUE, SEND_BY)


def run(**when: object) -> Run:
    """Due at nine, four hours to send, one to catch up."""
    given = When(at="2026-12-01T09:00:00", time_zone="account", send_by_seconds=4 * 3600, catch_up_seconds=3600)
    campaign = CampaignDefinition(
        "cmp_1", 1, "running", "one_time", "n", "transactional", msgspec.structs.replace(given, **when), Who(), 1,
        {"1": What("a")}, scheduled_at=DUE - timedelta(days=1),
    )  # fmt: skip
    return new_run(campaign, "UTC", timedelta(0), DUE - timedelta(days=1))


def after(hours: float) -> datetime:
    return DUE + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("paused", "resumed_at", "now", "reason"),
    [
        (False, None, after(0.5), ""),
        (False, None, after(2), "missed"),
        (False, after(3), after(3), ""),
        (False, after(3), after(3.9), ""),
        (False, after(3.5), after(4), "deadline"),
        (False, after(0.2), after(2), "missed"),
        (False, after(5), after(5), "campaign_paused"),
        (True, None, after(4), "campaign_paused"),
        (True, after(-20), after(4), "campaign_paused"),
        (False, after(-20), after(0.5), ""),
    ],
    ids=[
        "on time", "missed by downtime", "resumed after catch-up", "resumed, a little later",
        "resumed, and too slow for the deadline", "resumed, and down again", "resumed after the deadline",
        "still paused", "paused for the second time", "resumed long before",
    ],
)  # fmt: skip
def test_a_zone_that_a_pause_held_has_until_its_deadline(
    paused: bool, resumed_at: datetime | None, now: datetime, reason: str
) -> None:
    held = replace(run(), paused=paused, resumed_at=resumed_at)
    assert held.zone_missed_reason(ZONE, now) == reason


@pytest.mark.parametrize(
    ("resumed_at", "now", "reason"),
    [
        (None, after(2), "missed"),
        (after(3), after(3), ""),
        (after(3.9), after(4.1), "deadline"),
        (after(6), after(6), "campaign_paused"),
    ],
)
def test_a_run_that_was_paused_before_its_audience_was_asked_for(
    resumed_at: datetime | None, now: datetime, reason: str
) -> None:
    assert replace(run(), resumed_at=resumed_at).missed_reason(now) == reason

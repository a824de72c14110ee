"""Everything a campaign's times can come to for one person, around changes of the clocks, against a plain reckoning."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.support.timeline_oracle import random_timeline, right, said

ZONES = [
    "Africa/Casablanca", "America/Havana", "America/Scoresbysund", "Antarctica/Troll", "Asia/Gaza",
    "Australia/Lord_Howe", "Europe/Berlin", "Pacific/Apia", "Pacific/Kiritimati",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_as_a_plain_reckoning_says(seed: int) -> None:
    draw = random.Random(f"timelines {seed}")
    met: Counter[str] = Counter()
    for _ in range(400):
        timeline = random_timeline(draw, ZONES)
        expected = right(timeline)
        assert said(timeline) == expected, timeline
        met.update(outcome if isinstance(outcome, str) else "sent" for outcome in expected.values())
    assert {"sent", "zone_passed", "skipped_day", "campaign_ended", "missed", "coalesced", "deadline"} <= met.keys()

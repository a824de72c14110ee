"""What a state of a message tells of how far it came."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from postrider.contracts.delivery_events import ACCEPTED_STATUSES, STATUSES, TEST_RUN, MessageChanged
from segment_engine.domain.columns import OutcomeRow, microseconds, outcome_rows

NOW = datetime(2026, 12, 1, 9, 0, 0, 5_000, UTC)


@pytest.mark.parametrize("status", STATUSES)
def test_only_what_a_provider_took_came_anywhere(status: str) -> None:
    rows = outcome_rows(MessageChanged("m", "cmp", "run", "once", "u", status, 3, NOW, NOW))
    expected = ["accepted"] if status in ACCEPTED_STATUSES else []
    if status == "delivered":
        expected.append("delivered")
    assert rows == [OutcomeRow("cmp", what, "u", "m", microseconds(NOW)) for what in expected]


def test_a_test_send_is_no_text_of_the_campaign() -> None:
    assert outcome_rows(MessageChanged("m", "cmp", TEST_RUN, "test", "u", "delivered", 3, NOW, NOW)) == []

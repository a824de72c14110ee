"""Which settlements are written by the short statement: only what it would write in the very same words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from dispatcher.domain.ledger import Event, State
from dispatcher.domain.message import Message
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.store.settles import alike

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MESSAGE = Message(
    "0" * 32, "cmp_1", "run_1", "", "u-1", 1, 1, "+15551000001", "US", b"{}", "", NOW, NOW, (), "discard",
    "cmp_1|1|US|", State.SUBMITTING, "", "", 1, "prv_a", "", (), NOW, None, 0, "Hi", "GSM-7", 1, 0, "mark", "origin",
)  # fmt: skip
ATTEMPT = Attempt(1, "prv_a", NOW, "accepted", "", "SM1")
PLAIN = Settlement(MESSAGE, Event.ACCEPT, attempt=ATTEMPT, provider_message_id="SM1")


def test_an_acceptance_of_which_nothing_else_is_to_be_said_is_plain() -> None:
    assert PLAIN.is_plain_acceptance


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAIN, attempt=replace(ATTEMPT, code="queued")),
        replace(PLAIN, attempt=replace(ATTEMPT, started_at=NOW + timedelta(seconds=1))),
        replace(PLAIN, attempt=replace(ATTEMPT, provider_message_id="SM2")),
        replace(PLAIN, attempt=None),
        replace(PLAIN, suppress="provider_opt_out"),
        replace(PLAIN, reason="why"),
        replace(PLAIN, cause="rejected"),
        replace(PLAIN, tried=("prv_a",)),
        replace(PLAIN, next_at=NOW),
        replace(PLAIN, attempts_taken_back=1),
        replace(PLAIN, event=Event.DOUBT),
    ],
)
def test_whatever_says_more_is_written_in_full(other: Settlement) -> None:
    assert not other.is_plain_acceptance
    assert alike([other, PLAIN, other]) == [[PLAIN], [other, other]]


def test_a_batch_of_one_kind_stays_one_transaction() -> None:
    assert alike([PLAIN, PLAIN]) == [[PLAIN, PLAIN]]
    assert alike([]) == []

"""Which delivery events are counted, which are for others, and which are dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from campaign_api.delivery import MAX_KEY_BYTES, Delivered, decode
from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.delivery_events import FUNNEL_MOVED, MESSAGE_CHANGED, RUN_CHANGED, FunnelMoved, RunChanged
from postrider.contracts.envelope import headers_of

NOW = datetime(2026, 12, 1, tzinfo=UTC)
MOVED = FunnelMoved("cmp_1", "pending", 3)
CHANGED = RunChanged("cmp_1", "run_1", "once", "running", NOW)


@dataclass
class Record:
    value: bytes | None
    headers: Any


def record(event: FunnelMoved | RunChanged, type: str, id: str = "id-1") -> Record:
    return Record(codec.encode(event), headers_of(id, type, "scheduler", NOW))


def test_moves_and_runs_are_counted_and_messages_are_for_others() -> None:
    assert decode(record(MOVED, FUNNEL_MOVED)) == Delivered("id-1", MOVED)
    assert decode(record(CHANGED, RUN_CHANGED)) == Delivered("id-1", CHANGED)
    assert decode(record(MOVED, MESSAGE_CHANGED)) is None


def long_move(letter: str) -> FunnelMoved:
    return FunnelMoved(letter * 128, "pending", 1, letter * 128, letter * 128, "", letter * 128, letter * 128, "r")


@pytest.mark.parametrize(
    "poison",
    [
        record(MOVED, FUNNEL_MOVED, ""),
        record(MOVED, FUNNEL_MOVED, "\x00"),
        record(MOVED, FUNNEL_MOVED, "x" * (MAX_KEY_BYTES + 1)),
        record(MOVED, FUNNEL_MOVED, "é" * (MAX_KEY_BYTES // 2 + 1)),
        record(MOVED, "funnel.turned"),
        record(MOVED, ""),
        record(FunnelMoved("cmp_1", "lost", 3), FUNNEL_MOVED),
        record(FunnelMoved("cmp_1", "pending", 3, from_status="found"), FUNNEL_MOVED),
        record(long_move("\U0001f4ee"), FUNNEL_MOVED),
        record(RunChanged("cmp_1", "\x00", "once", "running", NOW), RUN_CHANGED),
    ],
)
def test_what_the_tables_would_refuse_is_a_dead_letter_and_fails_no_batch(poison: Record) -> None:
    with pytest.raises(Unreadable):
        decode(poison)


def test_the_longest_names_in_ascii_are_counted() -> None:
    assert decode(record(long_move("x"), FUNNEL_MOVED)) == Delivered("id-1", long_move("x"))

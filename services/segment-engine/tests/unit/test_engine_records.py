"""What a table would refuse is refused when the record is decoded: a planned group cannot give a batch up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postrider.contracts import codec
from postrider.contracts.audience import UNEXPANDED_SETTLED, UnexpandedSettled
from postrider.contracts.codec import Unreadable
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.envelope import headers_of
from postrider.contracts.suppressions import SUPPRESSION_CHANGED, SuppressionChanged
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.loops.audience_intake import AudienceIntake, WakeUps
from segment_engine.loops.messages import Messages
from segment_engine.loops.suppressions import Suppressions

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
NAIVE = datetime(2026, 12, 1, 9)  # noqa: DTZ001  # a time without an offset is what is refused


STORE = ChdbStore(Path("never-opened"))


@dataclass
class Record:
    value: bytes
    headers: Any = field(default_factory=list)
    topic: str = "topic"
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


def record(data: msgspec.Struct, type: str) -> Record:
    return Record(codec.encode(data), headers_of("id", type, "test", NOW))


def changed(**changes: Any) -> MessageChanged:
    message = MessageChanged("m", "cmp", "run", "once", "u", "sent", 1, NOW, NOW)
    return msgspec.structs.replace(message, **changes)


@pytest.mark.parametrize(
    "changes", [{"seq": -1}, {"seq": 2**63}, {"parts": -1}, {"parts": 65_536}, {"at": NAIVE}, {"due_at": NAIVE}]
)
def test_a_message_that_the_log_cannot_keep_is_unreadable(changes: dict[str, Any]) -> None:
    log = Messages(STORE)
    assert log.decode(record(changed(), MESSAGE_CHANGED)) == changed()
    with pytest.raises(Unreadable, match=next(iter(changes))):
        log.decode(record(changed(**changes), MESSAGE_CHANGED))


@pytest.mark.parametrize("changes", [{"version": -1}, {"version": 2**63}, {"phone_hash": "\x00"}, {"reason": "a\x00"}])
def test_a_suppression_that_no_table_can_keep_is_passed_over(changes: dict[str, Any]) -> None:
    """The topic is compacted: it has no dead letters."""
    suppressions = Suppressions(STORE)
    change = SuppressionChanged("aa", True, 1, "opted_out", "test", NOW)
    assert suppressions.decode(record(change, SUPPRESSION_CHANGED)) == change
    assert suppressions.decode(record(msgspec.structs.replace(change, **changes), SUPPRESSION_CHANGED)) is None


@pytest.mark.parametrize("changes", [{"at": NAIVE}, {"zones": {"UTC": -1}}, {"zones": {"UTC": 2**63}}])
def test_a_settlement_that_cannot_be_written_is_unreadable(changes: dict[str, Any]) -> None:
    settled = UnexpandedSettled("run", "cmp", "once", {"UTC": 3}, "cancelled", "stopped", NOW)
    intake = AudienceIntake(WakeUps())
    assert intake.decode(record(settled, UNEXPANDED_SETTLED)) is not None
    with pytest.raises(Unreadable, match=next(iter(changes))):
        intake.decode(record(msgspec.structs.replace(settled, **changes), UNEXPANDED_SETTLED))

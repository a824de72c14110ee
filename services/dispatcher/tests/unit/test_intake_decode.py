"""Which records become jobs, and which are dead letters."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from dispatcher.domain.message import parse_reference, reference
from dispatcher.intake import decode
from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import headers_of
from postrider.contracts.send_jobs import SEND_JOB, Interval, SendJob

NOW = datetime(2026, 12, 1, tzinfo=UTC)
NAMES = ("campaign_id", "run_id", "occurrence", "user_id", "zone", "message_class", "country", "on_hit", "variant")
JOB = SendJob("0" * 32, "cmp_1", "run_1", "once", "u-1", 1, "+15550100", "UTC", NOW, NOW, "transactional")


@dataclass
class Record:
    value: bytes | None
    headers: Any


def record(job: SendJob, type: str = SEND_JOB) -> Record:
    return Record(codec.encode(job), headers_of("id", type, "scheduler", NOW))


def test_a_job_is_read() -> None:
    assert decode(record(JOB)) == JOB


@pytest.mark.parametrize("type", ["something.else", ""])
def test_another_type_is_no_job_and_is_not_lost_in_silence(type: str) -> None:
    with pytest.raises(Unreadable, match="the type is not"):
        decode(record(JOB, type))


@pytest.mark.parametrize(
    "change",
    [
        {"message_id": "not-hex"},
        {"message_id": "A" * 32},
        {"phone": "5550100"},
        {"phone": "+1555\u0660100"},
        {"campaign_id": "a|b"},
        {"due_at": datetime(2026, 12, 1, tzinfo=timezone(timedelta(hours=1)))},
        {"send_by": datetime(2026, 12, 1)},  # noqa: DTZ001
        {"allowed": [Interval(NOW, datetime(2026, 12, 1, tzinfo=timezone(timedelta(hours=1))))]},
        {"allowed": [Interval(NOW, NOW)] * 1_001},
        {"what_version": -1},
        {"what_version": 2**31},
        {"send_by": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)},
        {"due_at": datetime(1, 1, 1, tzinfo=UTC)},
        {"profile": {"nul": ["a\x00b"]}},
        {"event": {"a\x00b": 1}},
        *({name: "x\x00"} for name in NAMES),
        *({name: "x" * 1_025} for name in NAMES),
    ],
)
def test_what_could_never_be_sent_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        decode(record(msgspec.structs.replace(JOB, **change)))


@pytest.mark.parametrize(
    "change",
    [
        {"send_by": datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)},
        {"send_by": datetime(1900, 1, 1, tzinfo=UTC)},
        {"allowed": [Interval(NOW, NOW - timedelta(days=1))]},
        {"profile": {"number": 10**30, "deep": {"a": [[{}]]}}},
    ],
)
def test_what_is_odd_and_can_be_kept_is_read(change: dict[str, Any]) -> None:
    job = msgspec.structs.replace(JOB, **change)
    assert decode(record(job)) == job


def test_a_reference_is_read_back_and_nothing_else_is() -> None:
    assert parse_reference(reference("0" * 32, 3)) == ("0" * 32, 3)
    for text in (None, "", "x.1", "0" * 32, "0" * 32 + ".", "0" * 32 + ".x", "0" * 32 + ".٣", "G" * 32 + ".1"):
        assert parse_reference(text) is None

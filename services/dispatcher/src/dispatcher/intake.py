"""Send jobs from Kafka into the ledger. Kafka carries them here; from here on Postgres is the work queue.

A job is inserted once by its message id; workers are woken after the commit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import metrics
from dispatcher.domain.message import LANES, lane_of
from dispatcher.store import intake
from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import Outgoing, type_of
from postrider.contracts.send_jobs import SEND_JOB, SendJob
from postrider.kafka.loop import Batch, ConsumerRecord
from postrider.phones import phone_hash

_MESSAGE_ID = re.compile(r"[0-9a-f]{32}")
_E164 = re.compile(r"\+[1-9][0-9]{4,17}")
_LONGEST = 1_024
"""Characters of an id or name; what may go into the ledger also fits into every record that tells of it."""
_MOST_INTERVALS = 1_000
_HIGHEST_VERSION = 2**31 - 1


def decode(record: ConsumerRecord) -> SendJob:
    """Raises Unreadable for what could never be sent."""
    if type_of(record.headers) != SEND_JOB:
        raise Unreadable(f"the type is not {SEND_JOB}")
    job = codec.decode(record.value, SendJob)
    if not _MESSAGE_ID.fullmatch(job.message_id):
        raise Unreadable("message_id is not 32 hex digits")
    if not _E164.fullmatch(job.phone):
        raise Unreadable("phone is not E.164")
    if "|" in job.campaign_id or "|" in (job.country or ""):
        raise Unreadable("campaign_id or country has a character that names never have")
    words = (
        job.campaign_id, job.run_id, job.occurrence, job.user_id, job.zone, job.message_class, job.country or "",
        job.on_hit, job.variant,
    )  # fmt: skip
    if max(map(len, words)) > _LONGEST:
        raise Unreadable(f"a name is longer than {_LONGEST} characters")
    if not 0 <= job.what_version <= _HIGHEST_VERSION:
        raise Unreadable("what_version is out of range")
    if len(job.allowed) > _MOST_INTERVALS:
        raise Unreadable(f"more than {_MOST_INTERVALS} intervals")
    if not (_is_utc(job.due_at) and _is_utc(job.send_by)):
        raise Unreadable("a time is not in UTC")
    if not all(_is_utc(each.start) and _is_utc(each.end) for each in job.allowed):
        raise Unreadable("a time is not in UTC")
    return job


def _is_utc(moment: datetime) -> bool:
    return moment.tzinfo is UTC or moment.utcoffset() == timedelta(0)


class Intake:
    """The handler of one lane's consumer loop: `lane` is Kafka's, which keeps a million scheduled jobs out of the way
    of live ones. In the ledger transactional texts have a lane of their own, whichever way they came."""

    def __init__(self, lane: int, hash_key: bytes, on_new: Callable[[set[tuple[int, str]]], None]) -> None:
        self._lane = lane
        self._hash_key = hash_key
        self._on_new = on_new
        self._queues: set[tuple[int, str]] = set()

    async def handle(self, tx: AsyncConnection, batch: Batch[SendJob]) -> Sequence[Outgoing]:
        by_lane: dict[int, dict[str, SendJob]] = {}
        read: Counter[int] = Counter()
        for record in batch.records:
            job = record.value
            lane = lane_of(self._lane, job.message_class)
            by_lane.setdefault(lane, {})[job.message_id] = job
            read[lane] += 1
        self._queues = set()
        for lane, jobs in by_lane.items():
            hashed = [(job, bytes.fromhex(phone_hash(job.phone, self._hash_key))) for job in jobs.values()]
            new, queues = await intake.insert(tx, lane, hashed)
            self._queues |= {(lane, queue) for queue in queues}
            metrics.JOBS.labels(LANES[lane], "new").inc(new)
            metrics.JOBS.labels(LANES[lane], "repeated").inc(read[lane] - new)
        return ()

    async def after_commit(self) -> None:
        self._on_new(self._queues)

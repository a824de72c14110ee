"""What happened, as far as anybody outside can see it: what the oracle is held against. Decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from postrider.contracts import codec
from postrider.contracts.delivery_events import (
    FUNNEL_MOVED,
    MESSAGE_CHANGED,
    RUN_CHANGED,
    FunnelMoved,
    MessageChanged,
    RunChanged,
)
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.send_jobs import SEND_JOB, SendJob

Key = tuple[str, str, str]
"""Campaign, occurrence, user."""


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the message log: the scheduler's own (`seq` 0), or one of the dispatcher's that it has taken in."""

    at: datetime
    row: MessageChanged

    @property
    def key(self) -> Key:
        return (self.row.campaign_id, self.row.occurrence, self.row.user_id)


@dataclass
class Story:
    """`ticks`: the moments at which a scheduler looked. `log`: in the order of commits."""

    ticks: list[datetime] = field(default_factory=list)
    log: list[Told] = field(default_factory=list)
    jobs: dict[Key, list[SendJob]] = field(default_factory=dict)
    funnel: dict[str, Counter[str]] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[RunChanged]] = field(default_factory=dict)
    _moves: set[str] = field(default_factory=set)

    def published(self, records: Sequence[Outgoing], now: datetime) -> None:
        """What a transaction of the scheduler said."""
        for record in records:
            envelope = envelope_of(record.headers)
            value = record.value or b""
            if envelope.type == SEND_JOB:
                job = codec.decode(value, SendJob)
                key = (job.campaign_id, job.occurrence, job.user_id)
                self.jobs.setdefault(key, []).append(job)
            elif envelope.type == MESSAGE_CHANGED:
                self.log.append(Told(now, codec.decode(value, MessageChanged)))
            elif envelope.type == RUN_CHANGED:
                changed = codec.decode(value, RunChanged)
                self.runs.setdefault((changed.campaign_id, changed.occurrence), []).append(changed)
            elif envelope.type == FUNNEL_MOVED and envelope.id not in self._moves:
                self._moves.add(envelope.id)
                self._move(codec.decode(value, FunnelMoved))

    def _move(self, move: FunnelMoved) -> None:
        counts = self.funnel.setdefault(move.campaign_id, Counter())
        counts[move.to_status] += move.n
        if move.from_status:
            counts[move.from_status] -= move.n

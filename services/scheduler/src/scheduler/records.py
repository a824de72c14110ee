"""What the scheduler publishes, with topic, key, id and stage. Decides nothing.

Ids are deterministic where a repeat is possible, so that readers drop it. Stages: what is said about people (moves,
log rows, run states) is acknowledged before the jobs and requests it speaks of.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from postrider.contracts.audience import (
    SNAPSHOT_REQUESTED,
    UNEXPANDED_SETTLED,
    ZONE_REQUESTED,
    SnapshotRequested,
    UnexpandedSettled,
    ZoneRequested,
)
from postrider.contracts.delivery_events import (
    FUNNEL_MOVED,
    MESSAGE_CHANGED,
    RUN_CHANGED,
    FunnelMoved,
    MessageChanged,
)
from postrider.contracts.envelope import Outgoing
from postrider.contracts.send_jobs import SEND_JOB, SendJob
from postrider.contracts.topics import AUDIENCE_REQUESTS, DELIVERY_EVENTS, SEND_JOBS, SEND_JOBS_BULK, Topic
from postrider.postgres.outbox import Outbox
from scheduler.domain.moves import RunName
from scheduler.domain.run_states import RunState
from scheduler.domain.runs import Run

TOLD, ORDERED = 0, 1
SOURCE = "scheduler"
"""Of every record, in its envelope."""


class Records:
    """Builds outgoing records; nothing is published until they are in the outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def moves(self, moves: Iterable[FunnelMoved], cause: str | None) -> list[Outgoing]:
        """`cause` names what moved them, once and for all; None where that has no name (a batch of live people)."""
        return [
            self._outbox.outgoing(
                DELIVERY_EVENTS, move.campaign_id, FUNNEL_MOVED, move, f"{cause}:{index}" if cause else None, TOLD
            )
            for index, move in enumerate(moves)
        ]

    def messages(self, messages: Iterable[MessageChanged]) -> list[Outgoing]:
        each = ((row.user_id, row, f"{row.message_id}:{row.seq}") for row in messages)
        return self._outbox.outgoing_all(DELIVERY_EVENTS, MESSAGE_CHANGED, each, TOLD)

    def run_changed(self, run: Run, at: datetime) -> Outgoing:
        """A run may be planned again after an edit: the definition's version tells one planning from the other."""
        id = f"{run.name.run_id}:{run.state}"
        if run.state in (RunState.PLANNED, RunState.REMOVED):
            id += f":{run.definition.version}"
        return self._outbox.outgoing(DELIVERY_EVENTS, run.name.campaign_id, RUN_CHANGED, run.changed(at), id, TOLD)

    def bulk_jobs(self, jobs: Iterable[SendJob]) -> list[Outgoing]:
        return self._jobs(SEND_JOBS_BULK, jobs)

    def live_jobs(self, jobs: Iterable[SendJob]) -> list[Outgoing]:
        return self._jobs(SEND_JOBS, jobs)

    def _jobs(self, lane: Topic, jobs: Iterable[SendJob]) -> list[Outgoing]:
        each = ((job.user_id, job, job.message_id) for job in jobs)
        return self._outbox.outgoing_all(lane, SEND_JOB, each, ORDERED)

    def snapshot_requested(self, request: SnapshotRequested) -> Outgoing:
        id = f"{request.run_id}:snapshot"
        return self._outbox.outgoing(AUDIENCE_REQUESTS, request.run_id, SNAPSHOT_REQUESTED, request, id, ORDERED)

    def zone_requested(self, request: ZoneRequested) -> Outgoing:
        id = f"{request.run_id}:{request.zone}"
        return self._outbox.outgoing(AUDIENCE_REQUESTS, request.run_id, ZONE_REQUESTED, request, id, ORDERED)

    def unexpanded(
        self, name: RunName, zones: dict[str, int], status: str, reason: str, at: datetime, cause: str
    ) -> list[Outgoing]:
        """Nothing when there is nobody to settle."""
        if not zones:
            return []
        settled = UnexpandedSettled(name.run_id, name.campaign_id, name.occurrence, zones, status, reason, at)
        id = f"{cause}:unexpanded"
        return [self._outbox.outgoing(AUDIENCE_REQUESTS, name.run_id, UNEXPANDED_SETTLED, settled, id, ORDERED)]

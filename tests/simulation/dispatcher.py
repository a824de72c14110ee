"""The dispatcher, played: each job ends in one of the ways a text can end, at once or hours later.

What it says of a text is what the real one says (`tests/simulation/conformance.py`): whole rows with a growing
`seq`, attempts from the first call on, and nothing after a final state but receipts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush

from postrider.contracts import codec
from postrider.contracts.delivery_events import MESSAGE_CHANGED, AttemptSummary, MessageChanged
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.send_jobs import SendJob
from postrider.contracts.topics import DELIVERY_EVENTS
from tests.simulation.plans import Plan

ENDS = [*["accepted"] * 12, "rejected", "rejected", "unknown", "accepted_late", "accepted_late", "refuted", "refuted"]
DOUBT_LASTS = timedelta(minutes=45)


@dataclass
class Text:
    job: SendJob
    seq: int = 0
    status: str = "pending"
    attempts: list[AttemptSummary] = field(default_factory=list)
    end: str = ""


@dataclass
class PlayedDispatcher:
    """`texts` by message id. `sent_at`: when those that may have been sent left."""

    plans: dict[str, Plan]
    prefix: str
    seed: int
    texts: dict[str, Text] = field(default_factory=dict)
    sent_at: dict[str, datetime] = field(default_factory=dict)
    _agenda: list[tuple[datetime, str]] = field(default_factory=list)
    _news: list[tuple[datetime, str]] = field(default_factory=list)
    """Heaps of (when, message id): texts that wait for their turn, and those of which something will be heard."""

    def take(self, job: SendJob) -> None:
        """A repeat changes nothing."""
        if job.message_id not in self.texts:
            self.texts[job.message_id] = Text(job)
            heappush(self._agenda, (job.due_at, job.message_id))

    def next_at(self) -> datetime | None:
        """What will be heard of texts that are out wakes nobody while others wait."""
        coming = self._agenda or self._news
        return coming[0][0] if coming else None

    def turn(self, now: datetime) -> list[Outgoing]:
        due = []
        for agenda in (self._agenda, self._news):
            while agenda and agenda[0][0] <= now:
                due.append(heappop(agenda)[1])
        return [said for message_id in due for said in self._work(self.texts[message_id], now)]

    def _work(self, text: Text, now: datetime) -> list[Outgoing]:
        if text.status == "in_doubt":
            return [self._settle_doubt(text, now)]
        if text.status == "awaiting_receipt":
            return [self._say(text, "delivered", now)]
        job = text.job
        version = self.plans[job.campaign_id].version_at(now)
        assert version is not None
        if version.status == "stopped":
            return [self._say(text, "cancelled", now, "campaign_stopped")]
        if now >= job.send_by:
            return [self._say(text, "expired", now, "deadline")]
        if version.status == "paused":
            changes = [other.at for other in self.plans[job.campaign_id].versions if other.at > now]
            heappush(self._agenda, (min([*changes, job.send_by]), job.message_id))
            return []
        begins = [max(stretch.start, now) for stretch in job.allowed if stretch.end > now] if job.allowed else [now]
        if not begins:
            missed = "quiet_hours" if job.on_hit == "discard" else "expired"
            return [self._say(text, missed, now, "quiet_hours")]
        if begins[0] > now:
            heappush(self._agenda, (begins[0], job.message_id))
            return []
        return self._submit(text, now)

    def _submit(self, text: Text, now: datetime) -> list[Outgoing]:
        chance = random.Random(f"{self.seed} {text.job.message_id}")
        text.end = chance.choice(ENDS)
        at = now + timedelta(milliseconds=chance.randrange(800))
        if text.end == "rejected":
            text.attempts.append(AttemptSummary(1, "prv_1", "rejected", at))
            return [self._say(text, "rejected", at)]
        self.sent_at[text.job.message_id] = at
        if text.end == "accepted":
            text.attempts.append(AttemptSummary(1, "prv_1", "accepted", at))
            return [self._say(text, "awaiting_receipt", at, later=now + timedelta(minutes=chance.randrange(1, 900)))]
        text.attempts.append(AttemptSummary(1, "prv_1", "submitting", at))
        return [self._say(text, "in_doubt", at, later=now + DOUBT_LASTS * chance.randrange(1, 20))]

    def _settle_doubt(self, text: Text, now: datetime) -> Outgoing:
        if text.end == "unknown":
            return self._say(text, "unknown", now)
        if text.end == "accepted_late":
            return self._say(text, "awaiting_receipt", now, later=now + DOUBT_LASTS)
        del self.sent_at[text.job.message_id]  # a look-up found that it never came
        return self._say(text, "expired", now, "deadline")

    def _say(self, text: Text, status: str, at: datetime, reason: str = "", later: datetime | None = None) -> Outgoing:
        job = text.job
        text.seq, text.status = text.seq + 1, status
        if later is not None:
            heappush(self._news, (later, job.message_id))
        row = MessageChanged(
            message_id=job.message_id, campaign_id=job.campaign_id, run_id=job.run_id, occurrence=job.occurrence,
            user_id=job.user_id, status=status, seq=text.seq, at=at, due_at=job.due_at, reason=reason,
            attempts=list(text.attempts),
        )  # fmt: skip
        headers = headers_of(f"{job.message_id}:{text.seq}", MESSAGE_CHANGED, "dispatcher", at)
        return Outgoing(DELIVERY_EVENTS.full_name(self.prefix), job.user_id.encode(), codec.encode(row), headers)

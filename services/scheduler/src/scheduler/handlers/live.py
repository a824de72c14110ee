"""Qualified users → send jobs of the live lane, once for each (campaign, occurrence, user). Handler of the live lane.

Must not decide what a verdict or a campaign's state means for a person (`domain.jobs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.send_jobs import SendJob
from postrider.kafka.loop import Batch, ConsumerRecord
from scheduler import metrics
from scheduler.domain.gate import Candidate, Leave, Terms, terms_of
from scheduler.domain.jobs import live_candidate, live_job, live_message, live_message_id
from scheduler.domain.moves import live_moves
from scheduler.domain.settled import Settled
from scheduler.handlers.gate import let_through
from scheduler.records import Records
from scheduler.store import run_rows

CONFIRM_SECONDS = 4.0
"""Less than a transaction may stand still."""


def decode(record: ConsumerRecord) -> QualifiedUser:
    """Raises `Unreadable`."""
    if envelope_of(record.headers).type != QUALIFIED:
        raise Unreadable(f"the type is not {QUALIFIED}")
    return codec.decode(record.value, QualifiedUser)


class Definitions(Protocol):
    """What is known of campaigns and settings. `wait_until_confirmed`: all of the log as it is now has been read."""

    @property
    def campaigns(self) -> Mapping[str, CampaignDefinition]: ...
    @property
    def settings(self) -> AccountSettings: ...
    async def wait_until_confirmed(self) -> None: ...


class LiveQualifications:
    """`handle` is the loop's handler."""

    def __init__(self, records: Records, definitions: Definitions) -> None:
        self._records = records
        self._definitions = definitions
        self._known: dict[str, tuple[tuple[int, int], Terms]] = {}

    async def handle(self, tx: AsyncConnection, batch: Batch[QualifiedUser]) -> Sequence[Outgoing]:
        by_message: dict[str, QualifiedUser] = {}
        for record in batch.records:
            by_message.setdefault(live_message_id(record.value), record.value)
        new = await run_rows.new_live_sends(tx, list(by_message))
        metrics.LIVE_REPEATS.inc(len(batch.records) - len(new))
        qualified = [user for message_id, user in by_message.items() if message_id in new]
        if not qualified:
            return []
        if any(self._is_behind(user) for user in qualified):
            async with asyncio.timeout(CONFIRM_SECONDS):  # too slow counts as an outage: the batch comes again
                await self._definitions.wait_until_confirmed()
        now = await run_rows.db_now(tx)
        outcomes = await self._decide(tx, qualified, now)
        jobs = [outcome for _, outcome in outcomes if isinstance(outcome, SendJob)]
        metrics.JOBS.labels("live").inc(len(jobs))
        metrics.SETTLED.labels("live").inc(len(outcomes) - len(jobs))
        moved = live_moves((user.campaign_id, outcome) for user, outcome in outcomes)
        return [
            *self._records.moves(moved, cause=None),
            *self._records.messages(live_message(user, outcome, now) for user, outcome in outcomes),
            *self._records.live_jobs(jobs),
        ]

    async def _decide(
        self, tx: AsyncConnection, qualified: list[QualifiedUser], now: datetime
    ) -> list[tuple[QualifiedUser, SendJob | Settled]]:
        campaigns = self._definitions.campaigns
        waiting = [live_candidate(user, campaigns.get(user.campaign_id), now) for user in qualified]
        candidates = [each for each in waiting if isinstance(each, Candidate)]
        asked = [(each, self._terms(campaigns[each.campaign_id])) for each in candidates]
        decided = iter(await let_through(tx, asked, now))
        outcomes: list[tuple[QualifiedUser, SendJob | Settled]] = []
        for user, each in zip(qualified, waiting, strict=True):
            decision = each if isinstance(each, Settled) else next(decided)
            if isinstance(decision, Leave):
                outcomes.append((user, live_job(user, campaigns[user.campaign_id], decision)))
            else:
                outcomes.append((user, decision))
        return outcomes

    def _terms(self, campaign: CampaignDefinition) -> Terms:
        """Made once for a version of the campaign and of the settings: they keep what they worked out."""
        settings = self._definitions.settings
        version = (campaign.version, settings.version)
        known = self._known.get(campaign.campaign_id)
        if known is None or known[0] != version:
            made = terms_of(campaign, settings, settings.account_time_zone, end=campaign.when.end)
            known = self._known[campaign.campaign_id] = version, made
        return known[1]

    def _is_behind(self, user: QualifiedUser) -> bool:
        """The engine knew a newer definition than is in the view here: a text it names could be missing."""
        campaign = self._definitions.campaigns.get(user.campaign_id)
        return campaign is None or campaign.version < user.campaign_version

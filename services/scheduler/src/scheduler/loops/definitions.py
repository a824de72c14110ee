"""Follows the definitions: everything once they are read to the end, then what changes. A component."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.kafka.definitions import Definition, DefinitionsReader
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Outbox
from scheduler import metrics
from scheduler.handlers.campaigns import ENDED_STATUSES, Campaigns
from scheduler.store import run_rows

RETRY_SECONDS = 0.5
WAIT_SECONDS = 0.2


class DefinitionsFollower:
    """Give `on_change` to the reader. `wake` tells the timers that something may be due.

    `aligned` is set when every run is in line with the definitions as they were read to the end: nothing may fire
    before that, or a stop or an edit of the time when this process was away would come too late.
    """

    def __init__(self, database: Database, outbox: Outbox, campaigns: Campaigns, wake: Callable[[], None]) -> None:
        self._database = database
        self._outbox = outbox
        self._campaigns = campaigns
        self._wake = wake
        self.aligned = asyncio.Event()
        self._changed: set[str] = set()
        self._everything = True
        self._something = asyncio.Event()

    def on_change(self, definition: Definition) -> None:
        if isinstance(definition, CampaignDefinition):
            self._changed.add(definition.campaign_id)
        elif isinstance(definition, AccountSettings):
            self._everything = True  # the account's zone
        else:
            return
        self._something.set()

    async def run(self, reader: DefinitionsReader, stop: asyncio.Event) -> None:
        while not stop.is_set() and not await _within(reader.wait_until_read()):
            continue
        while not stop.is_set():
            try:
                await self._follow(reader)
                self.aligned.set()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("definitions_follower_waits", **failure(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await _within(self._something.wait())

    async def _follow(self, reader: DefinitionsReader) -> None:
        everything, self._everything = self._everything, False
        changed, self._changed = self._changed, set()
        self._something.clear()
        try:
            todo = await self._all_that_matter(reader) if everything else changed
            for campaign_id in sorted(todo):
                await self._align(campaign_id, reader)
                self._wake()
        except BaseException:
            self._everything = self._everything or everything
            self._changed |= changed
            raise

    async def _all_that_matter(self, reader: DefinitionsReader) -> set[str]:
        """Campaigns that have not ended, and those with a run that is not over."""
        async with self._database.begin() as tx:
            active = await run_rows.active_campaigns(tx)
        return active | {id for id, campaign in reader.campaigns.items() if campaign.status not in ENDED_STATUSES}

    async def _align(self, campaign_id: str, reader: DefinitionsReader) -> None:
        """A campaign that cannot be planned (a time or zone that means nothing here) holds up no other, nor the
        process, which would find it again at every start."""
        try:
            await self._align_one(campaign_id, reader)
        except Exception as error:
            if is_outage(error):
                raise
            metrics.CAMPAIGNS_UNUSABLE.inc()
            log.error("campaign_unusable", campaign_id=campaign_id, **failure(error))

    async def _align_one(self, campaign_id: str, reader: DefinitionsReader) -> None:
        async with self._database.begin() as tx:
            campaign = reader.campaigns.get(campaign_id)
            outgoing = await self._campaigns.align(tx, campaign_id, campaign, reader.settings)
            pending = await self._outbox.add(tx, outgoing) if outgoing else None
        await self._outbox.publish(pending)


async def _within(waiting: object) -> bool:
    """Whether it came about before it was time to look at the stop signal again."""
    try:
        await asyncio.wait_for(waiting, WAIT_SECONDS)  # type: ignore[arg-type]
    except TimeoutError:
        return False
    return True

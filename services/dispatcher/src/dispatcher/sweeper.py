"""Settles what waits for reasons outside it: a deadline that passed, a campaign stopped, paused or resumed, an opt-out.

Not what makes a stop effective (that is the check at each mark), but what makes it visible at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import metrics
from dispatcher.announcer import Announcer, change_from
from dispatcher.domain.admission import campaign_says, cancel_reason
from dispatcher.store import settles, sweeps
from dispatcher.store.sweeps import Swept
from postrider.contracts.definitions import CampaignDefinition
from postrider.kafka.definitions import DefinitionsReader
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

BATCH = 1_000
DEADLINE_SECONDS = 1.0
HELD_SECONDS = 5.0

Sweep = Callable[[AsyncConnection], Awaitable[Swept]]


class Sweeper:
    """A component (`run`). `on_resumed` hears that texts wait for a claim again."""

    def __init__(
        self,
        database: Database,
        definitions: DefinitionsReader,
        announcer: Announcer,
        on_resumed: Callable[[], None],
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._announcer = announcer
        self._on_resumed = on_resumed
        self._campaigns: set[str] = set()
        self._phones: set[bytes] = set()
        self._wake = asyncio.Event()

    def changed(self, definition: object) -> None:
        """A definition was read; only campaigns that do not send need a sweep."""
        if isinstance(definition, CampaignDefinition) and campaign_says(definition) != "send":
            self.look_at(definition.campaign_id)

    def look_at(self, campaign_id: str) -> None:
        """Texts of this campaign wait although it does not send."""
        self._campaigns.add(campaign_id)
        self._wake.set()

    def suppressed(self, phone_hash: bytes) -> None:
        self._phones.add(phone_hash)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        deadlines_at = held_at = 0.0
        while not stop.is_set():
            try:
                await self._sweep_named()
                if loop.time() >= deadlines_at:
                    deadlines_at = loop.time() + DEADLINE_SECONDS
                    await self._all(lambda tx: sweeps.expire(tx, BATCH))
                if loop.time() >= held_at:
                    held_at = loop.time() + HELD_SECONDS
                    await self._resume()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("sweeping_waits", **failure(error))
                await asyncio.sleep(0.5)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), DEADLINE_SECONDS)
            self._wake.clear()

    async def _sweep_named(self) -> None:
        """What was named stays named until its sweep is through."""
        for campaign_id in list(self._campaigns):
            await self._sweep_campaign(campaign_id)
            self._campaigns.discard(campaign_id)
        for phone_hash in list(self._phones):
            await self._all(lambda tx, each=phone_hash: sweeps.suppress(tx, each, "suppressed", BATCH))  # type: ignore[misc]
            self._phones.discard(phone_hash)

    async def _sweep_campaign(self, campaign_id: str) -> None:
        campaign = self._definitions.campaigns.get(campaign_id)
        match campaign_says(campaign):
            case "cancel":
                reason = cancel_reason(campaign)
                await self._all(lambda tx: sweeps.cancel(tx, campaign_id, reason, BATCH))
            case "hold":
                await self._all(lambda tx: sweeps.hold(tx, campaign_id, BATCH))

    async def _resume(self) -> None:
        async with self._database.begin() as tx:
            held = await sweeps.held_campaigns(tx)
        for campaign_id in held:
            campaign = self._definitions.campaigns.get(campaign_id)
            if campaign_says(campaign) == "send":
                await self._all(lambda tx, id=campaign_id: sweeps.resume(tx, id, BATCH))  # type: ignore[misc]
                self._on_resumed()
            elif campaign_says(campaign) == "cancel":
                await self._sweep_campaign(campaign_id)

    async def _all(self, sweep: Sweep) -> None:
        """Batch after batch, each its own transaction, until nothing is left."""
        while True:
            async with self._database.begin() as tx:
                swept = await sweep(tx)
                if not swept:
                    return
                tried = [message.message_id for message, _, _ in swept if message.attempt > 0]
                history = await settles.history(tx, tried)
                changes = [change_from(before, message) for message, before, _ in swept]
                changed = [
                    self._announcer.changed(message, at, history.get(message.message_id, ()))
                    for message, _, at in swept
                ]
                pending = await self._announcer.add(tx, [*self._announcer.moved(changes), *changed])
            self._announcer.publish_later(pending)
            for message, _, _ in swept:
                metrics.SETTLED.labels(message.state.value).inc()
            if len(swept) < BATCH:
                return

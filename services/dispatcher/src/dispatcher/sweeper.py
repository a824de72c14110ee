"""Settles what waits for reasons outside it: a deadline that passed, a campaign stopped, paused or resumed, an opt-out.

Not what makes a stop effective (that is the check at each call), but what makes it visible at once. Every reason gets
a batch in turn, so that a campaign of a million texts keeps no other waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import metrics
from dispatcher.announcer import Announcer, change_from
from dispatcher.calls import Definitions
from dispatcher.domain.admission import campaign_says, cancel_reason
from dispatcher.domain.fence import CONFIRMED_WITHIN_SECONDS
from dispatcher.domain.ledger import State
from dispatcher.sending import woken_at
from dispatcher.store import settles, sweeps
from dispatcher.store.sweeps import Swept
from postrider.contracts.definitions import CampaignDefinition
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

BATCH = 1_000
NAMED_AT_ONCE = 50
DEADLINE_SECONDS = 1.0
HELD_SECONDS = 5.0
NO_NEWS_SECONDS = 0.05

Sweep = Callable[[AsyncConnection], Awaitable[Swept]]


class Sweeper:
    """A component (`run`). `on_resumed` hears of the queues, (lane, queue), in which texts wait for a claim again."""

    def __init__(
        self,
        database: Database,
        definitions: Definitions,
        announcer: Announcer,
        on_resumed: Callable[[set[tuple[int, str]]], None],
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._announcer = announcer
        self._on_resumed = on_resumed
        self._campaigns: dict[str, None] = {}
        self._phones: dict[bytes, None] = {}
        self._deadlines_at = 0.0
        self._held_at = 0.0
        self._wake = asyncio.Event()

    def changed(self, definition: object) -> None:
        """A definition was read. Which of the campaigns that send were paused before, the ledger knows."""
        if not isinstance(definition, CampaignDefinition):
            return
        if campaign_says(definition) == "send":
            self._held_at = 0.0
            self._wake.set()
        else:
            self.look_at(definition.campaign_id)

    def look_at(self, campaign_id: str) -> None:
        """Texts of this campaign wait although it does not send."""
        self._campaigns[campaign_id] = None
        self._wake.set()

    def suppressed(self, phone_hash: bytes) -> None:
        self._phones[phone_hash] = None
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        with woken_at(stop, self._wake):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if await self._turn():
                    continue
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("sweeping_waits", **failure(error))
                await asyncio.sleep(0.5)
            # What is still named waits for fresh news.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), NO_NEWS_SECONDS if self._campaigns else DEADLINE_SECONDS)
            self._wake.clear()

    async def _turn(self) -> bool:
        """A batch for every reason there is. Whether there may be more to do at once."""
        now = asyncio.get_running_loop().time()
        is_more = False
        if now >= self._deadlines_at:
            is_more = await self._sweep(lambda tx: sweeps.expire(tx, BATCH))
            self._deadlines_at = 0.0 if is_more else now + DEADLINE_SECONDS
        if now >= self._held_at:
            # Before the look: whoever sets it back meanwhile is heard.
            self._held_at = now + HELD_SECONDS
            async with self._database.begin() as tx:
                held = await sweeps.held_campaigns(tx)
            self._campaigns |= dict.fromkeys(each for each in held if self._says(each) != "hold")
        for campaign_id in list(islice(filter(self._is_sure, self._campaigns), NAMED_AT_ONCE)):
            is_more = await self._sweep_campaign(campaign_id) or is_more
        for phone_hash in list(islice(self._phones, NAMED_AT_ONCE)):
            is_more = await self._sweep_phone(phone_hash) or is_more
        return is_more

    def _says(self, campaign_id: str) -> str:
        return campaign_says(self._definitions.campaigns.get(campaign_id))

    def _is_sure(self, campaign_id: str) -> bool:
        """A stop is for good. All else may have changed again, and a campaign that is not known here may be new: that
        takes fresh news."""
        if campaign_id in self._definitions.campaigns and self._says(campaign_id) == "cancel":
            return True
        return self._definitions.confirmed_within(CONFIRMED_WITHIN_SECONDS)

    async def _sweep_campaign(self, campaign_id: str) -> bool:
        """What was named stays named until its sweep is through, and is named anew by what comes meanwhile."""
        campaign = self._definitions.campaigns.get(campaign_id)
        del self._campaigns[campaign_id]
        sweep: Sweep
        match self._says(campaign_id):
            case "cancel":
                sweep = partial(sweeps.cancel, campaign_id=campaign_id, reason=cancel_reason(campaign), limit=BATCH)
            case "hold":
                sweep = partial(sweeps.hold, campaign_id=campaign_id, limit=BATCH)
            case _:
                sweep = partial(sweeps.resume, campaign_id=campaign_id, limit=BATCH)
        is_more = True
        try:
            is_more = await self._sweep(sweep)
        finally:
            if is_more:
                self._campaigns[campaign_id] = None
        return is_more

    async def _sweep_phone(self, phone_hash: bytes) -> bool:
        del self._phones[phone_hash]
        is_more = True
        try:
            is_more = await self._sweep(lambda tx: sweeps.suppress(tx, phone_hash, "suppressed", BATCH))
        finally:
            if is_more:
                self._phones[phone_hash] = None
        return is_more

    async def _sweep(self, sweep: Sweep) -> bool:
        """One batch, in a transaction of its own. Whether it was a whole one."""
        async with self._database.begin() as tx:
            swept = await sweep(tx)
            if not swept:
                return False
            tried = [message.message_id for message, _, _ in swept if message.attempt > 0]
            history = await settles.history(tx, tried)
            changes = [change_from(before, message) for message, before, _ in swept]
            changed = self._announcer.changed(
                (message, at, history.get(message.message_id, ())) for message, _, at in swept
            )
            pending = await self._announcer.add(tx, [*self._announcer.moved(changes), *changed])
        self._announcer.publish_later(pending)
        for message, _, _ in swept:
            metrics.SETTLED.labels(message.state.value).inc()
        waiting = {(message.lane, message.queue) for message, _, _ in swept if message.state is State.QUEUED}
        if waiting:
            self._on_resumed(waiting)
        return len(swept) >= BATCH

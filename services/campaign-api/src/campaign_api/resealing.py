"""After the dispatcher's key was changed: what is sealed to another key than ours is sealed anew. Only the dispatcher
can open it, so it does that (docs/operations.md, "Changing the sealing key"); we keep and publish what comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from campaign_api import metrics
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.sealing import Sealer
from campaign_api.store import resources
from campaign_api.upstream import Part, PartUnavailable, RefusedByPart
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

EVERY_SECONDS = 300.0
SOON_SECONDS = 5.0
"""While something is left to do: the dispatcher may be away, or not restarted yet."""


class Resealing:
    """A component (`run`). `wake`: definitions are waiting to be published."""

    def __init__(self, database: Database, dispatcher: Part, sealer: Sealer, wake: Callable[[], None]) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._sealer = sealer
        self._wake = wake

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            left = 1
            try:
                left = await self.sweep()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("resealing_waits", **failure(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SOON_SECONDS if left else EVERY_SECONDS)

    async def sweep(self) -> int:
        """How many are left that could not be sealed anew."""
        async with self._database.begin() as tx:
            providers = await resources.all_of(tx, "provider")
        stale = [each for each in providers if not self._is_current(each)]
        metrics.TO_RESEAL.set(len(stale))
        left = len(stale)
        for provider in stale:
            try:
                if not await self._reseal(provider):
                    log.warning("dispatcher_has_another_key", provider=provider.id)
                    break  # it is the same for all
            except PartUnavailable:
                break  # said already
            except RefusedByPart as error:
                log.error("resealing_refused", provider=provider.id, **failure(error))
                continue
            left -= 1
            metrics.TO_RESEAL.set(left)
        return left

    def _is_current(self, provider: Resource) -> bool:
        return provider.internal.get("sealed_to") == self._sealer.key_name

    async def _reseal(self, provider: Resource) -> bool:
        """False: the dispatcher seals to another key than we do. Nothing is lost if its answer is."""
        sealed = provider.internal["sealed_credentials"]
        answer = await self._dispatcher.post("/internal/reseal", {"sealed": sealed})
        if answer["sealed_to"] != self._sealer.key_name:
            return False
        async with self._database.begin() as tx:
            await resources.lock_configuration(tx)
            now = await resources.get(tx, "provider", provider.id, for_update=True)
            if now is not None and now.internal["sealed_credentials"] == sealed:
                internal = {**now.internal, "sealed_credentials": answer["sealed"], "sealed_to": answer["sealed_to"]}
                await common.store(tx, replace(now, internal=internal))
        self._wake()
        log.info("credentials_resealed", provider=provider.id)
        return True

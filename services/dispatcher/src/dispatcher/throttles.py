"""Keeps campaigns to their texts per minute: each has a bucket in Postgres that all replicas draw from.

A text is paid for when it is claimed. One that is then not handed over (its provider is full, say) has paid for
nothing: a throttle is an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping

from dispatcher.budget import Budget
from dispatcher.domain.message import Queue
from postrider.clock import Clock
from postrider.contracts.definitions import CampaignDefinition
from postrider.postgres.database import Database

SECONDS = 60.0


class Throttles:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._budgets: dict[str, Budget] = {}

    async def within(self, wants: Mapping[str, int], campaigns: Mapping[str, CampaignDefinition]) -> dict[str, int]:
        """Queue → how many of the texts wanted may be claimed; queues whose campaign has to wait are absent."""
        allowed: dict[str, int] = {}
        left: dict[str, int] = {}
        for name, wanted in wants.items():
            campaign_id = Queue.parse(name).campaign_id
            campaign = campaigns.get(campaign_id)
            if campaign is None or campaign.when.throttle_per_minute is None:
                self._budgets.pop(campaign_id, None)
                allowed[name] = wanted
                continue
            if campaign_id not in left:
                budget = self._budget(campaign_id, campaign.when.throttle_per_minute)
                left[campaign_id] = await budget.available(1, wanted) or 0
            n = min(wanted, left[campaign_id])
            if n:
                allowed[name] = n
                left[campaign_id] -= n
        return allowed

    def spend(self, queue: str, n: int) -> None:
        """So many texts of the queue were claimed."""
        budget = self._budgets.get(Queue.parse(queue).campaign_id)
        if budget is not None:
            # A claim may take longer than the slice it was made on lasts.
            budget.spend(min(n, budget.in_hand()))

    def _budget(self, campaign_id: str, per_minute: int) -> Budget:
        budget = self._budgets.get(campaign_id)
        rate = per_minute / SECONDS
        if budget is None or budget.parts_per_second != rate:
            budget = self._budgets[campaign_id] = Budget(self._database, self._clock, campaign_id, rate)
        return budget

"""Keeps campaigns to their texts per minute: each has a bucket in Postgres that all replicas draw from.

A text is paid for when it is claimed. One that is then not handed over (its call did not begin in time, say) has paid
for nothing: a throttle is an upper bound. No more is claimed ahead than goes out in a second, so that a provider that
was stuck does not get what gathered meanwhile at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import ceil

from dispatcher.budget import Budget
from dispatcher.domain.message import Queue
from postrider.clock import Clock
from postrider.contracts.definitions import CampaignDefinition
from postrider.postgres.database import Database

SECONDS = 60.0
AHEAD_SECONDS = 1.0
MOST_KEPT = 1_000


class Throttles:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._budgets: dict[str, Budget] = {}
        self._waiting: list[Budget] = []

    def begin_turn(self) -> None:
        self._waiting.clear()

    async def hands(self, waiting: Mapping[str, int], campaigns: Mapping[str, CampaignDefinition]) -> dict[str, int]:
        """Of these campaigns, which have a throttle: how many texts may be claimed now. `waiting`: how many of each are
        claimed and not called yet."""
        asked: dict[str, tuple[Budget, int]] = {}
        for campaign_id, n in waiting.items():
            budget = self._budget(campaign_id, campaigns[campaign_id].when.throttle_per_minute or 1)
            room = ceil((budget.parts_per_second or 1) * AHEAD_SECONDS) - n
            if room > 0:
                asked[campaign_id] = budget, room
        found = await asyncio.gather(*(budget.available(1, room) for budget, room in asked.values()))
        hands = dict.fromkeys(waiting, 0)
        for (campaign_id, (_, room)), in_hand in zip(asked.items(), found, strict=True):
            hands[campaign_id] = min(in_hand or 0, room)
        self._waiting += [budget for id, (budget, _) in asked.items() if not hands[id]]
        return hands

    def wait_seconds(self) -> float:
        """Until one of those that had nothing in hand in this turn may have something; infinite without any."""
        return min((budget.wait_seconds for budget in self._waiting), default=float("inf"))

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
            if len(self._budgets) >= MOST_KEPT:
                self._budgets.clear()
            budget = self._budgets[campaign_id] = Budget(self._database, self._clock, campaign_id, rate)
        return budget

"""Filters of campaigns that wait: resolved once for what they are made of, and nobody passes one that fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from postrider.clock import SystemClock
from postrider.contracts.definitions import (
    AccountSettings,
    CampaignDefinition,
    References,
    SegmentDefinition,
    Trigger,
    Unless,
    What,
    When,
    Who,
)
from postrider.rules import Rule
from segment_engine.domain.live_campaigns import LiveCampaigns
from segment_engine.domain.waits import Kept, Row
from segment_engine.event_store.port import EvaluationContext, EventStore, StoreFailed
from segment_engine.loops.wait_filters import STORE_ATTEMPTS, WaitFilters

ROWS = [Row(("cmp_1", f"u-{n}", ""), 0, 1, Kept(1, None, b"")) for n in (1, 2)]


def campaign() -> CampaignDefinition:
    trigger = Trigger("Cart", unless=Unless("Bought"), within_seconds=60)
    return CampaignDefinition(
        "cmp_1", 1, "running", "live_inaction", "n", "transactional", When(send_by_seconds=900),
        Who(trigger=trigger, filter={"in_segment": "seg_1"}), 1, {"1": What("Hi", References())},
        datetime(2026, 12, 1, tzinfo=UTC),
    )  # fmt: skip


def segment(plan: str) -> SegmentDefinition:
    return SegmentDefinition("seg_1", 1, "Plan", {"attribute": {"name": "plan", "op": "eq", "value": plan}})


class Definitions:
    def __init__(self) -> None:
        self.segments = {"seg_1": segment("gold")}
        self.settings = AccountSettings()


class Store:
    """Lets the first one pass, and remembers the rules it was asked about."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.fails = False

    async def matching(self, rule: Rule, context: EvaluationContext, users: Sequence[str]) -> set[str]:
        self.rules.append(rule)
        if self.fails:
            raise StoreFailed("no")
        return {users[0]}


async def remembered() -> bool:
    return True


def filters(store: Store, definitions: Definitions) -> WaitFilters:
    return WaitFilters(cast(EventStore, cast(Any, store)), definitions, SystemClock())


async def test_a_rule_is_resolved_again_only_when_what_it_is_made_of_has_changed() -> None:
    store, definitions = Store(), Definitions()
    wanted = filters(store, definitions)
    campaigns = LiveCampaigns([campaign()], "UTC")
    for _ in range(2):
        found = await wanted.evaluate(campaigns, ROWS, remembered)
        assert found["cmp_1"].asked == {"u-1", "u-2"}
        assert found["cmp_1"].passed == {"u-1"}
    assert store.rules[0] is store.rules[1]
    definitions.segments["seg_1"] = segment("tin")
    await wanted.evaluate(campaigns, ROWS, remembered)
    assert store.rules[2] != store.rules[0]
    edited = msgspec.structs.replace(campaign(), who=msgspec.structs.replace(campaign().who, filter={"all": []}))
    await wanted.evaluate(LiveCampaigns([edited], "UTC"), ROWS, remembered)
    assert store.rules[3] not in store.rules[:3]


async def test_a_filter_that_cannot_be_evaluated_lets_nobody_pass() -> None:
    store, definitions = Store(), Definitions()
    wanted, campaigns = filters(store, definitions), LiveCampaigns([campaign()], "UTC")
    store.fails = True
    for _ in range(STORE_ATTEMPTS - 1):
        assert await wanted.evaluate(campaigns, ROWS, remembered) == {}
    assert (await wanted.evaluate(campaigns, ROWS, remembered))["cmp_1"].passed == set()
    store.fails = False
    assert (await wanted.evaluate(campaigns, ROWS, remembered))["cmp_1"].passed == {"u-1"}
    del definitions.segments["seg_1"]
    assert (await wanted.evaluate(campaigns, ROWS, remembered))["cmp_1"].passed == set()

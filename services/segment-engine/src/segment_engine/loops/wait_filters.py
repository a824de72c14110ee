"""The filters of live campaigns, evaluated for those whose timers are due: one query per campaign and batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postrider.clock import Clock
from postrider.logs import failure, log
from postrider.rules import Rule, RuleErrors
from segment_engine import metrics
from segment_engine.domain.firing import Evaluated
from segment_engine.domain.live_campaigns import LiveCampaign, LiveCampaigns
from segment_engine.domain.waits import Row
from segment_engine.event_store.port import EventStore, StoreFailed, StoreUnavailable
from segment_engine.loops.evaluation import Definitions, SegmentUnknown, Used, context_of, rule_of

STORE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Resolved:
    """`rule` is what `filter` means as long as the segments it names are these."""

    filter: Mapping[str, Any] | None
    segments: Used
    rule: Rule


class WaitFilters:
    """A filter that cannot be evaluated lets nobody pass: the alternative is a text to people it was to spare."""

    def __init__(self, store: EventStore, definitions: Definitions, clock: Clock) -> None:
        self._store = store
        self._definitions = definitions
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._rules: dict[str, _Resolved] = {}
        """By campaign."""

    async def evaluate(
        self, campaigns: LiveCampaigns, rows: Sequence[Row], remembered: Callable[[], Awaitable[bool]]
    ) -> dict[str, Evaluated]:
        """By campaign. `remembered` is awaited first when there is anything to evaluate; False from it: not now."""
        asked: dict[str, set[str]] = {}
        for row in rows:
            campaign = campaigns.waiting.get(row.id[0])
            if campaign is not None and campaign.definition.who.filter is not None:
                asked.setdefault(campaign.id, set()).add(row.id[1])
        if not asked or not await remembered():
            return {}
        self._rules = {id: rule for id, rule in self._rules.items() if id in campaigns.waiting}
        found = {}
        for id, users in asked.items():
            passed = await self._passing(campaigns.waiting[id], sorted(users))
            if passed is not None:
                found[id] = Evaluated(frozenset(users), frozenset(passed))
        return found

    async def _passing(self, campaign: LiveCampaign, users: Sequence[str]) -> set[str] | None:
        """None: try again. Raises `StoreUnavailable`."""
        try:
            rule = self._rule_of(campaign)
            passed = await self._store.matching(rule, context_of(self._definitions, self._clock), users)
        except StoreUnavailable:
            raise
        except (RuleErrors, SegmentUnknown, StoreFailed) as error:
            attempts = self._failures[campaign.id] = self._failures.get(campaign.id, 0) + 1
            log.error("filter_failed", campaign_id=campaign.id, attempts=attempts, **failure(error))
            if isinstance(error, StoreFailed) and attempts < STORE_ATTEMPTS:
                return None
            metrics.FILTERS_FAILED.inc()
            return set()
        self._failures.pop(campaign.id, None)
        return passed

    def _rule_of(self, campaign: LiveCampaign) -> Rule:
        """Definitions are replaced whole: the same object is the same version."""
        filter, segments = campaign.definition.who.filter, self._definitions.segments
        known = self._rules.get(campaign.id)
        if (
            known is not None
            and known.filter is filter
            and all(segments.get(id) is segment for id, segment in known.segments.items())
        ):
            return known.rule
        used: Used = {}
        rule = rule_of(self._definitions, filter, None, used)
        self._rules[campaign.id] = _Resolved(filter, used, rule)
        return rule

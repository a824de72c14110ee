"""Which occurrence of a campaign gets its run next. Pure: the runs there are come as names and states."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final

from postrider.contracts.definitions import CampaignDefinition
from postrider.scheduling.occurrences import ONCE, name_of, occurrences, slots_from
from scheduler.domain.run_states import RunEvent, RunState, apply_run
from scheduler.domain.runs import Run, new_run

MOST_RECORDED: Final = 100
"""Of occurrences missed in one downtime, the newest."""
MOST_PASSED: Final = 100_000
LOOK_BACK: Final = timedelta(days=3)
"""An occurrence whose local time is older is over everywhere, unless its campaign has a run that says so."""


def plan_ahead(
    campaign: CampaignDefinition,
    account_zone: str,
    lead: timedelta,
    now: datetime,
    known: Mapping[str, RunState],
    resumed_at: datetime | None = None,
) -> list[Run]:
    """The runs to add: those that nobody was there to plan, as expired, and the next one. Empty when it is there.

    `known`: occurrence → state of the runs of the last `LOOK_BACK`, of those ahead, and of the latest; not of removed
    ones. An edit may have put an occurrence before one that is planned or under way: it comes first. What a pause held
    until `resumed_at` is not missed: of it, too, only one run was planned ahead.
    """
    if asks_in_turn(campaign) and RunState.REQUESTED in known.values():
        return []
    added = _between(campaign, account_zone, lead, now, known, resumed_at)
    if added is not None:
        return [added]
    if RunState.PLANNED in known.values():
        return []
    missed: deque[Run] = deque(maxlen=MOST_RECORDED)
    scheduled_at = campaign.scheduled_at or now
    ahead = occurrences(campaign.kind, campaign.when, account_zone, scheduled_at, max(known, default=None))
    for occurrence in islice(ahead, MOST_PASSED):
        run = new_run(campaign, account_zone, lead, now, occurrence.name, resumed_at)
        reason = run.missed_reason(now)
        if not reason:
            return [*missed, run]
        missed.append(replace(run, state=apply_run(run.state, RunEvent.MISS), reason=reason))
    return list(missed)


def asks_in_turn(campaign: CampaignDefinition) -> bool:
    """Whether a run is planned when the audience of the one before it is known, not when that is asked for: runs take
    their part of a total when their audiences are known, and the earlier has the first choice, also when a downtime has
    made both due at once."""
    return campaign.who.limits.total is not None


def _between(
    campaign: CampaignDefinition,
    account_zone: str,
    lead: timedelta,
    now: datetime,
    known: Mapping[str, RunState],
    resumed_at: datetime | None,
) -> Run | None:
    """The first occurrence without a run that lies before one that has one, and is not over.

    Not before one that is under way and no longer in the plan: it was moved, and it is being sent.
    """
    if not known or ONCE in known:
        return None
    scheduled_at = campaign.scheduled_at or now
    low = now.astimezone(UTC).replace(tzinfo=None) - LOOK_BACK
    floor, last = name_of(low), max(known)
    planned = slots_from(campaign.kind, campaign.when, account_zone, scheduled_at, low)
    names = [occurrence.name for occurrence in takewhile(lambda occurrence: occurrence.name <= last, planned)]
    under_way = {name for name, state in known.items() if state is not RunState.PLANNED and name >= floor}
    behind = max(under_way - set(names), default=floor)
    for name in names:
        if name not in known and name >= behind:
            run = new_run(campaign, account_zone, lead, now, name, resumed_at)
            if not run.missed_reason(now):
                return run
    return None

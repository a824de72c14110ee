"""The next occurrences of a campaign in one zone, for whoever plans it: what happens when, and what will not.

For any scheduled kind in any state. Knows no quiet hours, limits or caps: they are a matter of each person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, Literal

from postrider.contracts.definitions import When
from postrider.scheduling.occurrences import (
    BEST_TIME,
    RECURRING,
    Schedule,
    fallback_time_of,
    occurrences,
    slots_from,
)
from postrider.scheduling.zone_plan import SKIPPED_DAY, Due, due_in
from postrider.scheduling.zone_slots import fallback_slot
from postrider.zones import is_past_everywhere, load_zone

_BACK: Final = timedelta(hours=50)
"""Further back than this no occurrence can still be ahead somewhere."""
_OUT_OF_ORDER: Final = timedelta(hours=26)
"""By how much a later nominal time can come before an earlier one that the clocks moved."""


@dataclass(frozen=True, slots=True)
class Preview:
    """`local`: the nominal time, by the clock that the campaign goes by. `at`: when it happens in the zone.

    `kind`: `gap` moved forward by the clocks, `fold` the first of two, `skipped` no such day, `expired` over in this
    zone when the campaign is scheduled and dropped by its `passed_zone`, behind the campaign's end, or at one moment
    with a later one that is sent instead.
    """

    local: datetime
    at: datetime
    kind: Literal["normal", "gap", "fold", "skipped", "expired"]


def preview(
    kind: str,
    when: When,
    account_zone: str,
    zone: str,
    now: datetime,
    scheduled_at: datetime | None = None,
    limit: int = 20,
) -> list[Preview]:
    """`scheduled_at` None: a draft, as if it were scheduled now. At best time: of people without one.

    What is past by `now` is left out; for a draft it is `expired`. Raises ValueError for what means nothing.
    """
    return list(islice(_previews(kind, when, account_zone, zone, now, scheduled_at), limit))


def next_occurrence(
    kind: str, when: When, account_zone: str, zone: str, scheduled_at: datetime, after: datetime
) -> Preview | None:
    """The first that happens in the zone later than `after`, by the instant and not by its nominal time."""
    best: Preview | None = None
    for shown in _previews(kind, when, account_zone, zone, after, scheduled_at):
        if best is not None and shown.local > best.local + _OUT_OF_ORDER:
            break
        is_sent = shown.kind not in ("skipped", "expired")
        if is_sent and shown.at > after and (best is None or shown.at < best.at):
            best = shown
    return best


def _previews(
    kind: str, when: When, account_zone: str, zone: str, now: datetime, scheduled_at: datetime | None
) -> Iterator[Preview]:
    scheduled = scheduled_at or now
    slot = fallback_slot(zone, fallback_time_of(when)) if when.time_zone == BEST_TIME else zone
    if kind == RECURRING:
        low = now.astimezone(UTC).replace(tzinfo=None) - _BACK
        planned = slots_from(kind, when, account_zone, scheduled, low)
    else:
        planned = occurrences(kind, when, account_zone, scheduled)
    for occurrence in planned:
        schedule = occurrence.schedule
        outcome = due_in(schedule, slot)
        local = _shown_local(schedule, when, zone, outcome.at)
        if isinstance(outcome, Due):
            if outcome.at >= now:
                is_taken_over = outcome.following_at is not None and outcome.following_at <= outcome.at
                yield Preview(local, outcome.at, "expired" if is_taken_over else outcome.kind)
        elif outcome.reason == SKIPPED_DAY:
            if outcome.at >= now:
                yield Preview(local, outcome.at, "skipped")
        elif scheduled_at is None or not is_past_everywhere(local, now):
            yield Preview(local, outcome.at, "expired")


def _shown_local(schedule: Schedule, when: When, zone: str, at: datetime) -> datetime:
    if schedule.local is None:
        return at.astimezone(load_zone(schedule.zone or zone)).replace(tzinfo=None, microsecond=0)
    if schedule.best_time:
        return datetime.combine(schedule.local, fallback_time_of(when))
    return schedule.local

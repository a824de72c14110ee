"""Random questions "when is the next occurrence?", asked of the code and of the slow oracle."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice

from postrider.contracts.definitions import Recurrence, When
from postrider.scheduling.preview import Preview, next_occurrence, preview
from postrider.zones import load_zone
from tests.support import time_oracle as oracle

FIRST, LAST = datetime(1990, 1, 3, tzinfo=UTC), datetime(2040, 12, 28, tzinfo=UTC)
SPAN_MINUTES = (LAST - FIRST) // oracle.MINUTE


@dataclass(frozen=True)
class Case:
    """`zone` is asked about; `by` is the campaign's `time_zone`."""

    kind: str
    when: When
    zone: str
    by: str
    scheduled_at: datetime
    after: datetime
    spec: oracle.Spec | None = None
    times: tuple[time, ...] = ()
    count: int | None = None


def random_case(draw: random.Random, zones: list[str]) -> Case:
    zone = draw.choice(zones)
    changes = oracle.changes(zone)
    if changes and draw.random() < 0.6:
        after = draw.choice(changes) + draw.randint(-40 * 60, 40 * 60) * oracle.MINUTE
    else:
        after = FIRST + draw.randrange(SPAN_MINUTES) * oracle.MINUTE
    by = draw.choice(["user", "account", zone])
    scheduled_at = after - draw.choice([0, 0, 60, 26 * 60, 90 * 60, 9000]) * oracle.MINUTE
    chosen = draw.random()
    near = after.astimezone(load_zone(zone)).replace(tzinfo=None)
    if chosen < 0.7:
        dates = sorted({near + draw.randint(-30 * 60, 50 * 60) * oracle.MINUTE for _ in range(draw.randint(1, 4))})
        texts = [at.isoformat(timespec="seconds") for at in dates]
        return Case("multiple_dates", When(time_zone=by, dates=texts), zone, by, scheduled_at, after)
    times = sorted({time(draw.choice([0, 1, 2, 3, 9, 23]), draw.choice([0, 15, 30, 59])) for _ in range(3)})
    spec: oracle.Spec = {"FREQ": "DAILY"}
    count, short_month = None, "skip"
    if chosen > 0.9:
        spec, short_month = oracle.random_spec(draw), draw.choice(["skip", "last_day"])
        count = draw.choice([None, None, 1, 3, 20])
    rule = oracle.rule_text(spec) + ("" if count is None else f";COUNT={count}")
    recurrence = Recurrence(rule, [f"{at:%H:%M}" for at in times], short_month=short_month)
    when = When(time_zone=by, recurrence=recurrence)
    return Case("recurring", when, zone, by, scheduled_at, after, spec, tuple(times), count)


def answer(case: Case) -> Preview | None:
    return next_occurrence(case.kind, case.when, case.zone, case.zone, case.scheduled_at, case.after)


def expected(case: Case, horizon: timedelta) -> tuple[datetime, oracle.Happening] | None:
    """None: nothing within the horizon after `after`."""
    found = []
    until = case.after.replace(tzinfo=None) + horizon
    for slot in _slots(case, until):
        happening = oracle.happens(slot, case.zone)
        if happening.kind != "skipped" and happening.at >= case.scheduled_at and happening.at > case.after:
            found.append((happening.at, slot, happening))
        if found and slot > found[0][1] + timedelta(hours=27):
            break
    if not found:
        return None
    first = min(at for at, _, _ in found)
    _, slot, happening = max(item for item in found if item[0] == first)
    return slot, happening


def _slots(case: Case, until: datetime) -> list[datetime]:
    if case.spec is None:
        return [datetime.fromisoformat(text) for text in case.when.dates]
    anchor = case.scheduled_at.astimezone(load_zone(case.zone)).date()
    last_day = case.when.recurrence is not None and case.when.recurrence.short_month == "last_day"
    begin = anchor
    if case.count is None:
        begin = max(anchor, (case.after.replace(tzinfo=None) - timedelta(days=3)).date())
    slots = []
    day: date = begin
    while day <= until.date():
        if oracle.is_rule_day(case.spec, anchor, day, last_day):
            slots += [datetime.combine(day, moment) for moment in case.times]
            if case.count is None and day > case.after.date() + 3 * oracle.DAY:
                break
        day += oracle.DAY
    counted = (slot for slot in slots if not _was_passed(case, slot))
    return list(islice(counted, case.count))


def _was_passed(case: Case, slot: datetime) -> bool:
    """When it was scheduled, for everybody: such a slot does not count."""
    if case.by == "user":
        return (slot + timedelta(hours=12)).replace(tzinfo=UTC) < case.scheduled_at
    return oracle.happens(slot, case.zone).at < case.scheduled_at


def disagreement(case: Case, horizon: timedelta = timedelta(days=70)) -> str:
    """Empty when code and oracle say the same."""
    said, right = answer(case), expected(case, horizon)
    if right is None:
        is_later = said is None or said.at > case.after + horizon - timedelta(days=3)
        return "" if is_later else f"{case}: said {said}, nothing is due"
    slot, happening = right
    if said is not None and (said.local, said.at, said.kind) == (slot, happening.at, happening.kind):
        return ""
    return f"{case}: said {said}, right is {slot} {happening}"


def around_changes(draw: random.Random, zone: str) -> tuple[int, str]:
    """The next days of a daily campaign around each change of a zone's clocks, half of its times beside the jump.
    Answers compared, and the first disagreement."""
    answers = 0
    changes = oracle.changes(zone) or [FIRST + draw.randrange(SPAN_MINUTES) * oracle.MINUTE for _ in range(5)]
    for change in changes:
        after = change - draw.randint(20 * 60, 50 * 60) * oracle.MINUTE
        jump = oracle.wall(change, load_zone(zone))
        beside = {(jump + draw.randint(-90, 90) * oracle.MINUTE).time() for _ in range(3)}
        times = sorted(beside | {time(draw.randrange(24), draw.randrange(60)) for _ in range(3)})
        by = draw.choice(["user", "account", zone])
        when = When(time_zone=by, recurrence=Recurrence("FREQ=DAILY", [f"{at:%H:%M}" for at in times]))
        said = preview("recurring", when, zone, zone, after, after - 9 * oracle.DAY, limit=4 * len(times))
        right = _shown(times, zone, after)[: len(said)]
        if len(right) != 4 * len(times) or said != right:
            first = next((pair for pair in zip(said, right, strict=False) if pair[0] != pair[1]), None)
            return answers, f"{zone} by {by} after {after}, times {[f'{at:%H:%M}' for at in times]}: {first}"
        answers += len(said)
    return answers, ""


def _shown(times: list[time], zone: str, after: datetime) -> list[Preview]:
    """What a preview shows of five days. Of two that happen at one moment the later by name is sent."""
    first = after.astimezone(load_zone(zone)).date() - 2 * oracle.DAY
    slots = [datetime.combine(first + day * oracle.DAY, at) for day in range(9) for at in times]
    found = [(slot, oracle.happens(slot, zone)) for slot in slots]
    sent = {happening.at: slot for slot, happening in found if happening.kind != "skipped"}
    shown = []
    for slot, happening in found:
        if happening.at >= after:
            is_sent = happening.kind == "skipped" or sent[happening.at] == slot
            shown.append(Preview(slot, happening.at, happening.kind if is_sent else "expired"))
    return shown

"""Whom a live campaign qualifies, by the oracle that the real engine is held against (`tests.support.live_oracle`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, time, timedelta

from tests.simulation.clocks import happens
from tests.simulation.engine import ALIVE, PlayedEngine
from tests.simulation.plans import LIVE, Plan
from tests.simulation.world import World
from tests.support import live_oracle


def qualified_wrongly(world: World, plans: dict[str, Plan], engine: PlayedEngine) -> Iterator[str]:
    """Who was told to have qualified and did not, who did and was not told, and what was told for another moment."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    due: dict[tuple[str, str, str], datetime] = {}
    for _, said in engine.qualified:
        key = (said.campaign_id, said.occurrence, said.user_id)
        if key in due:
            yield f"{key}: qualified twice"
        due[key] = said.due_at
        found[said.campaign_id, said.user_id].add(said.occurrence)
    for plan in plans.values():
        if plan.kind not in LIVE:
            continue
        for person in world.group(plan.group):
            told = found[plan.id, person.user]
            dues = dict(_dues(world, plan, person.user))
            answer = _answer(plan, person.user, dues)
            if not answer.must <= told <= answer.may:
                yield f"{plan.id} {person.user}: qualified for {told}, oracle {answer}"
            for occurrence in told & dues.keys():
                if due[plan.id, occurrence, person.user] != dues[occurrence]:
                    yield f"{plan.id} {occurrence} {person.user}: due {due[plan.id, occurrence, person.user]}"


def _dues(world: World, plan: Plan, user: str) -> Iterator[tuple[str, datetime]]:
    """When the text of each occurrence would be due."""
    trigger, when = plan.versions[0].definition.who.trigger, plan.versions[0].definition.when
    assert trigger is not None
    if plan.kind != "live_date":
        for event in plan.events:
            if event.user == user and event.name == trigger.event:
                yield event.id, event.at + timedelta(seconds=trigger.within_seconds + when.delay_seconds)
        return
    day, offset = plan.day_of[user], timedelta(seconds=trigger.offset_seconds)
    if trigger.at_local_time is None:
        at = happens(datetime.combine(day, time.min), world.account_zone).at + offset
    else:
        zone = world.people[user].zone_at(plan.scheduled_at, world.account_zone)
        happening = happens(datetime.combine(day, time.fromisoformat(trigger.at_local_time)) + offset, zone)
        if happening.kind == "skipped":
            return
        at = happening.at
    yield f"day_{plan.id}:{day}", at


def _answer(plan: Plan, user: str, dues: dict[str, datetime]) -> live_oracle.Answer:
    """What is due after a stop is nobody's; at about the moment of the stop, either is right."""
    stopped_at = next((version.at for version in plan.versions if version.status not in ALIVE), live_oracle.END)
    if plan.kind == "live_date":
        ahead = {occurrence for occurrence, at in dues.items() if at >= plan.scheduled_at}
        answer = live_oracle.Answer(frozenset(ahead), frozenset(ahead))
    else:
        answer = _of_events(plan, user)
    day = timedelta(days=1)
    must = {occurrence for occurrence in answer.must if dues[occurrence] + day < stopped_at}
    return live_oracle.Answer(frozenset(must), answer.may)


def _of_events(plan: Plan, user: str) -> live_oracle.Answer:
    trigger = plan.versions[0].definition.who.trigger
    assert trigger is not None
    seen = []
    for event in plan.events:
        version = plan.version_at(event.received)
        if event.user != user or version is None or version.status not in ALIVE:
            continue
        when = version.definition.when
        is_fresh = event.received - event.at <= timedelta(seconds=when.send_by_seconds)
        is_open = event.received >= max(plan.scheduled_at, when.start or plan.scheduled_at)
        is_open = is_open and (when.end is None or event.received < when.end)
        arms = event.name == trigger.event and is_fresh and is_open
        acts = trigger.unless is not None and event.name == trigger.unless.event
        if arms or acts:
            seen.append(live_oracle.Seen(event.id, event.at, event.received, arms, acts))
    if plan.kind == "live_inaction":
        return live_oracle.inaction(seen, timedelta(seconds=trigger.within_seconds), restart=False)
    ids = frozenset(it.id for it in seen)
    return live_oracle.Answer(ids, ids)

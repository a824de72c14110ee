"""Who is due when, out of semantics.md §3 to §5, in plain Python: which runs a campaign has, when each zone of a run
fires or why it does not, and when a person may be texted. Shares nothing with `postrider.scheduling` or `scheduler`.

A scheduler is not always looking: `ticks` are the moments at which it did, and what it finds at one of them is judged
by that moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import islice

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.zones import load_zone
from tests.simulation.clocks import (
    Stretch,
    covering,
    first_allowed,
    first_bucket,
    happens,
    law_of,
    open_stretches,
    windows_of,
)
from tests.simulation.plans import Plan, Version
from tests.simulation.world import DAY, HOUR, MINUTE, Person, World
from tests.support import time_oracle

LEAD = timedelta(seconds=60)
LEAST_CATCH_UP = timedelta(seconds=5)
PAST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Slot:
    """An occurrence. `local` None: now. `others`: the local times of those around it and of the next."""

    name: str
    local: datetime | None
    others: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Run:
    """`version`: what it goes by, as it was when the audience was fixed, at `at`."""

    plan: Plan
    slot: Slot
    version: Version
    at: datetime


@dataclass(frozen=True)
class Fate:
    """Of a zone of a run: `status` "" is fired. `at`: when that was decided."""

    status: str
    at: datetime
    due_at: datetime
    end: datetime | None = None


@dataclass(frozen=True)
class Leave:
    due_at: datetime
    send_by: datetime
    allowed: list[Stretch]


class Oracle:
    def __init__(self, world: World, ticks: list[datetime]) -> None:
        self.world = world
        self.ticks = ticks
        self._slots: dict[tuple[str, int], list[Slot]] = {}

    def tick(self, at: datetime) -> datetime | None:
        """When a scheduler next looks."""
        number = bisect_left(self.ticks, at)
        return self.ticks[number] if number < len(self.ticks) else None

    # Runs

    def runs(self, plan: Plan) -> list[Run]:
        """One ahead: the next is looked for when the one before it has its audience, or the campaign is edited."""
        found: list[Run] = []
        now = self.tick(plan.scheduled_at)
        while now is not None:
            version = plan.version_at(now)
            assert version is not None
            if version.status == "stopped" or (plan.kind == "one_time" and found):
                break
            change = next((self.tick(other.at) for other in plan.versions if other.at > now), None)
            slot = self._next_slot(plan, version, found, now)
            asks = None if slot is None else self.tick(max(now, self._asked_at(plan, version, slot)))
            if slot is None or asks is None or version.status == "paused" or (change is not None and change <= asks):
                now = change
                continue
            found.append(Run(plan, slot, version, asks))
            now = asks
        return found

    def _next_slot(self, plan: Plan, version: Version, found: list[Run], now: datetime) -> Slot | None:
        """The first behind those that had their turn. An edit may have put one in between, which is sent when it is not
        over, and not before one that was moved while it was under way."""
        slots = self.slots(plan, version)
        known = [run.slot.name for run in found]
        moved = max((name for name in known if all(slot.name != name for slot in slots)), default="")
        for slot in slots:
            if not known or slot.name > max(known):
                return slot
            if slot.name in known or slot.name < moved or slot.local is None:
                continue
            if slot.local >= now.replace(tzinfo=None) - 3 * DAY and not self._is_over(plan, version, slot, now):
                return slot
        return None

    def slots(self, plan: Plan, version: Version) -> list[Slot]:
        """All that are not over for everybody when the campaign was scheduled or its times were changed."""
        key = (plan.id, version.definition.version)
        if key not in self._slots:
            self._slots[key] = list(self._read_slots(plan, version))
        return self._slots[key]

    def _read_slots(self, plan: Plan, version: Version) -> Iterator[Slot]:
        if plan.kind == "one_time":
            yield Slot("once", version.dates[0] if version.dates else None)
            return
        locals_ = list(version.dates) if version.rule is None else list(self._recurring(plan, version))
        if version.definition.when.time_zone == "best_time":
            locals_ = [at for number, at in enumerate(locals_) if not number or at.date() != locals_[number - 1].date()]
        for number, local in enumerate(locals_):
            near = {other for other in locals_ if abs(other - local) <= 2 * DAY} | set(locals_[number + 1 : number + 2])
            yield Slot(local.isoformat(timespec="seconds"), local, tuple(sorted(near - {local})))

    def _is_over(self, plan: Plan, version: Version, slot: Slot, now: datetime) -> bool:
        """Too late in every zone there is, or the next has come to all of them."""
        when = version.definition.when
        assert slot.local is not None
        last = max(self._last_due(version, slot.local), passed_by(plan, version))
        if when.passed_zone == "next_day" and self._asked_at(plan, version, slot) == passed_by(plan, version):
            last = max(last, passed_by(plan, version) + 50 * HOUR)
        following = min((other for other in slot.others if other > slot.local), default=None)
        is_taken_over = following is not None and now >= self._last_due(version, following)
        return is_taken_over or now > last + timedelta(seconds=when.catch_up_seconds)

    def _last_due(self, version: Version, local: datetime) -> datetime:
        zone = version.definition.when.time_zone
        if zone not in ("user", "best_time"):
            return happens(local, self._named(zone)).at
        last = datetime.combine(local, time(23, 59)) if zone == "best_time" else local
        return (last + 12 * HOUR).replace(tzinfo=UTC)

    def _recurring(self, plan: Plan, version: Version) -> Iterator[datetime]:
        rule, zone = version.rule, version.definition.when.time_zone
        assert rule is not None
        clock = self.world.account_zone if zone in ("user", "best_time", "account") else zone
        anchor = (rule.start or plan.scheduled_at.astimezone(load_zone(clock))).date()
        times = list(rule.times[:1] if zone == "best_time" else rule.times)
        horizon = self.world.until.replace(tzinfo=None) + 60 * DAY
        last = horizon if rule.end is None else min(rule.end, horizon)

        def inside() -> Iterator[datetime]:
            for local in time_oracle.slots(rule.spec, times, anchor, rule.last_day):
                if local > last:
                    return
                if rule.start is not None and local < rule.start:
                    continue
                if rule.start is None and self._last_due(version, local) < plan.scheduled_at:
                    continue
                yield local

        for local in islice(inside(), rule.count):
            if self._last_due(version, local) >= passed_by(plan, version):
                yield local

    def _asked_at(self, plan: Plan, version: Version, slot: Slot) -> datetime:
        """A minute ahead of the first zone on Earth."""
        zone = version.definition.when.time_zone
        if slot.local is None:
            return passed_by(plan, version)
        if zone in ("user", "best_time"):
            local = datetime.combine(slot.local, time.min) if zone == "best_time" else slot.local
            return max(passed_by(plan, version), (local - 14 * HOUR).replace(tzinfo=UTC) - LEAD)
        return max(passed_by(plan, version), happens(slot.local, self._named(zone)).at - LEAD)

    def _named(self, zone: str) -> str:
        return self.world.account_zone if zone == "account" else zone

    # Zones

    def fate(self, run: Run, slot_zone: str) -> Fate:
        own, _, clock = slot_zone.partition("#")
        at_time = time(int(clock[:2]), int(clock[2:] or 0)) if clock else None
        when = run.version.definition.when
        zone = own if when.time_zone in ("user", "best_time") else self._named(when.time_zone)
        due = self._due(run, zone, at_time)
        if due is None:
            return Fate("expired", run.at, PAST)
        send_by = due + timedelta(seconds=when.send_by_seconds)
        end = None
        rule = run.version.rule
        if rule is not None and rule.start is not None:
            due = max(due, happens(rule.start, zone).at)
            send_by = due + timedelta(seconds=when.send_by_seconds)
        if rule is not None and rule.end is not None:
            end = happens(rule.end + MINUTE, zone).at
            if due >= end:
                return Fate("expired", run.at, due)
            send_by = min(send_by, end)
        return self._fired(run, due, send_by, self._following(run.slot, zone, at_time), end)

    def _following(self, slot: Slot, zone: str, at_time: time | None) -> datetime | None:
        """When the next occurrence comes to a zone, as its clock goes: of two at one moment the later by name."""
        if slot.local is None:
            return None
        own = _at(slot.local, at_time)
        mine = (happens(own, zone).at, own)
        found = []
        for other in slot.others:
            local = _at(other, at_time)
            happening = happens(local, zone)
            if happening.kind != "skipped" and (happening.at, local) > mine:
                found.append(happening.at)
        return min(found, default=None)

    def _due(self, run: Run, zone: str, at_time: time | None) -> datetime | None:
        """None: it does not come to pass there."""
        since, policy = passed_by(run.plan, run.version), run.version.definition.when.passed_zone
        if run.slot.local is None:
            return since if at_time is None else self._next_day(_at(_days_before(since), at_time), zone, since)
        local = _at(run.slot.local, at_time)
        happening = happens(local, zone)
        if happening.kind == "skipped":
            return None
        if happening.at >= since:
            return happening.at
        if policy == "send_now":
            return since
        if policy == "next_day":
            moved, following = self._next_day(local, zone, since), self._following(run.slot, zone, at_time)
            return moved if following is None or moved < following else None
        return None

    def _next_day(self, local: datetime, zone: str, after: datetime) -> datetime:
        while True:
            local += DAY
            happening = happens(local, zone)
            if happening.kind != "skipped" and happening.at >= after:
                return happening.at

    def _fired(
        self, run: Run, due: datetime, send_by: datetime, following: datetime | None, end: datetime | None
    ) -> Fate:
        """Looks at one tick after the other from the moment it is due."""
        catch_up = max(timedelta(seconds=run.version.definition.when.catch_up_seconds), LEAST_CATCH_UP)
        for now in self.ticks[bisect_left(self.ticks, max(due, run.at)) :]:
            version = run.plan.version_at(now)
            assert version is not None
            if version.status == "stopped":
                return Fate("cancelled", now, due)
            if version.status == "paused":
                if now >= send_by:
                    return Fate("expired", now, due)
                continue
            wanted = max(due, self._resumed(run.plan, now))
            is_over = now > wanted + catch_up or now >= send_by or (following is not None and now >= following)
            return Fate("expired" if is_over else "", now, due, end)
        last = run.plan.version_at(self.ticks[-1])
        is_stopped = last is not None and last.status == "stopped"
        return Fate("cancelled" if is_stopped else "open", self.ticks[-1], due)

    def _resumed(self, plan: Plan, now: datetime) -> datetime:
        """When a scheduler last heard that the campaign goes on."""
        found = PAST
        for before, after in zip(plan.versions, plan.versions[1:], strict=False):
            paused_at, heard = self.tick(before.at), self.tick(after.at)
            if before.status != "paused" or after.status == "paused" or paused_at is None or heard is None:
                continue
            if paused_at < heard <= now:
                found = heard
        return found

    # People

    def leave(
        self, campaign: CampaignDefinition, settings: AccountSettings, person: Person, zone: str, due: datetime,
        end: datetime | None, now: datetime,
    ) -> Leave | str:  # fmt: skip
        """When somebody who is due may be texted, else the status that says why not."""
        quiet = settings.quiet_hours if campaign.when.quiet_hours is None else campaign.when.quiet_hours
        windows = windows_of(quiet)
        is_under_law = campaign.message_class == "promotional"
        law = law_of(person.phone, person.country, zone) if is_under_law else ()
        if quiet.on_hit == "discard" and covering(due, windows, (), zone) is not None:
            return "quiet_hours"
        moved = first_allowed(due, windows, law, zone)
        if moved is None and first_allowed(due, (), law, zone) is None:
            law = law_of(person.phone, person.country, None)  # the law leaves the two clocks no hour in common
            moved = first_allowed(due, windows, law, zone)
        if moved is None:
            return "quiet_hours"
        if moved > due and campaign.when.time_zone == "best_time":
            moved = first_bucket(moved, windows, law, zone) or moved
        send_by = moved + timedelta(seconds=campaign.when.send_by_seconds)
        send_by = send_by if end is None else min(send_by, end)
        if send_by <= moved or now >= send_by:
            return "expired"
        return Leave(moved, send_by, open_stretches(moved, send_by, windows, law, zone))


def _at(local: datetime, at_time: time | None) -> datetime:
    return local if at_time is None else datetime.combine(local, at_time)


def _days_before(at: datetime) -> datetime:
    return at.replace(tzinfo=None) - 3 * DAY


def passed_by(plan: Plan, version: Version) -> datetime:
    """By when it is judged whether a time had passed: when the campaign was scheduled, or its times were changed."""
    changed_at = version.definition.when.changed_at
    return plan.scheduled_at if changed_at is None else max(plan.scheduled_at, changed_at)

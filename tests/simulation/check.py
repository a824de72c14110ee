"""Holds what happened against the oracle: everybody who was due, once, at their minute, or with the one right reason.

Limits and caps depend on who came first: they are followed in the order of the log, with books of our own, so that a
text too many and a text too few are both found.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.delivery_events import MessageChanged
from postrider.contracts.send_jobs import SendJob
from tests.simulation.clocks import covering, law_of, local_day, windows_of
from tests.simulation.dispatcher import PlayedDispatcher
from tests.simulation.engine import ACCOUNT_SEED, ALIVE, PlayedEngine, in_share
from tests.simulation.live import qualified_wrongly
from tests.simulation.oracle import Fate, Leave, Oracle, Run
from tests.simulation.plans import SCHEDULED, Plan
from tests.simulation.story import Key, Story
from tests.simulation.world import DAY, World

SENT = ("awaiting_receipt", "sent", "delivered", "undelivered")
REFUSALS = {"limited", "capped"}
MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Expected:
    """`at`: the tick at which it is decided. `status`: what the person comes to when nobody else is in the way: a
    `Leave` is a text."""

    at: datetime
    status: Leave | str
    campaign: CampaignDefinition
    zone: str
    is_live: bool


@dataclass
class Reserved:
    """A text of a person, on the days and in the time in which it may have left."""

    message_id: str
    campaign_id: str
    first_at: datetime
    last_at: datetime
    zone: str

    def days(self) -> tuple[date, date]:
        return local_day(self.first_at, self.zone), local_day(self.last_at, self.zone)


@dataclass
class Check:
    """`is_ordered`: the log's order is that of the decisions; else, of one moment, the refusals stand last in it, and
    which of two limits refused somebody is left open."""

    world: World
    plans: dict[str, Plan]
    story: Story
    engine: PlayedEngine
    dispatcher: PlayedDispatcher
    is_ordered: bool = True
    problems: list[str] = field(default_factory=list)
    expected: dict[Key, Expected] = field(default_factory=dict)
    _held: Counter[tuple[str, str]] = field(default_factory=Counter)
    _slots: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _books: dict[str, list[Reserved]] = field(default_factory=lambda: defaultdict(list))

    def run(self) -> list[str]:
        self._oracle = Oracle(self.world, self.story.ticks)
        for plan in self.plans.values():
            if plan.kind in SCHEDULED:
                self._expect_runs(plan)
        self.problems += qualified_wrongly(self.world, self.plans, self.engine)
        self._expect_live()
        self._follow_log()
        self._check_jobs()
        self._check_sent()
        self._check_moves()
        return self.problems

    # What is expected

    def _expect_runs(self, plan: Plan) -> None:
        left = plan.versions[0].definition.who.limits.total
        runs = self._oracle.runs(plan)
        snapshots = {
            snapshot.occurrence: snapshot
            for snapshot in self.engine.snapshots.values()
            if snapshot.campaign_id == plan.id
        }
        for run in runs:
            snapshot = snapshots.pop(run.slot.name, None)
            if snapshot is None:
                self._expect_nobody(run)
                continue
            if snapshot.at != run.at:
                self.problems.append(f"{plan.id} {run.slot.name}: audience of {snapshot.at}, oracle {run.at}")
                continue
            who = run.version.definition.who
            eligible = sum(not member.verdict for member in snapshot.members)
            is_unsafe = who.safety_limit is not None and eligible > who.safety_limit
            cut: int | None = None
            if not is_unsafe and (who.limits.run is not None or left is not None):
                cut = min(each for each in (eligible, who.limits.run, left) if each is not None)
                left = None if left is None else left - cut
            fates: dict[str, Fate] = {}
            for member in snapshot.members:
                fate = fates.get(member.slot) or fates.setdefault(member.slot, self._oracle.fate(run, member.slot))
                person = self.world.people[member.user]
                status: Leave | str = fate.status
                zone = member.slot.partition("#")[0]
                if is_unsafe:
                    status = "cancelled"
                elif not fate.status:
                    status = member.verdict or person.verdict_at(fate.at)
                    status = status or ("limited" if cut is not None and member.rank >= cut else "")
                    status = status or self._leave(run.version.definition, fate, zone, member.user, fate.at)
                self.expected[plan.id, run.slot.name, member.user] = Expected(
                    run.at if is_unsafe else fate.at, status, run.version.definition, zone, is_live=False
                )
        for occurrence in snapshots:
            self.problems.append(f"{plan.id} {occurrence}: has an audience, is no occurrence")

    def _expect_nobody(self, run: Run) -> None:
        """An audience is not asked for when it is too late, everywhere, for the occurrence."""
        for zone in ("Pacific/Kiritimati", "Etc/GMT+12", "Etc/GMT-14", self.world.account_zone):
            slot = f"{zone}#2359" if run.version.definition.when.time_zone == "best_time" else zone
            fate = self._oracle.fate(run, slot)
            if fate.status != "expired":
                self.problems.append(f"{run.plan.id} {run.slot.name}: no audience, {fate} in {zone}")

    def _expect_live(self) -> None:
        for said_at, said in self.engine.qualified:
            plan, at = self.plans[said.campaign_id], self._oracle.tick(said_at)
            if at is None:
                self.problems.append(f"{said.campaign_id} {said.occurrence}: nobody looked any more")
                continue
            version = plan.version_at(at)
            assert version is not None
            campaign, settings, who = version.definition, self.world.settings_at(at), version.definition.who
            status: Leave | str = said.verdict
            if not status and version.status not in ALIVE:
                status = "cancelled"
            if not status and (
                in_share(ACCOUNT_SEED, said.user_id, settings.control_percent)
                or in_share(f"control:{plan.id}", said.user_id, who.control_percent)
            ):
                status = "control"
            if not status and not in_share(f"reach:{plan.id}", said.user_id, who.reach_percent):
                status = "not_in_reach"
            if not status:
                fate = Fate("", at, min(said.due_at, at), campaign.when.end)
                status = self._leave(campaign, fate, said.zone, said.user_id, at)
            self.expected[plan.id, said.occurrence, said.user_id] = Expected(
                at, status, campaign, said.zone, is_live=True
            )

    def _leave(self, campaign: CampaignDefinition, fate: Fate, zone: str, user: str, now: datetime) -> Leave | str:
        settings, person = self.world.settings_at(now), self.world.people[user]
        return self._oracle.leave(campaign, settings, person, zone, fate.due_at, fate.end, now)

    # What was said, in its order

    def _follow_log(self) -> None:
        seen: set[Key] = set()
        for told in self.story.log:
            if told.row.seq > 0:
                self._settle(told.row)
                continue
            if told.key in seen:
                self.problems.append(f"{told.key}: twice in the log")
                continue
            seen.add(told.key)
            expected = self.expected.get(told.key)
            if expected is None:
                self.problems.append(f"{told.key}: {told.row.status}, not expected at all")
                continue
            status = self._decide(told.row, expected, self.world.settings_at(told.at))
            is_same = status == told.row.status or (not self.is_ordered and {status, told.row.status} == REFUSALS)
            if not is_same or told.at != expected.at:
                self.problems.append(
                    f"{told.key}: {told.row.status} ({told.row.reason}) at {told.at}, oracle {status} at {expected.at}"
                )
        for campaign_id, occurrence, user, status, reason in self.engine.unexpanded:
            key = (campaign_id, occurrence, user)
            expected = self.expected.get(key)
            if key in seen or expected is None or expected.status != status:
                self.problems.append(f"{key}: {status} ({reason}) without a page, oracle {expected}")
            seen.add(key)
        for key in self.expected.keys() - seen:
            self.problems.append(f"{key}: forgotten, oracle {self.expected[key].status} at {self.expected[key].at}")

    def _decide(self, row: MessageChanged, expected: Expected, settings: AccountSettings) -> str:
        """With what limits and caps leave, of which it takes its part."""
        leave, campaign = expected.status, expected.campaign
        if isinstance(leave, str):
            return leave
        limits = campaign.who.limits
        day = local_day(leave.due_at, self.world.account_zone).isoformat()
        keys = [] if limits.daily is None else [(row.campaign_id, day)]
        if expected.is_live and limits.total is not None:
            keys.append((row.campaign_id, ""))
        for key in keys:
            limit = limits.daily if key[1] else limits.total
            if limit is not None and self._held[key] >= limit:
                return "limited"
        last_at = max(leave.due_at, leave.send_by - MOMENT)
        wanted = Reserved(row.message_id, row.campaign_id, leave.due_at, last_at, expected.zone)
        if self._is_capped(self._books[row.user_id], wanted, campaign, settings):
            return "capped"
        self._books[row.user_id].append(wanted)
        for key in keys:
            self._held[key] += 1
        if expected.is_live:
            self._slots[row.message_id] = keys
        return "pending"

    def _is_capped(
        self, others: list[Reserved], wanted: Reserved, campaign: CampaignDefinition, settings: AccountSettings
    ) -> bool:
        near = [
            other
            for other in others
            if other.last_at > wanted.first_at - 20 * DAY and other.first_at < wanted.last_at + 20 * DAY
        ]
        gap = timedelta(seconds=campaign.who.min_gap_seconds)
        if any(_closer(other, wanted, gap) for other in near if other.campaign_id == wanted.campaign_id):
            return True
        if campaign.who.ignore_frequency_caps:
            return False
        if any(_closer(other, wanted, timedelta(seconds=settings.min_gap_seconds)) for other in near):
            return True
        first, last = wanted.days()
        for cap in settings.frequency_caps:
            begin = first - (cap.days - 1) * DAY
            while begin <= last:
                until = begin + (cap.days - 1) * DAY
                if sum(days[0] <= until and days[1] >= begin for days in (other.days() for other in near)) >= cap.count:
                    return True
                begin += DAY
        return False

    def _settle(self, row: MessageChanged) -> None:
        if row.status == "in_doubt":
            return
        books = self._books[row.user_id]
        if row.status in (*SENT, "unknown"):
            for reserved in books:
                if reserved.message_id == row.message_id:
                    reserved.first_at = row.attempts[0 if row.status == "unknown" else -1].at
                    reserved.last_at = row.attempts[-1].at
            return
        self._books[row.user_id] = [other for other in books if other.message_id != row.message_id]
        for key in self._slots.pop(row.message_id, []):
            self._held[key] -= 1

    # Texts

    def _check_jobs(self) -> None:
        texts = {told.key for told in self.story.log if told.row.seq == 0 and told.row.status == "pending"}
        for key, jobs in self.story.jobs.items():
            expected = self.expected.get(key)
            leave = None if expected is None else expected.status
            if len(jobs) > 1:
                self.problems.append(f"{key}: {len(jobs)} jobs")
            if key not in texts or not isinstance(leave, Leave):
                self.problems.append(f"{key}: a job, oracle {leave}")
                continue
            job = jobs[0]
            found = Leave(job.due_at, job.send_by, [(stretch.start, stretch.end) for stretch in job.allowed])
            if found != leave:
                self.problems.append(f"{key}: {found}, oracle {leave}")
        for key in texts - self.story.jobs.keys():
            self.problems.append(f"{key}: pending, without a job")

    def _check_sent(self) -> None:
        """By the moment at which texts left: windows, law, deadline, and no state that is not final."""
        for text in self.dispatcher.texts.values():
            job = text.job
            if text.status not in (*SENT, "unknown", "rejected", "expired", "cancelled", "quiet_hours"):
                self.problems.append(f"{job.message_id}: ends as {text.status}")
            at = self.dispatcher.sent_at.get(job.message_id)
            expected = self.expected.get((job.campaign_id, job.occurrence, job.user_id))
            if at is not None and expected is not None:
                self.problems += self._left_at_a_bad_time(job, at, expected)

    def _left_at_a_bad_time(self, job: SendJob, at: datetime, expected: Expected) -> Iterator[str]:
        at = at.replace(second=0, microsecond=0)
        if not job.due_at.replace(second=0, microsecond=0) <= at < job.send_by:
            yield f"{job.message_id}: left at {at}, due {job.due_at} to {job.send_by}"
        campaign = expected.campaign
        quiet = campaign.when.quiet_hours or self.world.settings_at(expected.at).quiet_hours
        person = self.world.people[job.user_id]
        number_alone = law_of(person.phone, person.country, None) if campaign.message_class == "promotional" else ()
        if covering(at, windows_of(quiet), number_alone, job.zone) is not None and at >= job.due_at:
            yield f"{job.message_id}: left at {at}, in quiet hours of {job.zone}"

    def _check_moves(self) -> None:
        """The scheduler's moves are its rows, and those it had the engine write."""
        rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for told in self.story.log:
            if told.row.seq == 0:
                rows[told.row.campaign_id][told.row.status] += 1
        for campaign_id, _, _, status, _ in self.engine.unexpanded:
            rows[campaign_id][status] += 1
        for campaign_id in rows.keys() | self.story.funnel.keys():
            moved = {status: n for status, n in self.story.funnel.get(campaign_id, Counter()).items() if n}
            if moved != dict(rows[campaign_id]):
                self.problems.append(f"{campaign_id}: moves {moved}, rows {dict(rows[campaign_id])}")


def _closer(one: Reserved, other: Reserved, gap: timedelta) -> bool:
    return bool(gap) and one.first_at < other.last_at + gap and other.first_at < one.last_at + gap

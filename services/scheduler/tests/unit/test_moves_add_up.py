"""Property: whatever the zones, pages and the moment of a stop or a miss, everybody is counted exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from postrider.contracts import ids
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.delivery_events import FunnelMoved
from postrider.contracts.send_jobs import Interval, SendJob
from postrider.scheduling.zone_plan import Due, Unsent, ZoneOutcome
from scheduler.domain import moves
from scheduler.domain.gate import Leave
from scheduler.domain.jobs import page_candidate, page_job
from scheduler.domain.moves import RunName, Zone
from scheduler.domain.run_states import OPEN_ZONES, ZoneEvent, ZoneState, apply_zone
from scheduler.domain.settled import Settled

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
NAME = RunName("run_1", "cmp_1", "once")
VERDICTS = ["", "", "", "unreachable", "suppressed", "duplicate_phone", "cancelled"]
OUTCOMES: list[ZoneOutcome] = [
    Due(NOW, NOW + timedelta(hours=4)),
    Due(NOW, NOW + timedelta(hours=4)),
    Due(NOW - timedelta(hours=5), NOW - timedelta(hours=1)),
    Unsent("zone_passed", NOW),
    Unsent("missed", NOW),
]


class Funnel:
    """Counts by status, as the report keeps them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, moved: Iterable[FunnelMoved]) -> None:
        for move in moved:
            assert move.n > 0
            if move.from_status:
                self.counts[move.from_status] -= move.n
                assert self.counts[move.from_status] >= 0
            self.counts[move.to_status] += move.n


def pages_of(zone: str, verdicts: list[str], size: int) -> list[AudiencePage]:
    users = [PageUser(f"{zone}-{rank}", rank, verdict, "r" if verdict else "") for rank, verdict in enumerate(verdicts)]
    chunks = [users[start : start + size] for start in range(0, len(users), size)] or [[]]
    return [
        AudiencePage("run_1", "cmp_1", "once", zone, number, number == len(chunks) - 1, 1, chunk)
        for number, chunk in enumerate(chunks)
    ]


@settings(max_examples=200)
@given(data=st.data())
def test_every_person_is_counted_once(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 5), "zones")
    verdicts = {f"z{n}": data.draw(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=12)) for n in range(count)}
    users = {zone: len(people) for zone, people in verdicts.items()}
    outcomes = {zone: data.draw(st.sampled_from(OUTCOMES)) for zone in verdicts}
    total = sum(users.values())
    funnel = Funnel()
    funnel.add(moves.qualify(NAME, total))
    zones = {zone.zone: zone for zone in moves.open_zones(outcomes, users)}
    logged: dict[str, str] = {}
    settle(funnel, logged, moves.close_unsent(NAME, [z for z in zones.values() if z.state not in OPEN_ZONES]), verdicts)
    pages = {zone: pages_of(zone, people, data.draw(st.integers(1, 5))) for zone, people in verdicts.items()}
    jobs: set[str] = set()

    for _ in range(data.draw(st.integers(0, 40), "steps")):
        waiting = [z for z in zones.values() if z.state is ZoneState.WAITING]
        streaming = [z for z in zones.values() if z.state is ZoneState.REQUESTED]
        if not waiting and not streaming:
            break
        zone = data.draw(st.sampled_from(waiting + streaming))
        if zone.state is ZoneState.REQUESTED:
            page = pages[zone.zone][zone.next_page]
            expansion = moves.expand(zone, page, outcomes_of(page, zone), NOW)
            zones[zone.zone] = expansion.zone
            funnel.add(expansion.moves)
            assert not expansion.unexpanded
            for row in expansion.messages:
                assert row.message_id not in logged
                logged[row.message_id] = row.status
            made = {job.message_id for job in expansion.jobs}
            assert not made & jobs
            jobs |= made
        elif data.draw(st.booleans()):
            zones[zone.zone] = fire(zone)
        else:
            missed = moves.miss(zone, "missed")
            zones[zone.zone] = missed
            settle(funnel, logged, moves.close_unsent(NAME, [missed]), verdicts)
    if data.draw(st.booleans(), "stop"):
        closing = moves.stop(NAME, zones.values(), "campaign_stopped")
        zones |= {zone.zone: zone for zone in closing.zones}
        settle(funnel, logged, closing, verdicts)
        again = moves.stop(NAME, zones.values(), "campaign_stopped")
        assert (again.zones, again.moves, again.unexpanded) == ((), (), {})

    assert sum(funnel.counts.values()) == total
    not_done = sum(zone.remaining for zone in zones.values() if zone.state in OPEN_ZONES)
    assert funnel.counts["pending"] == not_done + len(jobs)
    in_log = Counter(logged.values())
    assert in_log.pop("pending", 0) == len(jobs)
    assert in_log == +Counter({status: n for status, n in funnel.counts.items() if status != "pending"})


def outcomes_of(page: AudiencePage, zone: Zone) -> list[SendJob | Settled]:
    outcomes: list[SendJob | Settled] = []
    for user in page.users:
        candidate = page_candidate(page, user, "UTC", zone.due_at)
        if isinstance(candidate, Settled):
            outcomes.append(candidate)
        elif zone.send_by <= NOW:
            outcomes.append(Settled("expired", "deadline"))
        else:
            leave = Leave(zone.due_at, zone.send_by, (Interval(zone.due_at, zone.send_by),), "delay")
            outcomes.append(page_job(page, user, "UTC", leave, 1, "promotional"))
    return outcomes


def fire(zone: Zone) -> Zone:
    return Zone(
        zone.zone, zone.users, apply_zone(zone.state, ZoneEvent.FIRE), zone.due_at, zone.send_by, zone.next_page
    )


def settle(funnel: Funnel, logged: dict[str, str], closing: moves.Closing, verdicts: dict[str, list[str]]) -> None:
    """The engine writes the people from rank `expanded` on into the message log."""
    funnel.add(closing.moves)
    statuses = {move.to_status for move in closing.moves}
    assert len(statuses) <= 1
    for zone, expanded in closing.unexpanded.items():
        for rank in range(expanded, len(verdicts[zone])):
            id = ids.message_id("cmp_1", "once", f"{zone}-{rank}")
            assert id not in logged
            logged[id] = next(iter(statuses))


def test_only_many_who_are_due_together_are_asked_for_before_they_are_due() -> None:
    outcomes: dict[str, ZoneOutcome] = dict.fromkeys("abc", OUTCOMES[0])
    outcomes["later"] = Due(NOW + timedelta(hours=1), NOW + timedelta(hours=5))
    users = {"a": 20_000, "b": 20_000, "c": 10_000, "later": 4_000}
    zones = {zone.zone: zone for zone in moves.open_zones(outcomes, users)}
    assert {zones[name].begin_at for name in "abc"} == {NOW - timedelta(seconds=10)}
    assert zones["later"].begin_at == zones["later"].due_at
    assert moves.ahead_of(10_000_000) == moves.LONGEST_AHEAD

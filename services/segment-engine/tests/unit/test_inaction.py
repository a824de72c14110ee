"""A, and no B in time: against a naive simulation that walks through the events as they happened."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segment_engine.domain import inaction
from segment_engine.domain.inaction import CAP, MAX_BYTES, Happening, State, Terms
from segment_engine.domain.waits import Kept, hash64

SEND_BY = 900
TERMS = [Terms(10, SEND_BY), Terms(10, SEND_BY, restart=True)]


@dataclass(frozen=True)
class E:
    """`kind`: a arms, b acts, x is both."""

    kind: str
    at: int
    name: str

    def happening(self, received: int) -> Happening:
        return Happening(self.name, self.at, received, self.kind in "ax", self.kind in "bx", 1, {"n": self.name})


def a(at: int, name: str = "") -> E:
    return E("a", at, name or f"a{at}")


def b(at: int, name: str = "") -> E:
    return E("b", at, name or f"b{at}")


def x(at: int, name: str = "") -> E:
    return E("x", at, name or f"x{at}")


def simulate(events: list[E], terms: Terms) -> list[tuple[str, int]]:
    """(name, due) of what fires, from a walk through time. Of one moment: arms, and what is both, before mere acts."""
    fired: list[tuple[str, int]] = []
    armed: E | None = None
    for event in sorted(events, key=lambda e: (e.at, e.kind == "b", hash64(e.name))):
        if armed is not None and event.at > armed.at + terms.within:
            fired.append((armed.name, armed.at + terms.within))
            armed = None
        if event.kind == "x":
            armed = None
        if event.kind in "ax" and (armed is None or terms.restart):
            armed = event
        if event.kind == "b":
            armed = None
    if armed is not None:
        fired.append((armed.name, armed.at + terms.within))
    return fired


def run(arrivals: list[tuple[int, E]], terms: Terms, batches: random.Random) -> list[tuple[str, int]]:
    """Arrivals in the order of their time; a timer fires as soon as all before it was read."""
    known: Kept | None = None
    fired: list[tuple[str, int]] = []

    def fire(now: int) -> None:
        nonlocal known
        while known is not None and known.due is not None and known.due < now:
            outcome = inaction.fire(known.state, now - 1, terms)
            fired.extend((o.name, o.due) for o in outcome.occurrences)
            known = outcome.kept

    waiting: list[Happening] = []
    last = 0
    for received, event in arrivals:
        later = not last or received > last
        if waiting and (later or batches.random() < 0.5):
            known = inaction.happened(known and known.state, waiting, terms, last)
            waiting = []
        if later:
            fire(received)
        last = received
        waiting.append(event.happening(received))
    if waiting:
        known = inaction.happened(known and known.state, waiting, terms, last)
    fire(1 << 60)
    return fired


EVENTS = st.lists(
    st.tuples(st.sampled_from("aab" + "x"), st.integers(0, 60)), max_size=14
).map(lambda found: [E(kind, at, f"{kind}{at}-{n}") for n, (kind, at) in enumerate(found)])  # fmt: skip


@given(EVENTS, st.sampled_from(TERMS), st.randoms(use_true_random=False))
@example([x(0), x(0, "y"), b(5)], TERMS[0], random.Random(1))
def test_in_order_it_is_the_naive_walk(events: list[E], terms: Terms, shuffle: random.Random) -> None:
    """Equal moments in any order, cut into any batches."""
    shuffle.shuffle(events)
    arrivals = sorted(((event.at, event) for event in events), key=lambda arrival: arrival[0])
    # Whatever happened at the due time itself is read before the timer fires.
    assert run(arrivals, terms, shuffle) == simulate(events, terms)


@given(EVENTS, st.sampled_from(TERMS), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(events: list[E], terms: Terms, shuffle: random.Random) -> None:
    """All of it late, by up to `send_by`: nothing fires before the last has come."""
    arrivals = [(1_000, event) for event in events] + [(1_000, event) for event in events if shuffle.random() < 0.3]
    slack = Terms(terms.within, 2_000, terms.restart)
    shuffle.shuffle(arrivals)
    assert run(arrivals, slack, shuffle) == simulate(events, slack)


@given(EVENTS, st.sampled_from(TERMS), st.randoms(use_true_random=False))
def test_late_events_that_come_before_the_due_time_count_as_if_they_came_in_time(
    events: list[E], terms: Terms, shuffle: random.Random
) -> None:
    """Each event late by up to a span, read before whatever was due meanwhile: as with a partition that lags."""
    short = Terms(terms.within, 15, terms.restart)
    arrivals = sorted(
        ((event.at + shuffle.randrange(0, short.send_by + 1), event) for event in events), key=lambda it: it[0]
    )
    known: Kept | None = None
    for received, event in arrivals:
        known = inaction.happened(known and known.state, [event.happening(received)], short, received)
    fired = []
    while known is not None and known.due is not None:
        outcome = inaction.fire(known.state, 1 << 60 if shuffle.random() < 0.5 else known.due, short)
        fired += [(o.name, o.due) for o in outcome.occurrences]
        known = outcome.kept
    assert fired == simulate(events, short)


@given(EVENTS, st.sampled_from(TERMS), st.randoms(use_true_random=False))
def test_nobody_who_acted_in_time_is_texted_whatever_the_order_and_the_moment_of_firing(
    events: list[E], terms: Terms, shuffle: random.Random
) -> None:
    known: Kept | None = None
    fired: list[tuple[str, int]] = []
    seen: list[E] = []
    shuffle.shuffle(events)
    now = 100
    for event in events:
        now += shuffle.randrange(0, 30)
        known = inaction.happened(known and known.state, [event.happening(now)], terms, now)
        seen.append(event)
        if known is not None and shuffle.random() < 0.3:
            outcome = inaction.fire(known.state, now, terms)
            for occurrence in outcome.occurrences:
                at = occurrence.due - terms.within
                acted = [e for e in seen if e.kind == "b" and at <= e.at <= occurrence.due]
                assert not acted
            fired += [(o.name, o.due) for o in outcome.occurrences]
            known = outcome.kept
    spans = sorted(due for _, due in fired)
    assert all(later - earlier > terms.within for earlier, later in pairwise(spans))


@pytest.mark.parametrize(
    ("events", "keep", "restart"),
    [
        ([a(0)], ["a0"], ["a0"]),
        ([a(0), b(10)], [], []),
        ([a(0), b(11)], ["a0"], ["a0"]),
        ([b(0), a(0)], [], []),
        ([b(0), a(1)], ["a1"], ["a1"]),
        ([a(0), a(6)], ["a0"], ["a6"]),
        ([a(0), a(10)], ["a0"], ["a10"]),
        ([a(0), a(11)], ["a0", "a11"], ["a0", "a11"]),
        ([a(0), b(3), a(5)], ["a5"], ["a5"]),
        ([a(0), a(8), b(12)], ["a0"], []),
        ([x(0), x(6)], ["x6"], ["x6"]),
        ([x(0), x(6), x(30)], ["x6", "x30"], ["x6", "x30"]),
    ],
)
def test_what_fires(events: list[E], keep: list[str], restart: list[str]) -> None:
    for terms, expected in zip(TERMS, (keep, restart), strict=True):
        for order in (events, events[::-1]):
            arrivals = [(50, event) for event in order]
            assert [name for name, _ in run(arrivals, terms, random.Random(1))] == expected
        assert [name for name, _ in simulate(events, terms)] == expected


def test_an_act_that_comes_after_the_text_sends_nothing_and_unsends_nothing() -> None:
    terms = TERMS[0]
    known = inaction.happened(None, [a(0).happening(0)], terms, 0)
    assert known is not None
    fired = inaction.fire(known.state, 10, terms)
    assert [o.name for o in fired.occurrences] == ["a0"]
    assert fired.occurrences[0].carried.values == {"n": "a0"}
    assert fired.kept is not None
    late = [b(5).happening(12), a(6).happening(12), a(0).happening(13)]
    later = inaction.happened(fired.kept.state, late, terms, 13)
    assert later is not None
    assert later.due is None


def test_a_row_is_of_no_use_once_nothing_can_come_that_it_would_change() -> None:
    terms = TERMS[0]
    only = inaction.happened(None, [b(5).happening(5)], terms, 5)
    assert only is not None
    assert (only.due, only.keep_until) == (None, 5 + SEND_BY)
    assert inaction.replanned(only.state, 2_000, terms, 5 + SEND_BY) is not None
    assert inaction.replanned(only.state, 2_000, terms, 5 + SEND_BY + 1) is None


def test_a_shorter_or_longer_span_moves_what_is_armed() -> None:
    known = inaction.happened(None, [a(100).happening(100)], TERMS[0], 100)
    assert known is not None
    moved = inaction.replanned(known.state, 101, Terms(3, SEND_BY), 100)
    assert moved is not None
    assert moved.due == 103
    assert inaction.fire(known.state, 110, Terms(500, SEND_BY)).occurrences == []


def test_a_key_with_a_million_events_stays_small_and_keeps_its_timer() -> None:
    terms = Terms(10_000, 100_000)
    known = inaction.happened(None, [a(0).happening(0)], terms, 0)
    for at in range(1, 2_000):
        both = [x(at).happening(at), b(at + 20_000).happening(at)]
        known = inaction.happened(known and known.state, both, terms, at)
    assert known is not None
    state = inaction._decoder.decode(known.state)
    assert isinstance(state, State)
    assert len(state.arms) <= CAP + 1
    assert len(state.acts) <= CAP
    assert known.due == 1_999 + 10_000


def test_nothing_is_due_before_it_was_known() -> None:
    """What is in the log right behind the event that arms may disarm it, and has to be read first."""
    terms = TERMS[0]
    late = inaction.happened(None, [a(0).happening(50)], terms, 50)
    assert late is not None
    assert late.due == 50
    fired = inaction.fire(late.state, 50, terms)
    assert [(o.name, o.due) for o in fired.occurrences] == [("a0", 10)]
    shortened = inaction.replanned(late.state, 70, Terms(1, SEND_BY), 50)
    assert shortened is not None
    assert shortened.due == 70


def test_a_repeat_stays_one_as_long_as_it_is_kept() -> None:
    """Fired late, behind a lag: what repeated it is still there, for the next timer's sake, and must not come alive."""
    terms = Terms(10, 15)
    known: Kept | None = None
    for received, event in [(14, a(14)), (15, b(0)), (32, a(17)), (34, a(24)), (41, a(34))]:
        known = inaction.happened(known and known.state, [event.happening(received)], terms, received)
    assert known is not None
    first = inaction.fire(known.state, 41, terms)
    assert first.kept is not None
    second = inaction.fire(first.kept.state, 1_000, terms)
    assert [o.name for fired in (first, second) for o in fired.occurrences] == ["a14", "a34"]


def test_what_came_by_a_detour_meets_acts_that_are_older_than_any_deadline() -> None:
    """A misplaced event keeps the time of its first arrival: until it has been read, the acts behind it are kept."""
    terms, detour = Terms(10_000, 15), 40
    known = inaction.happened(None, [b(50).happening(50)], terms, detour)
    for at in (100, 200):
        known = inaction.happened(known and known.state, [b(at).happening(at)], terms, detour)
    late = inaction.happened(known and known.state, [a(45).happening(45)], terms, detour)
    assert late is not None
    assert late.due is None
    assert known is not None
    forgotten = inaction.replanned(known.state, 300, terms, 66)
    assert forgotten is not None
    assert [act.at for act in inaction._decoder.decode(forgotten.state).acts] == [100, 200]


def test_who_was_disarmed_stays_so_when_an_edit_moves_the_span_away_from_the_act() -> None:
    for restart in (False, True):
        known = inaction.happened(None, [a(0).happening(0)], Terms(10, SEND_BY, restart), 0)
        known = inaction.happened(known and known.state, [b(8).happening(8)], Terms(10, SEND_BY, restart), 8)
        shorter = Terms(5, SEND_BY, restart)
        known = inaction.happened(known and known.state, [a(20).happening(20)], shorter, 20)
        assert known is not None
        fired = inaction.fire(known.state, 100, shorter)
        assert [o.name for o in fired.occurrences] == ["a20"]


def test_large_values_do_not_make_a_large_row() -> None:
    terms = Terms(10_000, 100_000)
    known: Kept | None = None
    for at in range(300):
        large = a(at).happening(at)._replace(values={"text": ["x" * 500] * 60})
        known = inaction.happened(known and known.state, [large], terms, at)
    assert known is not None
    assert len(known.state) <= MAX_BYTES
    assert [o.name for o in inaction.fire(known.state, 10_000, terms).occurrences] == ["a0"]

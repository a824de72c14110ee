"""The ledger's state machine: every state is used, illegal moves raise, receipts are monotone."""

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.ledger import (
    ACCEPTED,
    FAILURE_CAUSES,
    MOVES,
    WAITING,
    Event,
    IllegalMove,
    State,
    apply,
    receive,
    status_of,
)
from postrider.contracts.delivery_events import STATUSES

NOTHING_SENT = (State.SUPPRESSED, State.CANCELLED, State.EXPIRED, State.FAILED)


def test_only_known_moves_are_allowed() -> None:
    for state, event in product(State, Event):
        if (state, event) in MOVES:
            assert apply(state, event) is MOVES[(state, event)]
        else:
            with pytest.raises(IllegalMove):
                apply(state, event)


def test_every_state_is_reached_and_every_event_used() -> None:
    assert set(MOVES.values()) == set(State)
    assert {event for _, event in MOVES} == set(Event)


def test_only_what_waits_or_is_resubmitted_can_be_submitted() -> None:
    """A text whose call may be under way, or is accepted, never goes out again without proof or policy."""
    into = {(state, event) for (state, event), after in MOVES.items() if after is State.SUBMITTING}
    assert into == {(State.QUEUED, Event.MARK), (State.IN_DOUBT, Event.RESUBMIT)}


def test_doubt_is_left_only_by_proof_policy_or_giving_up() -> None:
    assert {event for state, event in MOVES if state is State.IN_DOUBT} == {
        Event.DISPROVE, Event.RISK, Event.RESUBMIT, Event.GIVE_UP, Event.CANCEL, Event.EXPIRE, Event.EVIDENCE,
    }  # fmt: skip
    assert {event for state, event in MOVES if state is State.UNKNOWN} == {Event.EVIDENCE}


def test_submitting_is_never_cancelled_held_or_suppressed() -> None:
    events = {event for state, event in MOVES if state is State.SUBMITTING}
    assert not events & {Event.CANCEL, Event.HOLD, Event.SUPPRESS}


def test_accepted_is_never_taken_back() -> None:
    for state in ACCEPTED:
        assert all(after in ACCEPTED for (before, _), after in MOVES.items() if before is state)


def test_what_was_not_sent_ends_there_but_for_evidence() -> None:
    for state in NOTHING_SENT:
        assert {event for before, event in MOVES if before is state} == {Event.EVIDENCE}


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("accepted", "sent", "delivered"), State.DELIVERED),
        (("sent", "undelivered"), State.UNDELIVERED),
        (("sent", "undelivered", "delivered"), State.DELIVERED),
        (("unknown",), State.ACCEPTED),
    ],
)
def test_receipts_end_the_same_in_any_order(words: tuple[str, ...], end: State) -> None:
    for order in permutations((*words, words[0])):
        state = State.ACCEPTED
        for word in order:
            event = receive(state, word)
            state = apply(state, event) if event else state
        assert state is end


@given(st.lists(st.sampled_from(sorted(Event)), max_size=40))
def test_any_story_keeps_the_books(events: list[Event]) -> None:
    """Whatever happens in whatever order: a text accepted once stays accepted."""
    state = State.QUEUED
    accepted = False
    for event in events:
        try:
            state = apply(state, event)
        except IllegalMove:
            continue
        assert not accepted or state in ACCEPTED
        accepted = state in ACCEPTED


def test_statuses_are_those_of_the_contract() -> None:
    names = {status_of(state) for state in State if state is not State.FAILED} | set(FAILURE_CAUSES)
    assert names <= set(STATUSES)
    assert {status_of(state) for state in (*WAITING, State.SUBMITTING)} == {"pending"}
    with pytest.raises(ValueError):
        status_of(State.FAILED, "because")

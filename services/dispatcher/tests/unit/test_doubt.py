"""The resolver's decision table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.doubt import (
    AMBIGUITY_LASTS,
    OUTAGE_LASTS,
    Answer,
    AskAgain,
    Believe,
    Cancel,
    Doubt,
    Expire,
    GiveUp,
    Hearing,
    Requeue,
    Resubmit,
    Share,
    decide,
    share,
)

START = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
NOT_BEFORE = START + timedelta(seconds=130)
EARLY, LATE = START + timedelta(seconds=10), NOT_BEFORE + timedelta(seconds=1)
SEND_BY = START + timedelta(hours=1)


def doubt(now: datetime, answer: Answer = "not_asked", asked_at: datetime | None = None) -> Doubt:
    return Doubt(now, NOT_BEFORE, START, SEND_BY, answer, asked_at or now, 1, True, False, False, False)


def test_what_is_found_is_believed_at_any_time() -> None:
    for now in (EARLY, LATE, SEND_BY + timedelta(days=1)):
        assert decide(doubt(now, "found")) == Believe()


def test_a_negative_look_up_proves_nothing_before_not_before() -> None:
    assert isinstance(decide(doubt(EARLY, "negative")), AskAgain)
    # What counts is when it was asked, not when the answer came.
    assert isinstance(decide(doubt(LATE, "negative", asked_at=NOT_BEFORE - timedelta(seconds=1))), AskAgain)


def test_a_negative_look_up_proves_nothing_just_after_the_provider_hung() -> None:
    awake = replace(doubt(LATE, "negative"), heard_since=LATE + timedelta(seconds=5))
    assert decide(replace(awake, tries=9)) == AskAgain(LATE + timedelta(seconds=5))
    assert decide(replace(awake, now=LATE + timedelta(seconds=6), asked_at=LATE + timedelta(seconds=5))) == Requeue(
        True
    )


def test_a_provider_is_heard_from_its_first_answer_after_a_silence() -> None:
    hearing, seconds = Hearing(), timedelta(seconds=1)
    assert hearing.since("prv_a", 8, START) == START + 8 * seconds, "nobody has heard it yet"
    for at in (START, START + 60 * seconds):
        hearing.answered("prv_a", at)
    assert hearing.since("prv_a", 8, LATE) == START + 8 * seconds
    hearing.missed("prv_a")
    hearing.answered("prv_a", LATE)
    hearing.answered("prv_b", START)
    assert hearing.since("prv_a", 8, LATE) == LATE + 8 * seconds
    assert hearing.since("prv_b", 8, LATE) == START + 8 * seconds


def test_a_negative_look_up_in_time_gives_the_text_another_chance() -> None:
    assert decide(doubt(LATE, "negative")) == Requeue(proven=True)


def test_negative_and_too_late_is_expired_and_stopped_is_cancelled() -> None:
    late = SEND_BY + timedelta(seconds=1)
    assert decide(doubt(late, "negative")) == Expire()
    assert decide(replace(doubt(LATE, "negative"), is_stopped=True)) == Cancel()
    assert decide(replace(doubt(late, "negative"), is_stopped=True)) == Cancel()


def test_the_first_look_that_can_prove_something_happens_as_soon_as_it_can() -> None:
    decision = decide(doubt(NOT_BEFORE - timedelta(milliseconds=500), "negative"))
    assert decision == AskAgain(NOT_BEFORE)


@pytest.mark.parametrize(("answer", "lasts"), [("ambiguous", AMBIGUITY_LASTS), ("unavailable", OUTAGE_LASTS)])
def test_what_may_still_be_learnt_is_waited_for_and_then_given_up(answer: Answer, lasts: timedelta) -> None:
    assert isinstance(decide(doubt(LATE, answer)), AskAgain)
    assert decide(doubt(NOT_BEFORE + lasts, answer)) == GiveUp()


@pytest.mark.parametrize("answer", ["ambiguous", "unavailable"])
def test_who_may_double_does_not_wait_for_long(answer: Answer) -> None:
    risky = replace(doubt(LATE, answer), may_double=True)
    assert decide(risky) == Requeue(proven=False)
    assert decide(replace(risky, is_stopped=True)) != Requeue(proven=False)
    assert decide(replace(risky, now=SEND_BY)) != Requeue(proven=False)


def test_texts_that_are_alike_are_shared_by_the_messages_they_must_belong_to() -> None:
    assert share(["SM1", "SM2"], ["a", "b"], "a") == Share("SM1")
    assert share(["SM1", "SM2"], ["a", "b"], "b") == Share("SM2")
    assert share(["SM1", "SM2"], ["a", "b", "c"], "c") == Share(None), "those who come first take theirs first"


def test_more_texts_than_messages_stay_ambiguous() -> None:
    assert share(["SM1", "SM2"], ["a"], "a") is None
    assert share(["SM1", "SM2"], ["b", "c"], "a") is None, "not in doubt any more"


def test_without_look_up_only_receipts_help_and_then_the_policy_decides() -> None:
    blind = replace(doubt(EARLY), can_look_up=False)
    assert decide(blind) == AskAgain(NOT_BEFORE)
    assert decide(replace(blind, now=LATE)) == GiveUp()
    assert decide(replace(blind, now=LATE, may_double=True)) == Requeue(proven=False)
    assert decide(replace(blind, now=SEND_BY, may_double=True)) == GiveUp()


def test_an_idempotent_provider_gets_the_same_again_unless_it_must_not() -> None:
    same = replace(doubt(EARLY), can_look_up=False, is_idempotent=True)
    assert decide(same) == Resubmit()
    assert decide(replace(same, is_stopped=True)) != Resubmit()
    assert decide(replace(same, now=SEND_BY)) != Resubmit()


@given(
    now=st.timedeltas(timedelta(), timedelta(days=2)),
    answer=st.sampled_from(["negative", "ambiguous", "unavailable", "not_asked"]),
    asked=st.timedeltas(timedelta(), timedelta(days=2)),
    heard=st.timedeltas(timedelta(), timedelta(days=2)),
    flags=st.tuples(*[st.booleans()] * 4),
    tries=st.integers(0, 100),
)
def test_never_double_is_never_doubled(
    now: timedelta, answer: Answer, asked: timedelta, heard: timedelta, flags: tuple[bool, ...], tries: int
) -> None:
    """Without proof the text goes out again only where the policy says so, before its deadline, not stopped."""
    can_look_up, is_idempotent, may_double, is_stopped = flags
    moment = START + now
    case = Doubt(
        moment, NOT_BEFORE, START + heard, SEND_BY, answer, min(START + asked, moment), tries, can_look_up,
        is_idempotent, may_double, is_stopped,
    )  # fmt: skip
    decision = decide(case)
    if isinstance(decision, Requeue):
        proven = answer == "negative" and case.asked_at >= max(NOT_BEFORE, case.heard_since)
        assert decision.proven == proven
        assert (proven or may_double) and moment < SEND_BY and not is_stopped
    if isinstance(decision, AskAgain):
        assert decision.at > moment

"""What follows a call: failover on definite provider rejections only, never on doubt."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.domain.after_outcome import (
    LONGEST_WAIT_SECONDS,
    Accepted,
    Deferred,
    Doubted,
    Failed,
    NextProvider,
    Situation,
    after_outcome,
    back_off,
)
from dispatcher.domain.outcomes import Outcome, SubmitResult

NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def situation(has_another: bool = True, attempt: int = 1, left: float = 3600) -> Situation:
    marked_at = NOW - timedelta(seconds=1)
    return Situation(attempt, marked_at, NOW, NOW + timedelta(seconds=left), has_another, 130.5, 120)


def test_accepted() -> None:
    result = SubmitResult(Outcome.ACCEPTED, provider_message_id="SM1")
    assert after_outcome(result, situation()) == Accepted("SM1")


@pytest.mark.parametrize("has_another", [True, False])
def test_doubt_stays_with_its_provider(has_another: bool) -> None:
    step = after_outcome(SubmitResult(Outcome.IN_DOUBT, code="timeout"), situation(has_another))
    assert step == Doubted(NOW + timedelta(seconds=129.5), "timeout")


def test_a_doubt_lasts_from_the_end_of_the_call_when_the_process_was_stopped_in_it() -> None:
    """Its bytes may have gone out when it went on, long after the mark."""
    stopped = replace(situation(), started_at=NOW - timedelta(minutes=10))
    step = after_outcome(SubmitResult(Outcome.IN_DOUBT, code="timeout"), stopped)
    assert step == Doubted(NOW + timedelta(seconds=120), "timeout")


@pytest.mark.parametrize("outcome", [Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT])
def test_what_holds_everywhere_fails_at_once(outcome: Outcome) -> None:
    assert after_outcome(SubmitResult(outcome, code="21211"), situation()) == Failed("21211")


def test_a_provider_that_refuses_is_followed_by_the_next() -> None:
    result = SubmitResult(Outcome.REJECTED_PROVIDER, code="30002")
    assert after_outcome(result, situation()) == NextProvider("30002")


def test_the_last_provider_that_refuses_is_asked_again_later() -> None:
    result = SubmitResult(Outcome.REJECTED_PROVIDER, code="30002")
    step = after_outcome(result, situation(has_another=False, attempt=3))
    assert step == Deferred(NOW + timedelta(seconds=back_off(3)), "30002", forget_refusals=True)


def test_throttling_waits_as_asked_but_not_past_the_deadline() -> None:
    result = SubmitResult(Outcome.REJECTED_LATER, code="20429", retry_after_seconds=60)
    alone = after_outcome(result, situation(has_another=False))
    assert alone == Deferred(NOW + timedelta(seconds=60), "20429", forget_refusals=True)
    late = after_outcome(result, situation(has_another=False, left=10))
    assert late == Deferred(NOW + timedelta(seconds=10), "20429", forget_refusals=True)


def test_a_long_throttle_goes_to_the_next_provider_a_short_one_waits() -> None:
    long = SubmitResult(Outcome.REJECTED_LATER, code="20429", retry_after_seconds=60)
    short = SubmitResult(Outcome.REJECTED_LATER, code="20429", retry_after_seconds=1)
    assert after_outcome(long, situation()) == NextProvider("20429")
    assert isinstance(after_outcome(short, situation()), Deferred)


def test_back_off_grows_to_its_limit() -> None:
    waits = [back_off(n) for n in range(1, 30)]
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits == sorted(waits) and waits[-1] == LONGEST_WAIT_SECONDS

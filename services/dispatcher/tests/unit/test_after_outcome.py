"""What follows a call: failover on definite provider rejections only, never on doubt."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from dispatcher.domain.after_outcome import (
    LONGEST_WAIT_SECONDS,
    PATIENCE_SECONDS,
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


def later(seconds: float | None, *, route_only: bool = False) -> SubmitResult:
    return SubmitResult(Outcome.REJECTED_LATER, code="20429", retry_after_seconds=seconds, route_only=route_only)


def test_a_text_waits_for_the_provider_that_throttles() -> None:
    assert after_outcome(later(20), situation()) == Deferred(NOW + timedelta(seconds=20), "20429", True)
    assert after_outcome(later(None), situation()) == Deferred(NOW + timedelta(seconds=2), "20429", True)


def test_but_not_for_long_and_not_past_its_deadline() -> None:
    assert after_outcome(later(PATIENCE_SECONDS + 1), situation()) == NextProvider("20429")
    assert after_outcome(later(20), situation(left=15)) == NextProvider("20429")
    assert after_outcome(later(None), situation(attempt=5)) == NextProvider("20429"), "the fifth time it was refused"


def test_in_a_group_that_fails_over_on_rate_limits_the_next_one_has_it_at_once() -> None:
    spilling = replace(situation(), spills=True)
    assert after_outcome(later(1), spilling) == NextProvider("20429")
    assert isinstance(after_outcome(later(1), replace(spilling, has_another=False)), Deferred)
    assert isinstance(after_outcome(SubmitResult(Outcome.IN_DOUBT), spilling), Doubted)


def test_what_the_same_provider_takes_when_it_comes_alone_does_not_leave_it() -> None:
    """Refused together with others, or the same call too soon: nothing to do with its load."""
    assert isinstance(after_outcome(later(1, route_only=True), replace(situation(), spills=True)), Deferred)


def test_back_off_grows_to_its_limit() -> None:
    waits = [back_off(n) for n in range(1, 30)]
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits == sorted(waits) and waits[-1] == LONGEST_WAIT_SECONDS

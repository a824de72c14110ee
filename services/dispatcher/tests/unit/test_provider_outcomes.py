"""What may follow from each outcome: the line between "may be given to somebody again" and "never"."""

from __future__ import annotations

import pytest

from dispatcher.domain.outcomes import Outcome, SubmitResult


@pytest.mark.parametrize(
    ("outcome", "definite", "fail_over", "breaker"),
    [
        (Outcome.ACCEPTED, False, False, False),
        (Outcome.REJECTED_RECIPIENT, True, False, False),
        (Outcome.REJECTED_CONTENT, True, False, False),
        (Outcome.REJECTED_PROVIDER, True, True, True),
        (Outcome.REJECTED_LATER, True, True, False),
        (Outcome.IN_DOUBT, False, False, True),
    ],
)
def test_what_follows(outcome: Outcome, definite: bool, fail_over: bool, breaker: bool) -> None:
    result = SubmitResult(outcome, provider_message_id="SM1" if outcome is Outcome.ACCEPTED else None)
    assert result.is_definite_rejection == definite
    assert result.may_fail_over == fail_over
    assert result.counts_for_breaker == breaker
    assert result.is_accepted == (outcome is Outcome.ACCEPTED)
    assert result.is_in_doubt == (outcome is Outcome.IN_DOUBT)


def test_a_refused_route_fails_over_and_leaves_the_breaker_alone() -> None:
    result = SubmitResult(Outcome.REJECTED_PROVIDER, route_only=True)
    assert result.may_fail_over
    assert not result.counts_for_breaker


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.IN_DOUBT])
def test_a_call_that_did_not_begin_is_a_definite_rejection(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match="did not begin"):
        SubmitResult(outcome, provider_message_id="SM1" if outcome is Outcome.ACCEPTED else None, not_begun=True)


def test_accepted_comes_with_an_id_and_only_then() -> None:
    with pytest.raises(ValueError, match="provider message id"):
        SubmitResult(Outcome.ACCEPTED)
    with pytest.raises(ValueError, match="provider message id"):
        SubmitResult(Outcome.IN_DOUBT, provider_message_id="SM1")

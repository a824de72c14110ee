"""Calls for texts that were refused before: a share of first tries, and free where they are of use."""

from dispatcher.domain.retry_budget import MOST, PER_SECOND, SHARE, RetryBudget


def spent(budget: RetryBudget, now: float) -> int:
    """All that is left, each call in vain."""
    n = 0
    while budget.left(now):
        budget.spend(now)
        n += 1
    return n


def test_calls_in_vain_are_a_share_of_first_tries_and_what_was_saved_up() -> None:
    budget = RetryBudget()
    in_vain = 0
    for n in range(10_000):
        budget.first_try()
        if n % 100 == 0:
            in_vain += spent(budget, 0.0)
    assert 10_000 * SHARE - 100 <= in_vain <= 10_000 * SHARE + MOST


def test_a_provider_that_takes_them_gets_as_many_as_there_are() -> None:
    budget = RetryBudget()
    for _ in range(1_000):
        assert budget.left(0.0) > 0
        budget.spend(0.0)
        budget.was_of_use()


def test_without_first_tries_a_few_a_second_go_on() -> None:
    budget = RetryBudget()
    spent(budget, 0.0)
    assert budget.left(0.0) == 0
    assert spent(budget, 2.0) == 2 * PER_SECOND
    assert budget.left(3_600.0) == MOST, "and a pause saves up no more than that"

"""Funnel moves conserve: what leaves one status arrives in another, under the provider that belongs to it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.funnel import Change, moves
from dispatcher.domain.message import TEST_CAMPAIGN
from postrider.contracts.delivery_events import STATUSES

statuses = st.sampled_from(STATUSES)
providers = st.sampled_from(["", "prv_a", "prv_b"])
changes = st.builds(
    Change,
    st.sampled_from(["c1", "c2"]),
    st.just("r"),
    st.just(""),
    statuses,
    providers,
    statuses,
    providers,
    st.just(""),
)


def test_one_move_for_many_alike() -> None:
    change = Change("c", "r", "", "pending", "prv_old", "awaiting_receipt", "prv_a")
    (move,) = moves([change] * 7)
    assert (move.n, move.from_status, move.from_provider_id, move.to_status, move.provider_id) == (
        7, "pending", "", "awaiting_receipt", "prv_a",
    )  # fmt: skip


def test_waiting_again_is_no_move() -> None:
    assert moves([Change("c", "r", "", "pending", "prv_a", "pending", "prv_b")]) == []


def test_a_doubt_that_is_disproved_leaves_its_provider() -> None:
    (move,) = moves([Change("c", "r", "", "in_doubt", "prv_a", "pending", "prv_a")])
    assert (move.from_provider_id, move.provider_id) == ("prv_a", "")


@given(st.lists(changes, max_size=30))
def test_moves_have_the_sum_of_the_changes(given_changes: list[Change]) -> None:
    by_change: Counter[tuple[str, str]] = Counter()
    for change in given_changes:
        by_change[change.campaign_id, change.from_status] -= 1
        by_change[change.campaign_id, change.to_status] += 1
    by_move: Counter[tuple[str, str]] = Counter()
    for move in moves(given_changes):
        by_move[move.campaign_id, move.from_status] -= move.n
        by_move[move.campaign_id, move.to_status] += move.n
    assert {key: n for key, n in by_change.items() if n} == {key: n for key, n in by_move.items() if n}


def test_a_test_send_is_in_no_funnel() -> None:
    assert moves([Change(TEST_CAMPAIGN, "c", "", "pending", "", "delivered", "prv_a")]) == []

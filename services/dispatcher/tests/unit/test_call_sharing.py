"""Which texts share a call."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.sharing import Sharing


def drawn(sharing: Sharing, texts: list[tuple[str, str]], *, is_bulk: bool = False) -> list[str]:
    """The ids of those that found a place, up to the first that did not."""
    taken = []
    for id, key in texts:
        if not sharing.takes(id, key, is_bulk=is_bulk):
            break
        taken.append(id)
    return taken


def test_texts_of_one_key_fill_calls_in_their_order() -> None:
    sharing = Sharing(2, 2, 2)
    ids = drawn(sharing, [(str(n), "k") for n in range(5)])
    assert ids == ["0", "1", "2", "3"], "two calls of two"
    assert sharing.calls(ids) == [["0", "1"], ["2", "3"]]


def test_another_key_is_another_call() -> None:
    sharing = Sharing(10, 2, 2)
    ids = drawn(sharing, [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z"), ("e", "x")])
    assert ids == ["a", "b", "c"], "who finds no connection waits, and nobody overtakes"
    assert sharing.calls(ids) == [["a", "c"], ["b"]]


def test_live_and_bulk_have_connections_of_their_own() -> None:
    sharing = Sharing(10, 3, 1)
    live = drawn(sharing, [("a", "x")])
    bulk = drawn(sharing, [("b", "x"), ("c", "x"), ("d", "y")], is_bulk=True)
    assert sharing.calls([*live, *bulk]) == [["a"], ["b", "c"]]


def test_who_may_not_go_after_all_leaves_its_call() -> None:
    sharing = Sharing(2, 2, 2)
    drawn(sharing, [(str(n), "k") for n in range(4)])
    assert sharing.calls(["0", "3"]) == [["0", "3"]]


@given(
    st.integers(2, 5),
    st.integers(1, 4),
    st.integers(0, 4),
    st.lists(st.tuples(st.booleans(), st.sampled_from("xyz")), max_size=30),
    st.data(),
)
def test_never_more_calls_than_connections(
    size: int, calls: int, for_bulk: int, texts: list[tuple[bool, str]], data: st.DataObject
) -> None:
    sharing = Sharing(size, calls, for_bulk)
    taken = {}
    for number, (is_bulk, key) in enumerate(texts):
        if sharing.takes(str(number), key, is_bulk=is_bulk):
            taken[str(number)] = (is_bulk, key)
    going = [id for id in taken if data.draw(st.booleans())]
    made = sharing.calls(going)
    assert sorted(id for call in made for id in call) == sorted(going)
    assert len(made) <= calls and all(len(call) <= size for call in made)
    assert Counter(taken[call[0]][0] for call in made)[True] <= for_bulk
    assert all(len({taken[id] for id in call}) == 1 for call in made)

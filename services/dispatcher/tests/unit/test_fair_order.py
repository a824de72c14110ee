"""Fair between campaigns: at the draw, and in the room that each gets."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.fair_buffer import FairBuffer, Verdict
from dispatcher.domain.fair_share import share


def buffer(*items: str) -> FairBuffer[str]:
    """Items are named by their owner's letter and a number."""
    made: FairBuffer[str] = FairBuffer(lambda item: item[0])
    for item in items:
        made.put(item)
    return made


def few(n: int) -> list[Verdict]:
    return [Verdict.TAKE] * n + [Verdict.STOP]


def test_one_of_each_in_turn_and_each_ones_in_order() -> None:
    waiting = buffer("a1", "a2", "a3", "a4", "b1", "c1", "c2")
    assert waiting.draw(lambda _: Verdict.TAKE) == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]
    assert len(waiting) == 0


def test_the_turn_goes_on_in_the_next_draw() -> None:
    waiting, verdicts = buffer("a1", "a2", "a3", "b1", "b2"), few(1)
    assert waiting.draw(lambda _: verdicts.pop(0)) == ["a1"]
    waiting.put("c1")
    assert waiting.head == "b1"
    assert waiting.draw(lambda _: Verdict.TAKE) == ["b1", "a2", "c1", "b2", "a3"]


def test_who_is_passed_over_keeps_its_turn() -> None:
    waiting = buffer("a1", "b1", "c1", "b2")
    drawn = waiting.draw(lambda item: Verdict.PASS if item in ("a1", "c1") else Verdict.TAKE)
    assert drawn == ["b1", "b2"]
    assert list(waiting) == ["a1", "c1"] and len(waiting) == 2


def test_taking_by_other_reasons() -> None:
    waiting = buffer("a1", "a2", "b1", "a3", "b2")
    assert waiting.take_heads(lambda item: item.endswith("1")) == ["a1", "b1"]
    assert waiting.counts() == {"a": 2, "b": 1}
    assert waiting.take_owner("a") == ["a2", "a3"] and waiting.take_owner("x") == []
    assert waiting.drain() == ["b2"] and len(waiting) == 0 and not waiting.counts()


def test_room_goes_to_who_has_least_in_line() -> None:
    assert share(100, {"million": 300, "new": 0}, 0) == {"new": 100}
    assert share(100, {"a": 10, "b": 0}, 0) == {"a": 45, "b": 55}
    assert share(512, {"alone": 0}, 0) == {"alone": 512}


def test_when_there_is_not_enough_for_all_they_take_turns() -> None:
    first = [next(iter(share(1, {"a": 0, "b": 0, "c": 0}, turn))) for turn in range(6)]
    assert first == ["a", "b", "c", "a", "b", "c"]


@given(
    room=st.integers(0, 600),
    waiting=st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 300), max_size=20),
    turn=st.integers(0, 50),
)
def test_all_of_the_room_is_given_and_nobody_is_lifted_above_another(
    room: int, waiting: dict[str, int], turn: int
) -> None:
    shares = share(room, waiting, turn)
    assert sum(shares.values()) == (room if waiting else 0) and all(n > 0 for n in shares.values())
    after = {each: waiting[each] + shares.get(each, 0) for each in waiting}
    lifted = [after[each] for each in shares]
    assert not lifted or max(lifted) <= min(after.values()) + 1

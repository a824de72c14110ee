"""Who surely has a profile: an erased person is unknown again, even for a batch that had begun before."""

from __future__ import annotations

from segment_engine.loops.known_users import MAX_FORGOTTEN, KnownUsers


def test_who_was_forgotten_meanwhile_is_not_added_by_a_batch_that_began_before() -> None:
    known = KnownUsers()
    begun = known.turn
    known.forget("a")
    known.add(["a", "b"], begun)
    assert known.unknown({"a", "b"}) == {"a"}
    known.add(["a"], known.turn)
    assert known.unknown({"a", "b"}) == set()
    known.forget("a")
    assert known.unknown({"a"}) == {"a"}


def test_forgetting_costs_bounded_memory_and_the_latest_hold() -> None:
    known = KnownUsers()
    begun = known.turn
    for n in range(MAX_FORGOTTEN + 10):
        known.forget(f"u{n}")
    known.add([f"u{MAX_FORGOTTEN}", "other"], begun)
    assert known.unknown({f"u{MAX_FORGOTTEN}", "other"}) == {f"u{MAX_FORGOTTEN}"}


def test_the_oldest_go_when_it_is_full() -> None:
    known = KnownUsers(capacity=10)
    known.add([f"u{n}" for n in range(11)])
    assert known.unknown({"u0", "u10"}) == {"u0"}

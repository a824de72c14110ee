"""The watchdog's rule: behind, and not moving, for too long."""

from __future__ import annotations

from postrider.kafka.watchdog import Standstill

HERE = ("topic", 0)


def test_a_reader_at_the_end_may_stand_still() -> None:
    standstill = Standstill(100)
    assert standstill.look({HERE: 5}, {HERE: 5}, 0) is None
    assert standstill.look({HERE: 5}, {HERE: 5}, 1_000) is None


def test_a_reader_behind_that_moves_is_fine() -> None:
    standstill = Standstill(100)
    for second in range(0, 1_000, 50):
        assert standstill.look({HERE: second}, {HERE: 10_000}, second) is None


def test_a_reader_behind_that_does_not_move_is_stuck() -> None:
    standstill = Standstill(100)
    assert standstill.look({HERE: 5}, {HERE: 6}, 0) is None
    assert standstill.look({HERE: 5}, {HERE: 7}, 100) is None
    assert standstill.look({HERE: 5}, {HERE: 8}, 101) == HERE


def test_an_outage_does_not_count() -> None:
    standstill = Standstill(100)
    assert standstill.look({HERE: 5}, {HERE: 6}, 0) is None
    standstill.forget()
    assert standstill.look({HERE: 5}, {HERE: 6}, 150) is None


def test_a_partition_that_went_to_somebody_else_is_forgotten() -> None:
    standstill = Standstill(100)
    assert standstill.look({HERE: 5}, {HERE: 6}, 0) is None
    assert standstill.look({}, {HERE: 6}, 50) is None
    assert standstill.look({HERE: 5}, {HERE: 6}, 120) is None

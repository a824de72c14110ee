"""What the receipts of a long text's parts say of the text, in whatever order they come."""

from __future__ import annotations

from itertools import permutations

import pytest

from dispatcher.domain.parts import PartReceipt, Whole, whole_of

A, B, C = "part-a", "part-b", "part-c"


@pytest.mark.parametrize(
    ("said", "parts", "whole"),
    [
        ([(A, "delivered")], 1, Whole("delivered")),
        ([(A, "delivered")], 2, Whole("sent")),
        ([(A, "delivered"), (A, "delivered")], 2, Whole("sent")),
        ([(A, "delivered"), (B, "delivered")], 2, Whole("delivered")),
        ([(A, "delivered"), (B, "sent")], 2, Whole("sent")),
        ([(A, "delivered"), (B, "sent"), (B, "delivered")], 2, Whole("delivered")),
        ([(A, "delivered"), (B, "delivered"), (C, "sent")], 3, Whole("sent")),
        ([(A, "delivered"), (B, "undelivered", "6")], 2, Whole("undelivered", "6")),
        ([(A, "sent"), (B, "undelivered", "6"), (C, "delivered")], 3, Whole("undelivered", "6")),
        ([(A, "undelivered", "2"), (B, "undelivered", "6")], 2, Whole("undelivered", "2")),
        ([(A, "undelivered", "2"), (A, "delivered"), (B, "delivered")], 2, Whole("delivered")),
        ([(A, "accepted")], 2, Whole("accepted")),
        ([(A, "unknown")], 2, Whole("accepted")),
        ([(A, "accepted"), (B, "sent")], 2, Whole("sent")),
        # the vendor made more parts of it than we
        ([(A, "delivered"), (B, "sent")], 1, Whole("sent")),
        # and of a text that was not counted, any part
        ([(A, "delivered")], 0, Whole("delivered")),
    ],
)
def test_whole(said: list[tuple[str, ...]], parts: int, whole: Whole) -> None:
    for order in permutations([PartReceipt(*each) for each in said]):
        assert whole_of(order, parts) == whole


def test_nothing_said() -> None:
    assert whole_of([], 0) == Whole("accepted")

"""Calls with several texts: one to each number, nothing twice, and texts that were refused together go alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.providers.base import OutgoingText
from dispatcher.providers.batches import Alone, hand_over
from tests.support.batches import all_begun


def text(name: str, to: str = "+919876543210") -> OutgoingText:
    return OutgoingText(name, 1, f"{name}.1", to, "Hi", "GSM-7", 1)


class Vendor:
    """Remembers its calls; accepts every text under its name."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def __call__(self, texts: Sequence[OutgoingText]) -> list[SubmitResult]:
        self.calls.append([text.message_id for text in texts])
        return [SubmitResult(Outcome.ACCEPTED, provider_message_id=text.message_id) for text in texts]


def refuse(*names: str):  # type: ignore[no-untyped-def]
    refused = SubmitResult(Outcome.REJECTED_CONTENT, code="no", not_begun=True)
    return lambda text: refused if text.message_id in names else None


@pytest.mark.parametrize(
    ("texts", "refused", "calls"),
    [
        ([], [], []),
        ([text("a"), text("b", "+2")], [], [["a", "b"]]),
        ([text("a"), text("b")], [], [["a"], ["b"]]),
        ([text("a"), text("b", "+2"), text("c"), text("d", "+2"), text("e")], [], [["a", "b"], ["c", "d"], ["e"]]),
        ([text("a"), text("b"), text("c", "+2")], ["a"], [["b", "c"]]),
        ([text("a")], ["a"], []),
    ],
)
async def test_one_text_to_a_number_in_a_call(
    texts: list[OutgoingText], refused: list[str], calls: list[list[str]]
) -> None:
    vendor = Vendor()
    results = all_begun(await hand_over(texts, refuse(*refused), vendor))
    assert vendor.calls == calls
    expected = [None if text.message_id in refused else text.message_id for text in texts]
    assert [result.provider_message_id for result in results] == expected, "each its own, in their order"


def test_texts_refused_together_go_alone() -> None:
    alone = Alone(most=3)
    result = SubmitResult(Outcome.REJECTED_CONTENT, code="310")
    answers = alone.refused([text("a"), text("b")], result)
    assert [(each.outcome, each.code) for each in answers] == [(Outcome.REJECTED_LATER, "310")] * 2
    assert "a" in alone and "b" in alone and "c" not in alone
    alone.refused([text("c"), text("d")], result)
    assert "a" not in alone and "d" in alone, "what is remembered is bounded"

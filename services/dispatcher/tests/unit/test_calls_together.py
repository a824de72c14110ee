"""A call with several texts: one fence, one call, and a settlement for each text by its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from dispatcher.caller import Marked
from dispatcher.domain.breaker import FAILURES_TO_OPEN
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK
from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.providers.base import OutgoingText
from tests.support.calling import Bench, News, Vendor, accepted, marked


class Hanging(Vendor):
    """Answers when its call is broken off."""

    def __init__(self) -> None:
        super().__init__(lambda texts: [])
        self.begun = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        self.task = asyncio.current_task()
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


TEXTS = [marked(f"m{n}") for n in range(4)]


async def test_each_text_is_settled_by_its_own_result() -> None:
    bench = Bench()
    refused = SubmitResult(Outcome.REJECTED_RECIPIENT, code="202", suppress="blocked")
    doubt = SubmitResult(Outcome.IN_DOUBT, code="not_named")
    vendor = Vendor(lambda texts: [accepted(texts[0]), refused, doubt, None])
    await bench.call(vendor, TEXTS)
    (call,) = vendor.calls
    assert [text.reference for text in call] == [f"m{n}.1" for n in range(4)]
    assert [text.filled.variables for text in call] == [("m0",), ("m1",), ("m2",), ("m3",)]
    assert {text.campaign_id for text in call} == {"cmp_1"}
    assert bench.said() == {
        "m0": (Event.ACCEPT, ""),
        "m1": (Event.FAIL, "202"),
        "m2": (Event.DOUBT, "not_named"),
        "m3": (Event.UNMARK, ""),
    }
    assert bench.settled[0].provider_message_id == "id-m0" and bench.settled[1].suppress == "blocked"
    assert (bench.ended, bench.caller.calls) == (1, 0)


async def test_who_may_not_be_sent_any_more_leaves_the_call() -> None:
    bench = Bench(News(sending={"cmp_1"}))
    vendor = Vendor(lambda texts: [accepted(text) for text in texts])
    await bench.call(vendor, [TEXTS[0], marked("m9", "cmp_2"), TEXTS[1]])
    assert [[text.message_id for text in call] for call in vendor.calls] == [["m0", "m1"]]
    assert bench.said()["m9"] == (Event.UNMARK, "")
    await bench.call(vendor, [marked("m9", "cmp_2")])
    assert len(vendor.calls) == 1, "nobody is left: nothing is called"


async def test_a_stop_while_it_connects_is_asked_for_each_text() -> None:
    bench = Bench()

    def connects(texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        assert all(text.may_begin() for text in texts)
        bench.news.sending.discard("cmp_2")
        assert [text.may_begin() for text in texts] == [True, False]
        return [None, None]

    await bench.call(Vendor(connects), [TEXTS[0], marked("m9", "cmp_2")])
    assert {event for event, _ in bench.said().values()} == {Event.UNMARK}


async def test_hours_that_end_while_it_connects_are_asked_for_each_text() -> None:
    bench = Bench()

    def connects(texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        assert all(text.may_begin() for text in texts)
        bench.clock.advance(timedelta(seconds=4))
        assert [text.may_begin() for text in texts] == [True, False]
        return [None, None]

    await bench.call(Vendor(connects), [TEXTS[0], TEXTS[1]._replace(validity=3)])
    assert {event for event, _ in bench.said().values()} == {Event.UNMARK}


async def test_a_call_that_comes_too_late_after_its_mark_does_not_begin() -> None:
    bench = Bench()
    vendor = Vendor(lambda texts: [accepted(text) for text in texts])
    await bench.call(vendor, TEXTS, late=0.6)
    assert vendor.calls == []
    assert {event for event, _ in bench.said().values()} == {Event.UNMARK} and len(bench.settled) == 4


async def test_a_provider_that_takes_one_text_of_a_call_is_well() -> None:
    bench = Bench()
    doubt = SubmitResult(Outcome.IN_DOUBT, code="not_named")
    many = [marked(f"m{n}") for n in range(FAILURES_TO_OPEN + 1)]
    for place in (0, -1):

        def forgets(texts: Sequence[OutgoingText], place: int = place) -> list[SubmitResult | None]:
            results: list[SubmitResult | None] = [doubt] * len(texts)
            results[place] = accepted(texts[place])
            return results

        await bench.call(Vendor(forgets), many)
        assert bench.caller.breaker.state == "closed"


async def test_an_adapter_that_fails_or_answers_too_few_leaves_all_in_doubt() -> None:
    def breaks(texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        raise ValueError

    def too_few(texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        return [accepted(texts[0])]

    for answer in (breaks, too_few):
        bench = Bench()
        await bench.call(Vendor(answer), TEXTS)
        assert bench.said() == {f"m{n}": (Event.DOUBT, "adapter_failed") for n in range(4)}


async def test_a_call_that_is_broken_off_leaves_all_in_doubt() -> None:
    bench = Bench()
    vendor = Hanging()
    calling = asyncio.create_task(bench.call(vendor, TEXTS))
    await vendor.begun.wait()
    assert bench.caller.calls == 1 and vendor.task is not None
    vendor.task.cancel()
    await calling
    assert bench.said() == {f"m{n}": (Event.DOUBT, "cancelled") for n in range(4)}


async def test_the_breaker_counts_texts() -> None:
    bench = Bench()
    refused = SubmitResult(Outcome.REJECTED_PROVIDER, code="401")
    many = [marked(f"m{n}") for n in range(FAILURES_TO_OPEN)]
    await bench.call(Vendor(lambda texts: [refused] * len(texts)), many[1:])
    assert bench.caller.breaker.state == "closed"
    await bench.call(Vendor(lambda texts: [refused] * len(texts)), many[:1])
    assert bench.caller.breaker.state == "open"


async def test_a_bulk_call_is_one_however_many_texts_it_has() -> None:
    bench = Bench()
    seen: list[tuple[int, int]] = []

    def answer(texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        seen.append((bench.caller.calls, bench.caller.bulk_calls))
        return [accepted(text) for text in texts]

    await bench.call(Vendor(answer), [replace_lane(text) for text in TEXTS])
    assert seen == [(1, 1)] and bench.caller.bulk_calls == 0


def replace_lane(text: Marked) -> Marked:
    again = marked(text.message.message_id, lane=BULK)
    return again._replace(text=replace(again.text, message=again.message))

"""What calls teach of a provider: how long it wants to be left alone, when it stalls, what its refusals cost."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest
from msgspec.structs import replace

from dispatcher.caller import UNASKED_PAUSE_SECONDS, Marked
from dispatcher.domain.breaker import FAILURES_TO_OPEN, QUICK_STALL_SECONDS, STALL_SECONDS
from dispatcher.domain.message import Queue
from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.providers.base import OutgoingText, ProviderAdapter
from tests.support.calling import TERMS, Bench, Vendor, accepted, marked
from tests.support.eventually import eventually


def saying(result: SubmitResult) -> Vendor:
    return Vendor(lambda texts: [result] * len(texts))


def later(seconds: float | None = None, *, own: bool = False) -> SubmitResult:
    return SubmitResult(Outcome.REJECTED_LATER, code="429", retry_after_seconds=seconds, route_only=own)


def again(name: str) -> Marked:
    """Refused before."""
    text = marked(name)
    return text._replace(message=replace(text.message, attempt=2))


async def test_a_provider_is_left_alone_as_long_as_it_asks() -> None:
    bench = Bench()
    await bench.one(saying(later(30)), marked("m1"))
    assert bench.caller.quiet_until == bench.clock.monotonic() + 30
    bench.clock.advance(timedelta(seconds=10))
    await bench.one(saying(later(5)), marked("m2"))
    assert bench.caller.quiet_until == bench.clock.monotonic() + 20, "a call that was under way shortens nothing"
    assert bench.caller.breaker.state == "closed", "it is busy, not ill"


async def test_what_concerns_one_text_stops_no_other() -> None:
    bench = Bench()
    await bench.one(saying(later(30, own=True)), marked("m1"))
    assert bench.caller.quiet_until <= bench.clock.monotonic()


async def test_who_throttles_all_the_time_and_says_not_for_how_long_gets_a_pause() -> None:
    bench = Bench()
    for n in range(FAILURES_TO_OPEN):
        assert bench.caller.quiet_until <= bench.clock.monotonic()
        await bench.one(saying(later()), marked(f"m{n}"))
    assert bench.caller.quiet_until == bench.clock.monotonic() + UNASKED_PAUSE_SECONDS


class Silent(Vendor):
    """Answers when told."""

    def __init__(self) -> None:
        super().__init__(lambda texts: [accepted(text) for text in texts])
        self.go = asyncio.Event()

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        await self.go.wait()
        return await super().submit_batch(texts)


async def test_a_provider_stalls_when_it_answers_nobody() -> None:
    """However few calls are under way: the next texts shall not find out by their own time-outs."""
    bench, silent = Bench(), Silent()
    assert bench.caller.stalls_at() == float("inf")
    bench.caller.begin(cast(ProviderAdapter, silent), TERMS, marked("m1"), bench.clock.monotonic())
    await asyncio.sleep(0)
    assert bench.caller.stalls_at() == bench.clock.monotonic() + STALL_SECONDS
    bench.clock.advance(timedelta(seconds=3))
    bench.caller.begin(cast(ProviderAdapter, saying(accepted_one())), TERMS, marked("m2"), bench.clock.monotonic())
    await eventually(lambda: bench.caller.calls == 1)
    assert bench.caller.stalls_at() == bench.clock.monotonic() + QUICK_STALL_SECONDS, "it has just answered, at once"
    silent.go.set()
    await bench.caller.wait()
    assert bench.caller.stalls_at() == float("inf")


@pytest.mark.parametrize(("usual", "allowed"), [(6, 12), (0.15, 3), (0.01, 2)])
async def test_a_slow_provider_is_given_its_usual_time(usual: float, allowed: float) -> None:
    bench = Bench()
    for n in range(3):
        silent = Silent()
        bench.caller.begin(cast(ProviderAdapter, silent), TERMS, marked(f"m{n}"), bench.clock.monotonic())
        await asyncio.sleep(0)
        bench.clock.advance(timedelta(seconds=usual))
        silent.go.set()
        await bench.caller.wait()
    silent = Silent()
    bench.caller.begin(cast(ProviderAdapter, silent), TERMS, marked("m"), bench.clock.monotonic())
    assert bench.caller.stalls_at() - bench.clock.monotonic() == pytest.approx(allowed)
    silent.go.set()
    await bench.caller.wait()


async def test_a_timeout_is_no_answer() -> None:
    bench, silent = Bench(), Silent()
    bench.caller.begin(cast(ProviderAdapter, silent), TERMS, marked("m1"), bench.clock.monotonic())
    await asyncio.sleep(0)
    stalls_at = bench.caller.stalls_at()
    bench.clock.advance(timedelta(seconds=1))
    doubt = saying(SubmitResult(Outcome.IN_DOUBT, code="timeout"))
    bench.caller.begin(cast(ProviderAdapter, doubt), TERMS, marked("m2"), bench.clock.monotonic())
    await eventually(lambda: bench.caller.calls == 1)
    assert bench.caller.stalls_at() == stalls_at
    silent.go.set()
    await bench.caller.wait()


def accepted_one() -> SubmitResult:
    return SubmitResult(Outcome.ACCEPTED, provider_message_id="id-1")


async def test_repeated_calls_in_vain_use_up_the_budget_and_useful_ones_do_not() -> None:
    bench = Bench()
    left = bench.caller.retries.left(bench.clock.monotonic())
    for outcome in (SubmitResult(Outcome.REJECTED_RECIPIENT), SubmitResult(Outcome.REJECTED_CONTENT), accepted_one()):
        await bench.one(saying(outcome), again("m1"))
    assert bench.caller.retries.left(bench.clock.monotonic()) == left
    for outcome in (later(), SubmitResult(Outcome.REJECTED_PROVIDER), SubmitResult(Outcome.IN_DOUBT)):
        await bench.one(saying(outcome), again("m1"))
    assert bench.caller.retries.left(bench.clock.monotonic()) == left - 3
    for n in range(10):
        await bench.one(saying(later()), marked(f"m{n}"))
    assert bench.caller.retries.left(bench.clock.monotonic()) == left - 1, "ten first tries allow two"


async def test_what_was_refused_goes_by_the_retry_budget_from_then_on() -> None:
    bench = Bench()
    for outcome in (later(), SubmitResult(Outcome.REJECTED_PROVIDER)):
        await bench.one(saying(outcome), marked("m1"))
    assert [Queue.parse(each.queue_after).is_again for each in bench.settled] == [True, True]
    await bench.one(saying(SubmitResult(Outcome.IN_DOUBT)), marked("m1"))
    assert not Queue.parse(bench.settled[-1].queue_after).is_again, "a doubt refuses nothing"

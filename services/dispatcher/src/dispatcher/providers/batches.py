"""Calls that carry several texts: which texts may not share one, and what follows when a whole call is refused.

Knows no vendor and no ledger. Never sends anything twice: each text is in exactly one call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import CalledOff
from dispatcher.providers.base import OutgoingText

TOGETHER_AGAIN_SECONDS = 1.0


async def hand_over(
    texts: Sequence[OutgoingText],
    refusal: Callable[[OutgoingText], SubmitResult | None],
    send: Callable[[Sequence[OutgoingText]], Awaitable[list[SubmitResult]]],
) -> list[SubmitResult | None]:
    """One result each, in their order. What `refusal` says of a text keeps it out of the call. None: its call was
    called off.

    Texts to one number go out in calls of their own, all at once: where the vendor names a text by its number, nothing
    else tells them apart. Almost always that is one call.
    """
    results = [refusal(text) for text in texts]

    async def call_with(indices: Sequence[int]) -> None:
        with contextlib.suppress(CalledOff):
            answer = await send([texts[index] for index in indices])
            for index, result in zip(indices, answer, strict=True):
                results[index] = result

    calls: list[list[int]] = []
    times: dict[str, int] = {}
    for index, text in enumerate(texts):
        if results[index] is not None:
            continue
        nth = times[text.to] = times.get(text.to, 0) + 1
        if nth > len(calls):
            calls.append([])
        calls[nth - 1].append(index)
    await asyncio.gather(*(call_with(call) for call in calls))
    return results


class Alone:
    """Texts that go in calls of their own from now on: a call with them was refused for the fault of one, and the
    vendor does not say which. What is forgotten (a restart, more than `most`) is refused together once more, which
    costs a call and no text."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._ids

    def refused(self, texts: Iterable[OutgoingText], result: SubmitResult) -> list[SubmitResult]:
        """None of them was sent; each is to be tried again, alone."""
        texts = list(texts)
        self._ids.update((text.message_id, None) for text in texts)
        while len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]
        again = SubmitResult(
            Outcome.REJECTED_LATER,
            code=result.code,
            detail="refused together",
            retry_after_seconds=TOGETHER_AGAIN_SECONDS,
            route_only=True,
        )
        return [again] * len(texts)

"""Many small writes in one transaction: whoever comes while a transaction runs shares the next one.

Knows nothing of what is written. A write that fails fails for everybody in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """`write` takes up to `limit` items and returns one result each, after its commit."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Sequence[R]]], limit: int = 500) -> None:
        self._write = write
        self._limit = limit
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flight: asyncio.Task[None] | None = None

    async def put(self, item: T) -> R:
        """Returns when the item is committed; raises what the write raised."""
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        return await done

    async def _fly(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._write_batch(batch)
        finally:
            self._flight = None

    async def _write_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except BaseException as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error) if isinstance(error, Exception) else done.cancel()
            if not isinstance(error, Exception):
                raise
            return
        for (_, done), result in zip(batch, results, strict=True):
            if not done.done():
                done.set_result(result)

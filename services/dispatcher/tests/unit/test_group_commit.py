"""Writes that come together share a transaction; a failure is everybody's in it and nobody else's."""

import asyncio
from collections.abc import Sequence

import pytest

from dispatcher.group_commit import GroupCommit


class Writes:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()

    async def write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.go_on.wait()
        if 13 in items:
            raise OSError("no")
        return [item * 10 for item in items]


async def test_who_comes_while_a_write_runs_shares_the_next() -> None:
    writes = Writes()
    commit = GroupCommit(writes.write, limit=3)
    puts = [asyncio.create_task(commit.put(0))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    puts += [asyncio.create_task(commit.put(n)) for n in range(1, 6)]
    await asyncio.sleep(0)
    writes.go_on.set()
    assert await asyncio.gather(*puts) == [0, 10, 20, 30, 40, 50]
    assert writes.batches == [[0], [1, 2, 3], [4, 5]]


async def test_a_failure_ends_its_own_batch_only() -> None:
    writes = Writes()
    commit = GroupCommit(writes.write)
    puts = [asyncio.create_task(commit.put(13))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    puts.append(asyncio.create_task(commit.put(7)))
    writes.go_on.set()
    with pytest.raises(OSError):
        await puts[0]
    assert await puts[1] == 70

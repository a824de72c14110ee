"""Stopping a Kafka client never fails its caller for what is lost anyway, and never hides a bug or a cancellation."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiokafka import partitioner
from aiokafka.errors import KafkaConnectionError

from postrider.kafka.clients import murmur2, start_client, stop_quietly


async def _cancelled_within() -> None:
    """What aiokafka does when a background task of its own was cancelled."""
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


async def _raises(error: Exception) -> None:
    raise error


async def test_a_client_that_ends_cancelled_is_stopped() -> None:
    await stop_quietly(_cancelled_within(), "consumer")


@pytest.mark.parametrize("error", [KafkaConnectionError(), OSError(), TimeoutError()])
async def test_an_outage_is_not_the_callers_problem(error: Exception) -> None:
    await stop_quietly(_raises(error), "consumer")


async def test_a_bug_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await stop_quietly(_raises(ZeroDivisionError()), "consumer")


async def test_the_callers_own_cancellation_reaches_it_and_the_client() -> None:
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    stopping = asyncio.create_task(stop_quietly(hang(), "consumer"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await asyncio.wait_for(ended.wait(), 1)


async def test_whoever_gives_up_a_start_waits_for_its_end() -> None:
    connected = asyncio.Event()
    ends: list[str] = []

    async def start() -> None:
        try:
            await connected.wait()
        except asyncio.CancelledError:
            ends.append("cancelled in mid-start")
            raise
        ends.append("started")

    starting = asyncio.create_task(start_client(start(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.sleep(0)
    assert not starting.done()
    connected.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert ends == ["started"]


async def test_a_start_that_takes_too_long_is_a_timeout_and_a_failed_one_says_why() -> None:
    with pytest.raises(TimeoutError):
        await start_client(asyncio.sleep(60), 0.01)
    with pytest.raises(KafkaConnectionError):
        await start_client(_raises(KafkaConnectionError()), 1)


async def test_a_stop_gives_up_a_start_that_waits_for_the_group() -> None:
    stop = asyncio.Event()
    ends: list[str] = []

    async def start() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("given up")
            raise

    starting = asyncio.create_task(start_client(start(), 60, stop))
    await asyncio.sleep(0)
    stop.set()
    assert await asyncio.wait_for(starting, 30) is False
    assert ends == ["given up"]
    assert await start_client(asyncio.sleep(0), 60, stop) is True


def test_keys_are_hashed_as_by_kafkas_other_clients() -> None:
    draw = random.Random(7)
    for size in range(40):
        for _ in range(50):
            key = draw.randbytes(size)
            assert murmur2(key) == partitioner.murmur2(key)
    assert murmur2(b"21") == -973932308 & 0xFFFFFFFF  # as in the tests of Kafka itself

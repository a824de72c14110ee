"""A generic provider through the dispatcher: its receipts name texts by our reference alone, and replies of people come
with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dispatcher import metrics
from tests.standins.generic import API_KEY
from tests.standins.running import standin_process
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

PATH = "/receipts/prv_a/token-of-prv_a"


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        made.people = 20  # of the numbers that follow the gateway refuses none
        yield made


@contextlib.asynccontextmanager
async def gateway(stage: Stage, log: Path, *options: str) -> AsyncIterator[None]:
    """A generic provider, alone in the default group, whose gateway posts its receipts to the dispatcher."""
    callback = f"http://127.0.0.1:{stage.port}{PATH}"
    async with standin_process("generic", log, "--callback-url", callback, *options) as port:
        await stage.provider(
            "prv_a",
            "generic",
            url=f"http://127.0.0.1:{port}/http/send?apikey=$$apikey&to=$$To&text=$$Body&ref=$$MessageID",
            method="GET",
            secrets=["apikey"],
            reply={"message_id": "OK: *", "error_code": "ERR *:", "codes": {"11": "rejected_recipient"}},
            receipts="clevertap",
            in_doubt_wait_seconds=60,
            credentials={"secrets": {"apikey": API_KEY}},
        )
        await stage.group(["prv_a"])
        yield


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached)


def doubles() -> float:
    return sum(sample.value for metric in metrics.DOUBLES.collect() for sample in metric.samples)


async def test_receipts_by_reference_find_texts_known_by_the_gateway_s_own_ids(stage: Stage, tmp_path: Path) -> None:
    before = doubles()
    async with gateway(stage, tmp_path / "a", "--receipts", "delivered", "--receipt-chaos", "--seed", "3"):
        async with dispatching(stage):
            await stage.order(stage.jobs(40))
            await settled(stage, {"DELIVERED": 40})
    ids = [row[0] for row in await stage.rows("SELECT provider_message_id FROM ledger")]
    assert len(set(ids)) == 40 and all(id.startswith("g-") for id in ids)
    assert await stage.funnel(40) == {"delivered": 40}
    assert doubles() == before


async def test_a_lost_reply_is_settled_by_the_receipt(stage: Stage, tmp_path: Path) -> None:
    async with gateway(stage, tmp_path / "a", "--receipts", "delivered", "--drop-after-accept", "1"):
        async with dispatching(stage):
            (job,) = stage.jobs(1)
            await stage.order([job])
            await settled(stage, {"DELIVERED": 1})
    assert await stage.rows("SELECT provider_message_id FROM ledger") == [(f"{job.message_id}.1",)]
    assert len((tmp_path / "a").read_text().splitlines()) == 1


async def test_a_reply_to_a_text_suppresses_or_lifts(stage: Stage, tmp_path: Path) -> None:
    async with gateway(stage, tmp_path / "a"), dispatching(stage):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False) as vendor:
            (job,) = stage.jobs(1)
            await stage.order([job])
            await settled(stage, {"ACCEPTED": 1})

            async def says(word: str, ts: int, **more: Any) -> httpx.Response:
                data = {"ts": ts, "meta": f"{job.message_id}.1", "incomingText": word, **more}
                return await vendor.post(PATH, json=[{"event": "replied", "data": [data]}])

            async def suppressed(expected: list[bool]) -> None:
                async def reached() -> bool:
                    rows = await stage.rows("SELECT suppressed FROM suppressions")
                    assert [row[0] for row in rows] == expected
                    return True

                await eventually(reached)

            answer = await says("STOP", 1)
            assert (answer.status_code, answer.json()["status"]) == (200, "success")
            await suppressed([True])
            await settled(stage, {"DELIVERED": 1})
            await says("START", 2)
            await suppressed([False])
            await says("STOP", 1)  # a repeat, after they changed their mind
            await says("STOP", 3)
            await suppressed([True])
            for _ in range(2):
                await says("Ayuda", 5)

            async def answered() -> bool:
                """Of the number that was written to, and of the language, nothing is known here."""
                rows = await stage.rows("SELECT keyword, state FROM keyword_replies ORDER BY created_at")
                assert rows == [(word, "accepted") for word in ("stop", "start", "stop", "help")]
                return True

            await eventually(answered)
            assert (await says("STOP", 4, meta=None)).status_code == 400
            assert (await vendor.post(PATH, content=b"{}")).status_code == 400
            assert (await vendor.post(f"{PATH}x", json=[])).status_code == 403
    versions = await stage.rows("SELECT version, reason FROM suppressions")
    assert versions == [(3, "opted_out")], "the repeat has changed nothing"

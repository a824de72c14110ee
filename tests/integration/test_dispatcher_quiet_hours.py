"""Allowed intervals hold for every call, whatever brought the text to it: its first turn, a refusal, a fail-over, a
doubt, a pause, a throttle.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postrider.contracts.definitions import When
from postrider.contracts.send_jobs import Interval, SendJob
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
MENDED: dict[str, Any] = {"receipt": "none"}


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def campaigns(stage: Stage) -> None:
    doubtful: dict[str, Any] = {"timeout_seconds": 1, "in_doubt_wait_seconds": 6}
    await stage.provider("prv_later", outcome="rejected_later")
    await stage.provider("prv_doubt", outcome="in_doubt", **doubtful)
    await stage.provider("prv_refuses", outcome="rejected_provider", latency_ms=6_500)
    await stage.group(["prv_ok"], "grp_ok")
    await stage.group(["prv_refuses", "prv_ok"], "grp_two", is_default=False)
    await stage.campaign("cmp_refused", provider_id="prv_later")
    await stage.campaign("cmp_doubted", provider_id="prv_doubt")
    await stage.campaign("cmp_failed_over", provider_group_id="grp_two")
    await stage.campaign("cmp_throttled", provider_id="prv_ok", when=When(throttle_per_minute=60))
    for name in ("cmp_paused", "cmp_discards"):
        await stage.campaign(name, status="paused", provider_id="prv_ok")


async def test_no_path_leads_into_quiet_hours(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with twilio_process(log, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_ok", port)
        await campaigns(stage)
        async with dispatching(stage):
            began = datetime.now(UTC)
            now = Interval(began - timedelta(hours=1), began + timedelta(seconds=6))
            later = Interval(began + timedelta(seconds=11), began + timedelta(hours=1))
            names = ("cmp_refused", "cmp_doubted", "cmp_failed_over", "cmp_paused")
            jobs = {name: stage.jobs(2, name, allowed=[now, later], on_hit="delay") for name in names}
            jobs["cmp_throttled"] = stage.jobs(9, "cmp_throttled", allowed=[now, later], on_hit="delay")
            jobs["cmp_discards"] = stage.jobs(2, "cmp_discards", allowed=[now], on_hit="discard")
            await stage.order([job for made in jobs.values() for job in made])
            await asyncio.sleep((now.end - datetime.now(UTC)).total_seconds() + 0.3)
            for name in ("cmp_paused", "cmp_discards"):
                await stage.campaign(name, provider_id="prv_ok")
            await stage.provider("prv_later", **MENDED)
            await stage.provider("prv_doubt", timeout_seconds=1, in_doubt_wait_seconds=6, **MENDED)
            await eventually(lambda: all_through(stage), 40)
    texts = [msgspec.json.decode(line) for line in log.read_bytes().splitlines()]
    calls = [(datetime.fromtimestamp(text["began"], UTC), int(text["validity"])) for text in texts]
    calls += [(row.at, 0) for row in await stage.rows("SELECT at FROM sandbox_inbox")]
    assert len(calls) == sum(len(made) for name, made in jobs.items() if name != "cmp_discards")
    for moment, validity in calls:
        assert any(each.start <= moment and moment + timedelta(seconds=validity) <= each.end for each in (now, later))
    assert await told(stage, jobs["cmp_discards"]) == {("quiet_hours", "quiet_hours")}
    tried = {row.campaign_id: row.n for row in await stage.rows(
        "SELECT campaign_id, min(attempt) AS n FROM ledger GROUP BY 1"
    )}  # fmt: skip
    assert {"cmp_refused", "cmp_doubted", "cmp_failed_over"} <= {name for name, n in tried.items() if n > 1}
    throttled = [moment for moment, _ in calls if moment < now.end]
    assert 0 < len(throttled) < 9, "some before, the others afterwards"


async def all_through(stage: Stage) -> bool:
    states = await stage.states()
    assert set(states) <= {"ACCEPTED", "SENT", "DELIVERED", "FAILED"}, states
    return True


async def told(stage: Stage, jobs: list[SendJob]) -> set[tuple[str, str]]:
    changed = (await stage.events())[1]
    return {(changed[job.message_id].status, changed[job.message_id].reason) for job in jobs}

"""A stop of a running campaign, as its owner sees it: no call begins more than a second after the 200, and everybody
is accounted for. All real: four services, a second dispatcher, a provider with a log of when each call began.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dispatcher.providers.twilio_signature import sign
from postrider.local.client import ApiClient, ApiProblem
from postrider.local.services import DISPATCHER, SCHEDULER, SERVICES
from postrider.local.suite import Suite
from tests.support.stops import PROMISED_SECONDS, TOKEN, stopping

pytestmark = pytest.mark.e2e


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_stop_in_mid_run(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    async with stopping(suite, api, tmp_path, 2_000) as scene:
        await scene.check(await scene.stop())


async def test_people_who_say_stop_in_mid_run(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    """Hundreds of them, to one of two dispatchers, while both send: who was not called by then is not, by either."""
    people, callers = 2_000, asyncio.Semaphore(20)
    answered: dict[str, float] = {}
    async with stopping(suite, api, tmp_path, people) as scene, httpx.AsyncClient(trust_env=False) as vendor:

        async def says_stop(n: int) -> None:
            phone = f"+1303{5_550_000 + n}"
            form = {"MessageSid": f"SM{n:032x}", "From": phone, "To": "+12025550100", "Body": "Stop."}
            signature = {"X-Twilio-Signature": sign(TOKEN, scene.inbound_url, form.items())}
            async with callers:
                answer = await vendor.post(scene.inbound_url, data=form, headers=signature, timeout=30)
            assert answer.status_code == 204, answer.text
            answered[phone] = time.time()

        await asyncio.gather(*(says_stop(n) for n in range(0, people, 5)))
        await api.until_campaign(scene.campaign, 90, "completed")
        counts = (await api.get(f"/v1/campaigns/{scene.campaign}/report"))["funnel"]
    began = {to: at for at, to in scene.calls()}
    after = {to: began[to] - at for to, at in answered.items() if to in began}
    assert {to: seconds for to, seconds in after.items() if seconds > PROMISED_SECONDS} == {}, "seconds after the 2xx"
    suppressed = answered.keys() - began.keys()
    assert len(suppressed) > 100, "they stopped in the middle"
    assert len(began) == len(scene.calls()) == counts["accepted"] == people - len(suppressed)
    assert counts["suppressed"] == len(suppressed)


@pytest.mark.faults
@pytest.mark.parametrize("which", ["one", "both"])
async def test_a_dispatcher_that_slept_through_the_stop(
    suite: Suite, api: ApiClient, tmp_path: Path, which: str
) -> None:
    """It wakes with texts in its hands, claimed, rendered and marked."""
    async with stopping(suite, api, tmp_path, 3_000) as scene:
        pids = [scene.second] if which == "one" else [scene.second, suite.pids()[DISPATCHER.name]]
        with frozen(*pids):
            answered_at = await scene.stop()
            await asyncio.sleep(4)
        await scene.check(answered_at, asleep=len(pids))


@pytest.mark.faults
async def test_a_stop_while_kafka_is_frozen_is_answered_when_it_is_back(
    suite: Suite, api: ApiClient, tmp_path: Path
) -> None:
    """503: saved, not published. Dispatchers that hear nothing call nobody meanwhile."""
    async with stopping(suite, api, tmp_path, 3_000) as scene:
        with frozen(suite.pids()["kafka"]):
            frozen_at = time.time()
            with pytest.raises(ApiProblem) as refused:
                await scene.stop()
            assert refused.value.status == 503
            late = [began - frozen_at for began, _ in scene.calls() if began > frozen_at + PROMISED_SECONDS]
            assert late == [], f"seconds after the last news: {late[:10]}"
        try:
            answered_at = await scene.stop()
        except ApiProblem as problem:  # it was published before we came to ask again
            assert problem.status == 409
            answered_at = time.time()
        await scene.check(answered_at)


@pytest.mark.faults
async def test_a_stop_when_the_scheduler_died_in_its_work(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    async with stopping(suite, api, tmp_path, 10_000, begun=1) as scene:
        os.kill(suite.pids()[SCHEDULER.name], signal.SIGKILL)
        await scene.check(await scene.stop())
    await suite.until_ready()


@pytest.mark.faults
async def test_calls_that_had_begun_end_as_they_do(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    """The provider takes five seconds for each."""
    async with stopping(suite, api, tmp_path, 3_000, "--latency-ms", "5000") as scene:
        await scene.check(await scene.stop())


@pytest.mark.faults
async def test_a_pause_outlives_the_death_of_all_services(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    async with stopping(suite, api, tmp_path, 2_000) as scene:
        paused_at = await scene.do("pause")
        await asyncio.sleep(PROMISED_SECONDS)
        for service in SERVICES:
            os.kill(suite.pids()[service.name], signal.SIGKILL)
        await asyncio.sleep(1)
        await suite.until_ready()
        await asyncio.sleep(3)
        scene.check_promise(paused_at)
        assert len(scene.calls()) < scene.people
        await scene.do("resume")
        await scene.check_all_sent()

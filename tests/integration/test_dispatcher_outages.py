"""Postgres away for longer than any lease: everything waits, says so, and goes on; no text twice, none forgotten."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from sqlalchemy import make_url, text

from dispatcher.domain.fence import CLAIM_SECONDS
from postrider.postgres.database import open_database, role_of
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.group(["prv_a"])
        await made.campaign()
        yield made


@asynccontextmanager
async def without_postgres(stage: Stage) -> AsyncIterator[None]:
    """The dispatcher's role loses its connections and gets no new ones: for it alone, Postgres is away."""
    role = role_of("dispatcher", make_url(stage.database_url).database or "")
    owner = open_database(stage.database_url, "public", 1)

    async def execute(sql: str) -> None:
        async with owner.begin() as tx:
            await tx.execute(text(sql))

    try:
        await execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
        await execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        yield
    finally:
        await execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        await owner.close()


async def test_an_outage_longer_than_the_leases(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "texts"
    options = ("--latency-ms", "30", "--receipts", "delivered")
    async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, timeout_seconds=1, in_doubt_wait_seconds=2, parts_per_second=100)
        jobs = stage.jobs(600)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        caller = httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", headers=headers, trust_env=False)
        async with dispatching(stage), caller:
            await stage.order(jobs)
            await eventually(lambda: log.exists() and len(log.read_bytes().splitlines()) > 150)
            async with without_postgres(stage):
                await asyncio.sleep(CLAIM_SECONDS + 2)
                ready = await caller.get("/readyz")
                assert ready.status_code == 503
                assert ready.json()["parts"]["postgres"]["status"] == "down"
                block = {"phone": "+12025550142", "reason": "blocked"}
                for path in ("/internal/suppressions", "/internal/sandbox/inbox"):
                    assert (await caller.get(path)).status_code == 503
                assert (await caller.post("/internal/suppressions", json=block)).status_code == 503
            await eventually(lambda: _all_accepted(stage, 600), 60)

            async def ready_again() -> bool:
                return (await caller.get("/readyz")).status_code == 200

            await eventually(ready_again)
    texts = Counter(str(msgspec.json.decode(line)["to"]) for line in log.read_bytes().splitlines())
    assert texts == Counter(job.phone for job in jobs)
    counts = await stage.funnel(600)
    assert sum(counts.values()) == 600 and set(counts) <= {"awaiting_receipt", "sent", "delivered"}


async def test_a_callback_is_answered_only_when_it_is_kept(stage: Stage) -> None:
    await stage.provider("prv_a")
    receipt = {"provider_message_id": "SB1", "status": "delivered"}
    stop = {"from": "+15551234567", "body": "STOP", "id": "in-1"}
    async with dispatching(stage), httpx.AsyncClient(trust_env=False) as provider:
        url = f"http://127.0.0.1:{stage.port}"
        async with without_postgres(stage):
            for path, body in (("receipts", receipt), ("inbound", stop)):
                answer = await provider.post(f"{url}/{path}/prv_a/token-of-prv_a", json=body)
                assert answer.status_code == 503 and answer.headers["Retry-After"]
        for path, body in (("receipts", receipt), ("inbound", stop)):

            async def kept(path: str = path, body: dict[str, str] = body) -> bool:
                return (await provider.post(f"{url}/{path}/prv_a/token-of-prv_a", json=body)).status_code == 204

            await eventually(kept)
        await eventually(lambda: _kept(stage))


async def _all_accepted(stage: Stage, n: int) -> bool:
    """The stand-in gives up on a receipt after a few tries, as vendors do, so that some are never told."""
    states = await _states(stage)
    assert set(states) <= {"ACCEPTED", "SENT", "DELIVERED"} and sum(states.values()) == n, states
    return True


async def _kept(stage: Stage) -> bool:
    assert len(await stage.rows("SELECT 1 FROM receipts")) == 1
    return len(await stage.rows("SELECT 1 FROM suppressions WHERE suppressed")) == 1


async def _states(stage: Stage) -> dict[str, int]:
    """The first statement after the outage finds a connection of the test's own that was cut."""
    try:
        return await stage.states()
    except Exception as error:
        raise AssertionError("no connection yet") from error

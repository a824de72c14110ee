"""A provider that hangs: the others go on as if it were not there, its next texts go to the next of its group, and
those it may have only once it is proven that it has not. Told by counts and order, not by a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from postrider.contracts.send_jobs import SendJob
from tests.standins.hanging_proxy import HangingProxy
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def test_nobody_else_waits_and_its_own_texts_leave_it_when_that_is_safe(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "a"
    async with twilio_process(log, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        wire = HangingProxy(port)
        async with wire.serving() as through_wire:
            await stage.twilio("prv_a", through_wire, timeout_seconds=5, in_doubt_wait_seconds=1)
            await stage.provider("prv_b", receipt="none")
            await stage.group(["prv_a", "prv_b"])
            await stage.campaign()
            await stage.campaign("cmp_b", provider_id="prv_b")
            own, others = stage.jobs(150), stage.jobs(100, "cmp_b")
            async with dispatching(stage, concurrency=64):
                await hangs(stage, wire, own, others)
                wire.go_on()
                await eventually(lambda: all_accepted(stage, 250), 40)
    by_a = Counter(str(msgspec.json.decode(line)["to"]) for line in log.read_bytes().splitlines())
    by_b = Counter(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))
    assert by_a + by_b == Counter(job.phone for job in [*own, *others])
    ends = await stage.rows("SELECT DISTINCT outcome FROM attempts WHERE attempt = 1 AND provider_id = 'prv_a'")
    assert {row.outcome for row in ends} <= {"not_found", "accepted"}


async def hangs(stage: Stage, wire: HangingProxy, own: Sequence[SendJob], others: Sequence[SendJob]) -> None:
    wire.hang()
    await stage.order(own)
    await eventually(lambda: at_a(stage, 50))
    await stage.order(others)

    async def others_are_through() -> bool:
        rows = await stage.rows("SELECT 1 FROM ledger WHERE campaign_id = 'cmp_b' AND state = 'ACCEPTED'")
        return len(rows) == 100

    await eventually(others_are_through)
    assert await stage.rows("SELECT 1 FROM attempts WHERE provider_id = 'prv_a'") == [], "and no call of A's had ended"

    async def the_rest_is_with_b() -> bool:
        rows = await stage.rows("SELECT state, provider_id FROM ledger WHERE campaign_id = 'cmp_1'")
        places = Counter((row.provider_id, row.state) for row in rows)
        assert set(places) <= {("prv_b", "ACCEPTED"), ("prv_a", "SUBMITTING"), ("prv_a", "IN_DOUBT")}, places
        return sum(places.values()) == 150

    await eventually(the_rest_is_with_b, 20)
    moved = await stage.rows("SELECT 1 FROM attempts WHERE attempt > 1")
    assert moved == [], "nothing that A may have went to B"


async def at_a(stage: Stage, n: int) -> bool:
    return len(await stage.rows("SELECT 1 FROM ledger WHERE state = 'SUBMITTING' AND provider_id = 'prv_a'")) >= n


async def all_accepted(stage: Stage, n: int) -> bool:
    states = await stage.states()
    assert set(states) <= {"ACCEPTED", "SENT"}, states
    return sum(states.values()) == n

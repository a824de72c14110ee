"""A provider that takes several texts in a call, through the whole dispatcher: one call, one mark for all of it, and
each text with an outcome, an id and a receipt of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from postrider.contracts.definitions import References
from tests.standins.running import standin_process
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

KEY = "A1b2C3"
TEMPLATE: dict[str, Any] = {
    "body": "",
    "template_id": "64a1b2",
    "template_variables": ["{{ Profile.name }}", "{{ Campaign.id }}"],
    "references": References(["name"], []),
}


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign(**TEMPLATE)
        await made.campaign("cmp_2", **{**TEMPLATE, "template_id": "other"})
        yield made


async def test_texts_of_one_template_share_calls_and_nothing_else(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "texts"
    webhook = f"http://127.0.0.1:{stage.port}/receipts/prv_a/token-of-prv_a"
    chaos = ("--receipts", "delivered", "--receipt-chaos", "--webhook-url", webhook, "--seed", "3")
    async with standin_process("msg91", log, "--auth-key", KEY, *chaos) as port:
        await stage.provider(
            "prv_a", "msg91", base_url=f"http://127.0.0.1:{port}", recipients_per_call=25, in_doubt_wait_seconds=60,
            credentials={"auth_key": KEY},
        )  # fmt: skip
        await stage.group(["prv_a"])
        same_phone = stage.jobs(2, phone="+15551999999")
        nameless = stage.jobs(3, profile={})
        jobs = [*stage.jobs(120), *same_phone]
        others = stage.jobs(10, "cmp_2")
        await stage.order([*jobs, *nameless, *others])
        async with dispatching(stage):

            async def reached() -> bool:
                assert await stage.states() == {"DELIVERED": 132, "FAILED": 3}
                return True

            await eventually(reached)
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["crqid"] for line in sent) == sorted(f"{job.message_id}.1" for job in [*jobs, *others])
    calls = Counter(line["request_id"] for line in sent)
    assert max(calls.values()) <= 25 and len(calls) < 60, "texts share calls"
    assert all(len({line["template_id"] for line in sent if line["request_id"] == id}) == 1 for id in calls)
    assert len({line["request_id"] for line in sent if line["mobiles"] == "15551999999"}) == 2
    by_reference = {line["crqid"]: line for line in sent}
    rows = await stage.rows("SELECT message_id, user_id, campaign_id, provider_message_id, body, parts FROM ledger"
                            " WHERE state = 'DELIVERED'")  # fmt: skip
    for row in rows:
        line = by_reference[f"{row.message_id.hex}.1"]
        assert row.provider_message_id == f"{line['request_id']}:{line['mobiles']}"
        assert line["variables"] == {"VAR1": row.user_id, "VAR2": row.campaign_id}
        template = "64a1b2" if row.campaign_id == "cmp_1" else "other"
        assert (row.body, row.parts) == (f"template {template}: {row.user_id} | {row.campaign_id}", 1)
    failed = await stage.rows("SELECT reason FROM ledger WHERE state = 'FAILED'")
    assert {row.reason for row in failed} == {"missing_value"}


async def test_a_call_whose_reply_is_lost_is_settled_by_the_receipts_of_each(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "texts"
    webhook = f"http://127.0.0.1:{stage.port}/receipts/prv_a/token-of-prv_a"
    lost = ("--receipts", "delivered", "--drop-after-accept", "1", "--webhook-url", webhook)
    async with standin_process("msg91", log, "--auth-key", KEY, *lost) as port:
        await stage.provider(
            "prv_a", "msg91", base_url=f"http://127.0.0.1:{port}", in_doubt_wait_seconds=60,
            credentials={"auth_key": KEY},
        )  # fmt: skip
        await stage.group(["prv_a"])
        await stage.order(stage.jobs(40))
        async with dispatching(stage):

            async def reached() -> bool:
                assert await stage.states() == {"DELIVERED": 40}
                return True

            await eventually(reached)
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(sent) == len({line["crqid"] for line in sent}) == 40, "nobody was texted twice"

"""The history of attempts in the message log: failover, a doubt and how it ended, and retries, each with its times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from postrider.contracts.delivery_events import MessageChanged
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def test_failover_doubts_and_retries_all_appear(stage: Stage, tmp_path: Path) -> None:
    """One text is refused and goes to a provider that loses its reply, and is found there; one is lost for good, proven
    not sent, and goes out again; one is throttled again and again."""
    options = ("--drop-after-accept", "1", "--index-lag-ms", "300")
    async with twilio_process(tmp_path / "a", *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.provider("prv_refuses", outcome="rejected_provider")
        await stage.twilio("prv_drops", port, in_doubt_wait_seconds=1, timeout_seconds=1)
        await stage.provider("prv_loses", outcome="in_doubt", in_doubt_wait_seconds=0, timeout_seconds=0.5)
        await stage.provider("prv_busy", outcome="rejected_later")
        await stage.group(["prv_refuses", "prv_drops"], "grp_1")
        await stage.group(["prv_loses"], "grp_2", is_default=False)
        await stage.group(["prv_busy"], "grp_3", is_default=False)
        for number in (1, 2, 3):
            await stage.campaign(f"cmp_{number}", provider_group_id=f"grp_{number}")
        over, lost, busy = (stage.job(f"cmp_{number}") for number in (1, 2, 3))
        async with dispatching(stage):
            await stage.order([over, lost, busy])

            async def told() -> dict[str, MessageChanged]:
                changed = (await stage.events())[1]
                assert len(changed) == 3, changed
                # What a look-up finds may be further on than a reply that was read.
                assert changed[over.message_id].status in ("awaiting_receipt", "sent"), changed[over.message_id]
                assert all(len(changed[job.message_id].attempts) > 1 for job in (lost, busy)), changed
                return changed

            changed = await eventually(told, 40)

    def story(message_id: str) -> list[tuple[int, str, str, str]]:
        return [(each.attempt, each.provider_id, each.outcome, each.code) for each in changed[message_id].attempts]

    first, second = story(over.message_id)
    assert first[:3] == (1, "prv_refuses", "rejected_provider")
    assert second == (2, "prv_drops", "accepted", "disconnected"), "what had put it in doubt is still told"
    assert story(lost.message_id)[0][:3] == (1, "prv_loses", "not_found")
    assert {each[2] for each in story(busy.message_id)} == {"rejected_later"}
    assert [each[0] for each in story(busy.message_id)] == list(range(1, len(story(busy.message_id)) + 1))
    for message in changed.values():
        assert all(each.ended_at is not None and each.ended_at >= each.at for each in message.attempts)

"""Texts that cannot be prepared fail alone, each with its reason; what is the machine's fault is nobody's failure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.domain.ledger import State
from dispatcher.domain.message import BULK, Message
from dispatcher.preparation import Preparation, prepare
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, What, When, Who
from postrider.sms.message import Message as TextMessage
from postrider.sms.message import Outcome
from postrider.sms.render_pool import RenderPool, WorkerBroken
from postrider.sms.values import Values

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class Choking(RenderPool):
    """Chokes on people called Poison, with the given error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def render_messages(self, message: TextMessage, values: Sequence[Values]) -> list[Outcome]:
        if any(each.profile.get("name") == "Poison" for each in values):
            raise self._error
        return await super().render_messages(message, values)


def message(name: str, variables: bytes | None = None) -> Message:
    given = variables if variables is not None else b'{"profile":{"name":"%s"},"event":{}}' % name.encode()
    return Message(
        message_id=name, campaign_id="cmp_1", run_id="", occurrence="", user_id=name, what_version=1, lane=BULK,
        phone="+15550100", country=None, variables=given, variant="", due_at=NOW, send_by=NOW + timedelta(hours=1),
        allowed=(), on_hit="discard", queue="cmp_1|1||", state=State.QUEUED, cause="", reason="", attempt=0,
        provider_id="", provider_message_id="", tried=(), marked_at=None, not_before=None, look_ups=0, body="",
        encoding="", parts=0, seq=0,
    )  # fmt: skip


async def prepared(pool: RenderPool, messages: Sequence[Message], body: str = "Hi {{ Profile.name }}") -> Preparation:
    what = What(body)
    campaign = CampaignDefinition("cmp_1", 1, "running", "one_time", "", "", When(), Who(), 1, {"1": what})
    return await prepare(messages, campaign, what, AccountSettings(), pool, 0.0)


async def test_what_rendering_chokes_on_fails_alone() -> None:
    people = [message(name) for name in ("Ada", "Bob", "Poison", "Cem", "Dia")]
    result = await prepared(Choking(RecursionError()), people)
    assert [each.body for each in result.ready] == ["Hi Ada", "Hi Bob", "Hi Cem", "Hi Dia"]
    assert [(each.message.message_id, each.cause, each.reason) for each in result.settled] == [
        ("Poison", "personalisation_failed", "render_error")
    ]


@pytest.mark.parametrize("error", [WorkerBroken(), BrokenPipeError()])
async def test_a_broken_worker_is_no_texts_failure(error: Exception) -> None:
    with pytest.raises(type(error)):
        await prepared(Choking(error), [message("Ada"), message("Poison")])


async def test_values_that_cannot_be_read_fail_alone() -> None:
    result = await prepared(RenderPool(), [message("Ada"), message("Bad", b"not JSON")])
    assert [each.body for each in result.ready] == ["Hi Ada"]
    assert [(each.message.message_id, each.reason) for each in result.settled] == [("Bad", "unreadable_values")]

"""Texts that cannot be prepared fail alone, each with its reason; what is the machine's fault is nobody's failure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.domain.ledger import State
from dispatcher.domain.message import BULK, Message
from dispatcher.preparation import Preparation, prepare
from dispatcher.steps import rendered
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, Content, What, When, Who
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


async def prepared(pool: RenderPool, messages: Sequence[Message], what: What | None = None) -> Preparation:
    what = what or What("Hi {{ Profile.name }}")
    campaign = CampaignDefinition("cmp_1", 1, "running", "one_time", "", "", When(), Who(), 1, {"1": what})
    return await prepare(messages, campaign, what, "prv_1", AccountSettings(), pool, 0.0)


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


async def test_templates_are_filled_for_the_provider_that_gets_them() -> None:
    own = Content(template_id="promo", template_variables=["{{ Profile.name }}", "{{ Campaign.id }}"])
    what = What("Hi {{ Profile.name }}", by_provider={"prv_1": own, "prv_2": Content("Other")})
    result = await prepared(RenderPool(), [message("Ada"), message("Nobody", b'{"profile":{},"event":{}}')], what)
    (ready,) = result.ready
    assert (ready.body, ready.parts, ready.filled.variables) == ("", 1, ("Ada", "cmp_1"))
    assert ready.shown == "template promo: Ada | cmp_1", "what the message log shows"
    assert rendered(ready).body == ready.shown
    assert [(each.message.message_id, each.reason) for each in result.settled] == [("Nobody", "missing_value")]


async def test_a_mistake_in_a_template_names_its_place() -> None:
    what = What("", template_id="t", template_variables=["{{ x"])
    (settled,) = (await prepared(RenderPool(), [message("Ada")], what)).settled
    assert (settled.cause, settled.reason) == ("personalisation_failed", "template_error: template_variables/0")

"""From claimed rows to texts that can be sent: admission, rendering. Free to fail and free to repeat: nothing has been
promised to a provider yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dispatcher.calls import Prepared
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import Message
from dispatcher.domain.settlement import Settlement
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, What
from postrider.logs import failure, log
from postrider.sms.message import Message as TextMessage
from postrider.sms.message import MessageError, NotSent, Outcome, Text, compile_message, source_of
from postrider.sms.render_pool import RenderPool, WorkerBroken
from postrider.sms.values import Values


class _Variables(msgspec.Struct):
    profile: dict[str, object]
    event: dict[str, object]


_decoder = msgspec.json.Decoder(_Variables)


@dataclass(frozen=True, slots=True)
class Preparation:
    """`ready` may be sent; `settled` are those that never will be."""

    ready: list[Prepared]
    settled: list[Settlement]


def compile_for(campaign: CampaignDefinition, what: What, provider_id: str, settings: AccountSettings) -> TextMessage:
    """What the campaign gives this provider; cached. Raises MessageError, which saving the campaign should have
    prevented."""
    return compile_message(
        source_of(
            what.content_for(provider_id),
            campaign.kind.startswith("live"),
            what.max_parts if what.max_parts is not None else settings.max_parts,
            what.transliterate or settings.transliterate,
        )
    )


async def prepare(
    messages: Sequence[Message],
    campaign: CampaignDefinition,
    what: What,
    provider_id: str,
    settings: AccountSettings,
    pool: RenderPool,
    leased_until: float,
) -> Preparation:
    """Texts of one campaign and one version of its `what`, for the provider they are routed to."""
    try:
        text = compile_for(campaign, what, provider_id, settings)
    except MessageError as error:
        reason = f"template_error: {error.field}"
        return Preparation([], [_failed(each, "personalisation_failed", reason) for each in messages])
    about = {"id": campaign.campaign_id, "name": campaign.name}
    values: list[Values] = []
    readable: list[Message] = []
    settled: list[Settlement] = []
    for message in messages:
        try:
            variables = _decoder.decode(message.variables)
        except (msgspec.DecodeError, RecursionError):
            settled.append(_failed(message, "personalisation_failed", "unreadable_values"))
            continue
        readable.append(message)
        values.append(Values(variables.profile, variables.event, about))
    outcomes = await _render(pool, text, values)
    ready: list[Prepared] = []
    for message, outcome in zip(readable, outcomes, strict=True):
        match outcome:
            case Text():
                ready.append(
                    Prepared(
                        message,
                        what,
                        outcome.text,
                        outcome.encoding,
                        outcome.parts,
                        leased_until,
                        outcome.filled,
                        campaign.message_class,
                    )
                )
            case NotSent():
                settled.append(_failed(message, outcome.status, outcome.reason))
    return Preparation(ready, settled)


async def _render(pool: RenderPool, text: TextMessage, values: Sequence[Values]) -> list[Outcome]:
    """One outcome each. Values that rendering chokes on in a way nobody thought of fail alone: their neighbours would
    be claimed with them again and again."""
    try:
        return await pool.render_messages(text, values)
    except (WorkerBroken, OSError):
        raise  # the machine's fault and no text's: their leases run out, and they are claimed again
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not hold up a campaign
        if len(values) == 1:
            log.error("rendering_failed", **failure(error))
            return [NotSent("personalisation_failed", "render_error")]
    half = len(values) // 2
    return [*await _render(pool, text, values[:half]), *await _render(pool, text, values[half:])]


def _failed(message: Message, cause: str, reason: str) -> Settlement:
    return Settlement(message, Event.FAIL, cause=cause, reason=reason[:200])

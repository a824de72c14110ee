"""What a campaign's text looks like for given values. Pure; the same rendering and counting as the dispatcher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from campaign_api.domain.campaign_changes import what_of
from campaign_api.domain.campaign_states import LIVE_KINDS
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from postrider.sms.encoding import analyse
from postrider.sms.message import Text, compile_message, render_message, source_of
from postrider.sms.values import Values


def preview(
    campaign: Resource,
    provider_id: str | None,
    settings: Mapping[str, Any],
    profile: Mapping[str, Any],
    event: Mapping[str, Any],
) -> dict[str, Any]:
    """For the provider that would be tried first. Raises `Invalid` for templates that may only be rendered by a process
    that can be killed."""
    what = what_of(campaign.body["what"], settings)
    live = campaign.body["kind"] in LIVE_KINDS
    content = what.content_for(provider_id)
    message = compile_message(source_of(content, live, what.max_parts, what.transliterate))
    if not message.is_simple:
        raise Invalid([FieldProblem("/what/body", "a preview of texts with loops is not built yet")])
    values = Values(profile, event, {"id": campaign.id, "name": campaign.body["name"]})
    outcome = render_message(message, values)
    if not isinstance(outcome, Text):
        reason = f"{outcome.status}: {outcome.reason}" + (f" ({outcome.detail})" if outcome.detail else "")
        return {
            "provider_id": provider_id,
            "body": None,
            "encoding": None,
            "parts": None,
            "forcing_ucs2": [],
            "fallback_used": False,
            "reason": reason,
        }
    filled = outcome.filled
    if not message.has_body:
        known: dict[str, Any] = {"body": None, "encoding": None, "parts": None}
    else:
        known = {"body": outcome.text, "encoding": outcome.encoding, "parts": outcome.parts}
    return {
        "provider_id": provider_id,
        **known,
        "template_id": filled.template_id,
        "template_variables": list(filled.variables),
        "message_pairs": dict(filled.message_pairs),
        "header_pairs": dict(filled.header_pairs),
        "global_pairs": dict(filled.global_pairs),
        "forcing_ucs2": list(analyse(outcome.text).forcing),
        "fallback_used": outcome.is_fallback,
        "reason": None,
    }

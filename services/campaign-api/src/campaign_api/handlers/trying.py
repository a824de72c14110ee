"""Test sends: what the dispatcher is asked to try, of a provider by itself or of a campaign in any state.

Nothing is kept here but the reply's key: the dispatcher's ledger has the text.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_changes import what_of
from campaign_api.domain.errors import Conflict, FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.domain.trigger_checks import event_reaches_the_text
from campaign_api.domain.what_checks import check_what
from campaign_api.handlers import common
from campaign_api.store import resources
from postrider.contracts.definitions import What
from postrider.contracts.what_fields import CONTENT_FIELDS

ARCHIVED = "archived"


def message_id_of(key_id: str, key: str | None) -> str:
    """The same key of the same caller names the same text, whatever became of the first request."""
    if key is None:
        return secrets.token_hex(16)
    return hashlib.sha256(f"test\n{key_id}\n{key}".encode()).hexdigest()[:32]


async def of_provider(tx: AsyncConnection, id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the dispatcher is asked, without person and values."""
    provider = await common.get(tx, "provider", id)
    if provider.status == ARCHIVED:
        raise Conflict("the provider is archived: it takes no new texts")
    settings = await resources.get_settings(tx)
    what = {name: body[name] for name in CONTENT_FIELDS if name in body} | {"provider_id": id}
    around = await resources.surroundings(tx, settings)
    _refuse(check_what(what, around, live=True), own=frozenset(CONTENT_FIELDS))
    return _asked(what_of(what, settings.body))


async def of_campaign(tx: AsyncConnection, id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    campaign = await common.get(tx, "campaign", id)
    settings = await resources.get_settings(tx)
    what = _what_of(campaign, body)
    is_live = event_reaches_the_text(campaign.body["who"])
    around = await resources.surroundings(tx, settings)
    if body.get("provider_id") is not None and body["provider_id"] not in around.providers:
        raise Invalid([FieldProblem("/provider_id", "there is no such provider")])
    own = {name for name in ("provider_id", "body") if body.get(name) is not None}
    _refuse(check_what(what, around, live=is_live), own=frozenset(own))
    return _asked(what_of(what, settings.body)) | {
        "campaign_id": campaign.id,
        "campaign_name": campaign.body["name"],
        "is_live": is_live,
    }


def _what_of(campaign: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
    """The campaign's `what`, for the chosen provider and with the chosen text."""
    what = dict(campaign.body["what"])
    chosen = body.get("provider_id")
    if body.get("body") is not None:
        kept = ("provider_id", "provider_group_id", "max_parts", "transliterate")
        what = {name: what.get(name) for name in kept} | {"body": body["body"]}
    if chosen is not None:
        by_provider = what.get("by_provider") or {}
        what |= {"provider_id": chosen, "provider_group_id": None}
        what["by_provider"] = {chosen: by_provider[chosen]} if chosen in by_provider else {}
    return what


def _asked(what: What) -> dict[str, Any]:
    return {"what": msgspec.to_builtins(what)}


def _refuse(problems: list[FieldProblem], own: frozenset[str]) -> None:
    """Pointers lead into the request where it gives the field, else into the campaign."""
    if problems:
        raise Invalid([FieldProblem(_pointer(problem.pointer, own), problem.message) for problem in problems])


def _pointer(pointer: str, own: frozenset[str]) -> str:
    inner = pointer.removeprefix("/what")
    return inner if inner.split("/")[1:2] and inner.split("/")[1] in own else pointer

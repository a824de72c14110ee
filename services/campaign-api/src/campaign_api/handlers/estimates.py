"""What is asked of the segment-engine for an estimate, and what is made of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_changes import send_by_of, what_of
from campaign_api.domain.campaign_states import LIVE_KINDS
from campaign_api.domain.costs import cost_of, parts_of, texts_of
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.occurrences import occurrences_of
from campaign_api.domain.plans import Plan, plan_of
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common, segments
from campaign_api.store import resources
from postrider.durations import parse_duration
from postrider.sms.errors import TemplateError
from postrider.sms.template import compile_body

ACTIVITY_DAYS: Final = 30
"""How far back an estimate of a live campaign looks for its event."""
ASKED_ABOUT_CAPS: Final = 1_000
"""People by whom the share of those who are capped is told: to three percent, nineteen times of twenty."""
_SEED: Final = "estimate"
NO_PLAN: Final = Plan()


@dataclass(frozen=True, slots=True)
class Question:
    """`asked` goes to the segment-engine. `pointers`: where what it refuses stands in what the caller sent. `caps`:
    goes to the scheduler, with some of the people; None: there are no caps."""

    asked: dict[str, Any]
    price: str | None
    pointers: Mapping[str, str]
    plan: Plan = NO_PLAN
    caps: dict[str, Any] | None = None


async def about_rule(
    tx: AsyncConnection, rule: object, segment_id: str | None, what: Mapping[str, Any] | None
) -> Question:
    """A rule or a saved segment, and the text to try. Raises `Invalid`."""
    meant = await segments.rule_of(tx, rule, segment_id)
    settings = (await resources.get_settings(tx)).body
    where = "/rule" if segment_id is None else "/segment_id"
    asked: dict[str, Any] = {"rule": meant}
    if what is not None:
        _check_text(what)
        asked |= {"text": _text(what, None, settings, live=False, about={}), "seed": _SEED}
    return Question(asked, settings.get("price_per_part"), {"/rule": where, "/text": "/what"})


async def about_campaign(tx: AsyncConnection, campaign: Resource, now: datetime) -> Question:
    """The campaign as it is saved, whatever its state. Raises `Invalid`."""
    body = campaign.body
    settings = (await resources.get_settings(tx)).body
    live = body["kind"] in LIVE_KINDS
    about = {"id": campaign.id, "name": body["name"]}
    carrier = await common.first_carrier(tx, body["what"])
    carried = {} if carrier is None else carrier.body
    carrier_id = None if carrier is None else carrier.id
    asked: dict[str, Any] = {
        "text": _text(body["what"], carrier_id, settings, live=live, about=about),
        "seed": campaign.id,
    }
    own = carrier_id in (body["what"].get("by_provider") or {})
    where = f"/what/by_provider/{carrier_id}" if own else "/what"
    pointers = {"/text": where, "/filter": "/who/filter", "/trigger": "/who/trigger"}
    who = body["who"]
    if live:
        trigger = who["trigger"]
        asked["trigger"] = {
            "event": trigger.get("event"),
            "where": trigger.get("where") or [],
            "date_property": trigger.get("date_property"),
            "date_attribute": trigger.get("date_attribute"),
            "days": ACTIVITY_DAYS,
        }
        asked["filter"] = who.get("filter")
    elif who.get("rule") is not None:
        asked["rule"], pointers["/rule"] = who["rule"], "/who/rule"
    else:
        segment = await resources.get(tx, "segment", who["segment_id"])
        if segment is None:
            raise Invalid([FieldProblem("/who/segment_id", "there is no such segment")])
        asked["rule"], pointers["/rule"] = segment.body["rule"], "/who/segment_id"
    asked["left_out"] = {
        "campaign_id": campaign.id,
        "account_control": settings.get("control_percent") or 0,
        "campaign_control": who.get("control_percent") or 0,
        "reach": 100 if who.get("reach_percent") is None else who["reach_percent"],
    }
    caps = _caps(campaign, settings, now)
    if caps is not None:
        asked["people"] = ASKED_ABOUT_CAPS
    rate = carried.get("parts_per_second")
    plan = plan_of(body, settings, None if rate is None else float(rate), ACTIVITY_DAYS if live else None)
    return Question(asked, carried.get("price_per_part") or settings.get("price_per_part"), pointers, plan, caps)


def _caps(campaign: Resource, settings: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
    """By the campaign's next occurrence, on one clock: a reservation ahead or behind by a zone's hours is as good as
    any."""
    body = campaign.body
    who = body["who"]
    is_bound = bool(settings.get("frequency_caps") or settings.get("min_gap")) and not who.get("ignore_frequency_caps")
    if not is_bound and who.get("min_gap") is None:
        return None
    ahead = [] if body["kind"] in LIVE_KINDS else occurrences_of(campaign, settings, None, 1, now)["items"]
    return {
        "campaign_id": campaign.id,
        "ignore_frequency_caps": bool(who.get("ignore_frequency_caps")),
        "min_gap_seconds": 0 if who.get("min_gap") is None else int(parse_duration(who["min_gap"]).total_seconds()),
        "send_by_seconds": int(send_by_of(body, settings).total_seconds()),
        "due_at": ahead[0]["at"] if ahead else None,
    }


def shown(found: Mapping[str, Any], question: Question, capped_share: float | None) -> dict[str, Any]:
    """The answer for the caller. `capped_share`: of those who would be texted; None: not known."""
    sample = found["sample"]
    planned = question.plan.planned(texts_of(found), capped_share or 0.0)
    texts = planned.texts
    parts = parts_of(sample)
    mean = 1.0 if parts is None else float(parts["mean"])
    counts = ("qualified", "reachable", "unreachable", "suppressed", "duplicate_phone")
    return {
        **{name: found[name] for name in counts},
        "by_reason": found["by_reason"],
        "by_zone": found["by_zone"],
        "by_country": found["by_country"],
        "activity": found["activity"],
        "control": found["control"],
        "not_in_reach": found["not_in_reach"],
        "limited": planned.limited,
        "capped": None if capped_share is None else planned.capped,
        "texts": texts,
        "exceeds_safety_limit": question.plan.exceeds_safety_limit(texts_of(found)),
        "minutes": question.plan.minutes(texts, mean),
        "cut_by_deadline": question.plan.is_cut(texts, mean),
        "sample": None
        if sample is None
        else {
            "size": sample["size"],
            "rendered": sample["rendered"],
            "failed_share": round(1 - sample["rendered"] / sample["size"], 4) if sample["size"] else 0.0,
            "failures": sample["failures"],
        },
        "parts": parts,
        "cost": cost_of(sample, texts, question.price),
    }


def _check_text(what: Mapping[str, Any]) -> None:
    problems = []
    for name in ("body", "fallback_body"):
        if what.get(name) is not None:
            try:
                compile_body(what[name], kind_is_live=False)
            except TemplateError as error:
                message = f"line {error.line}, column {error.column}: {error.message}"
                problems.append(FieldProblem(f"/what/{name}", message))
    if problems:
        raise Invalid(problems)


def _text(
    what: Mapping[str, Any],
    provider_id: str | None,
    settings: Mapping[str, Any],
    *,
    live: bool,
    about: Mapping[str, str],
) -> dict[str, Any]:
    meant = what_of(what, settings)
    return {
        **msgspec.to_builtins(meant.content_for(provider_id)),
        "max_parts": meant.max_parts,
        "transliterate": meant.transliterate,
        "live": live,
        "campaign": about,
    }

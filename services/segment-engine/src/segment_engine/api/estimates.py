"""Internal route of estimates: a rule, a saved segment or a live trigger in, counts and tried texts out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from postrider.contracts.definitions import Content
from postrider.logs import failure, log
from postrider.rules import Rule, RuleErrors, parse_rule, parse_where
from postrider.rules.tree import AllOf
from postrider.sms.message import Message, MessageError, compile_message, source_of
from postrider.sms.render_pool import WorkerBroken
from segment_engine.api.base import Problem, Services, caught_up, means_nothing
from segment_engine.event_store.port import EvaluationTooLarge, LeftOut, Reach
from segment_engine.loops.estimates import Answer, Question, Sample, Trigger
from segment_engine.loops.evaluation import SegmentUnknown, context_of, rule_of

Days = Annotated[int, Field(ge=1, le=366)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextIn(Strict):
    """What of a campaign's `what` is rendered, and what `Campaign.*` stands for."""

    body: str = ""
    fallback_body: str | None = None
    template_id: str | None = None
    template_variables: list[str] = Field(default_factory=list)
    message_pairs: dict[str, str] = Field(default_factory=dict)
    header_pairs: dict[str, str] = Field(default_factory=dict)
    global_pairs: dict[str, str] = Field(default_factory=dict)
    max_parts: int | None = None
    transliterate: bool = False
    live: bool = False
    campaign: dict[str, Any] = Field(default_factory=dict)


class TriggerIn(Strict):
    """`event` happened in the last `days` (with `date_property`: and has that property), or `date_attribute` exists."""

    event: str | None = None
    where: list[dict[str, Any]] = Field(default_factory=list)
    date_property: str | None = None
    date_attribute: str | None = None
    days: Days = 30


class LeftOutIn(Strict):
    """Percentages of the reachable: control groups of the account and of the campaign, and reach."""

    campaign_id: str
    account_control: float = 0.0
    campaign_control: float = 0.0
    reach: float = 100.0


class EstimateIn(Strict):
    """One of `rule`, `segment_id` and `trigger`; `filter` belongs to `trigger`. `seed`: draws the sample, and the
    `people` who are named of those who would be texted."""

    rule: dict[str, Any] | None = None
    segment_id: str | None = None
    trigger: TriggerIn | None = None
    filter: dict[str, Any] | None = None
    text: TextIn | None = None
    seed: str = ""
    left_out: LeftOutIn | None = None
    people: Annotated[int, Field(ge=0, le=2_000)] = 0


def estimate_routes(services: Services) -> APIRouter:
    router = APIRouter()

    @router.post("/internal/estimate")
    async def estimate(body: EstimateIn) -> dict[str, Any]:
        if sum(given is not None for given in (body.rule, body.segment_id, body.trigger)) != 1:
            raise means_nothing([("", "needs exactly one of rule, segment_id and trigger")])
        text = None if body.text is None else _text(body.text)
        await caught_up(services)
        question = replace(_question(services, body, text), people_size=body.people)
        if body.left_out is not None:
            shares = LeftOut(body.left_out.account_control, body.left_out.campaign_control, body.left_out.reach)
            question = replace(question, campaign_id=body.left_out.campaign_id, left_out=shares)
        try:
            answer = await services.estimator.estimate(question, context_of(services.definitions, services.clock))
        except RuleErrors as error:
            raise _refused(error, body) from error
        except EvaluationTooLarge as error:
            log.warning("estimate_too_large", **failure(error))
            raise _refused(RuleErrors([("", "takes more time or memory than one evaluation may")]), body) from error
        except WorkerBroken as error:
            log.error("estimate_cannot_render", **failure(error))
            raise Problem(503, "Texts cannot be rendered") from error
        return _shown(answer, body)

    return router


def _text(text: TextIn) -> Message:
    content = msgspec.convert(text.model_dump(include=set(Content.__struct_fields__)), Content)
    source = source_of(content, text.live, text.max_parts, text.transliterate)
    try:
        return compile_message(source)
    except MessageError as error:
        raise means_nothing([(f"/text/{error.field}", str(error.error))]) from error


def _question(services: Services, body: EstimateIn, text: Message | None) -> Question:
    about = body.text.campaign if body.text else None
    try:
        if body.trigger is None:
            rule = rule_of(services.definitions, body.rule, body.segment_id)
            return Question(rule, seed=body.seed, text=text, about=about)
        condition = None if body.filter is None else rule_of(services.definitions, body.filter, None)
        rule, trigger = _acted(body.trigger)
    except SegmentUnknown as error:
        raise means_nothing([("/segment_id", "there is no such segment")]) from error
    except RuleErrors as error:
        raise _refused(error, body) from error
    if condition is not None:
        rule = AllOf((rule, condition))
    # A live campaign texts each of several profiles with one phone (semantics.md §2).
    return Question(rule, False, body.seed, text, about, trigger, condition)


def _acted(trigger: TriggerIn) -> tuple[Rule, Trigger | None]:
    if trigger.date_attribute is not None:
        return parse_rule({"attribute": {"name": trigger.date_attribute, "op": "exists"}}), None
    where = list(trigger.where)
    if trigger.date_property is not None:
        where.append({"property": trigger.date_property, "op": "exists"})
    did = {"event": trigger.event, "where": where, "window": {"last": f"P{trigger.days}D"}}
    return parse_rule({"did": did}), Trigger(trigger.event or "", parse_where(where), trigger.days)


def _refused(error: RuleErrors, body: EstimateIn) -> Problem:
    """Pointers into the body: the filter of a live campaign was the second of two."""
    if body.trigger is None:
        return means_nothing([(f"/rule{pointer}", message) for pointer, message in error.problems])
    return means_nothing([(f"/filter{pointer.removeprefix('/all/1')}", message) for pointer, message in error.problems])


def _shown(answer: Answer, body: EstimateIn) -> dict[str, Any]:
    found = answer.reach
    shown: dict[str, Any] = {
        "qualified": found.qualified,
        "reachable": found.reachable,
        "unreachable": found.unreachable,
        "suppressed": found.suppressed,
        "duplicate_phone": found.duplicate_phone,
        "control": found.control,
        "not_in_reach": found.not_in_reach,
        "zones": found.zones,
        "people": [{"user_id": user_id, "zone": zone} for user_id, zone in found.people],
        "by_reason": [
            {"status": status, "reason": reason or None, "n": n}
            for (status, reason), n in sorted(found.reasons.items(), key=lambda item: (-item[1], item[0]))
        ],
        "by_zone": _by("zone", found.by_zone),
        "by_country": _by("country", found.by_country),
        "sample": None if answer.sample is None else _sample(answer.sample),
        "activity": None,
    }
    if body.trigger is not None:
        happened = answer.activity
        shown["activity"] = {
            "days": None if happened is None else body.trigger.days,
            "events": None if happened is None else happened.events,
            "people": None if happened is None else happened.people,
            "filter_holds": answer.condition_holds,
        }
    return shown


def _by(name: str, reach: dict[str, Reach]) -> list[dict[str, Any]]:
    """Most people first; "" is nothing known."""
    ordered = sorted(reach.items(), key=lambda item: (-item[1].qualified, item[0]))
    return [{name: key or None, "qualified": n.qualified, "reachable": n.reachable} for key, n in ordered]


def _sample(sample: Sample) -> dict[str, Any]:
    parts = sample.parts
    return {
        "size": sample.size,
        "rendered": len(parts),
        "failures": [
            {"status": status, "reason": reason or None, "n": n}
            for (status, reason), n in sorted(sample.failures.items(), key=lambda item: (-item[1], item[0]))
        ],
        "parts": {"min": min(parts), "max": max(parts), "total": sum(parts)} if parts else None,
    }

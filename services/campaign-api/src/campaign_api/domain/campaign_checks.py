"""Whether a campaign can work, against what it names: every reason why not, each with a pointer to its field.

Checks meaning; shapes (types, unknown fields, what is not built yet) were checked before. Must not look anything up:
the caller hands over what is known.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

from campaign_api.domain.campaign_states import LIVE_KINDS
from campaign_api.domain.errors import FieldProblem
from campaign_api.domain.trigger_checks import check_trigger, event_reaches_the_text
from campaign_api.domain.what_checks import check_what
from campaign_api.domain.when_checks import MAX_GAP, check_duration, check_when
from postrider.contracts.what_fields import WhatFields
from postrider.rules import Rule, RuleErrors, SegmentRules, names_in, parse_rule, resolve

EMAIL: Final = re.compile(r"[^@\s\x00-\x1f<>,;]+@[^@\s\x00-\x1f<>,;]+")
LIST_READY: Final = "ready"
"""Status of a user list that has all its members."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a campaign or a rule may refer to; deleted ones are absent.

    `segments`: id → rule, as saved, those that they name included. `campaigns`: those that rules name. `user_lists`,
    `providers`: id → status, `takes`: id → what of a `what` it takes. `groups`: id → provider ids, `routes`: id →
    country → those that stand in for them there.
    """

    account_time_zone: str = "UTC"
    segments: Mapping[str, Any] = field(default_factory=dict)
    campaigns: frozenset[str] = frozenset()
    user_lists: Mapping[str, str] = field(default_factory=dict)
    providers: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    routes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    default_group_id: str | None = None
    takes: Mapping[str, WhatFields] = field(default_factory=dict)


def check_campaign(
    body: Mapping[str, Any],
    around: Surroundings,
    now: datetime,
    *,
    dates: bool = True,
    judged: frozenset[str] = frozenset(),
) -> list[FieldProblem]:
    """Empty when the campaign can work. `dates` False: its times were judged when it was scheduled; `judged`: these of
    its dates were."""
    problems = check_when(body, around.account_time_zone, now, dates=dates, judged=judged)
    problems += _check_who(body["who"], around)
    problems += _check_how_many(body)
    return problems + check_what(body["what"], around, live=event_reaches_the_text(body["who"]))


def check_rule(
    rule: object, pointer: str, around: Surroundings, own_id: str | None = None, saved: SegmentRules | None = None
) -> list[FieldProblem]:
    """Empty when the rule means something, with all that it names. `own_id`: the saved segment whose rule it is.

    `saved`: `saved_rules(around)`, for whoever checks many rules.
    """
    try:
        parsed = parse_rule(rule)
    except RuleErrors as error:
        return [FieldProblem(pointer + inner, message) for inner, message in error.problems]
    problems = [*_unknown_names(parsed, around)]
    try:
        resolve(parsed, saved or saved_rules(around), own_id=own_id)
    except RuleErrors as error:
        problems += error.problems
    return [FieldProblem(pointer + inner, message) for inner, message in problems]


def saved_rules(around: Surroundings) -> SegmentRules:
    """Each segment is parsed once, when it is asked for."""
    return cache(lambda id: parse_rule(around.segments[id]) if id in around.segments else None)


def _unknown_names(rule: Rule, around: Surroundings) -> Iterator[tuple[str, str]]:
    """Segments are left to `resolve`."""
    for mention in names_in(rule):
        if mention.kind == "campaign" and mention.id not in around.campaigns:
            yield mention.pointer, "there is no such campaign"
        elif mention.kind == "user_list" and mention.id not in around.user_lists:
            yield mention.pointer, "there is no such user list"
        elif mention.kind == "user_list" and around.user_lists[mention.id] != LIST_READY:
            yield mention.pointer, "the user list is still being uploaded"


def rules_of(who: Mapping[str, Any]) -> list[object]:
    """What of a campaign's `who` is a rule, its saved segment as one that names it."""
    named = who.get("segment_id")
    given = [who.get("rule"), who.get("filter"), None if named is None else {"in_segment": named}]
    return [rule for rule in given if rule is not None]


def names_of(rules: Iterable[object]) -> list[str]:
    """Ids of segments, campaigns and lists that rules name; none of a rule that means nothing."""
    named: set[str] = set()
    for rule in rules:
        with contextlib.suppress(RuleErrors):
            named.update(mention.id for mention in names_in(parse_rule(rule)))
    return sorted(named)


def _check_how_many(body: Mapping[str, Any]) -> list[FieldProblem]:
    who = body["who"]
    problems = check_duration(who.get("min_gap"), "/who/min_gap", MAX_GAP)
    is_live = body["kind"] in LIVE_KINDS
    limits = who.get("limits") or {}
    if is_live and limits.get("run") is not None:
        problems.append(FieldProblem("/who/limits/run", "a live campaign has no runs: total or daily"))
    if not is_live and limits.get("daily") is not None and body["when"]["time_zone"] not in ("user", "best_time"):
        message = "only where people are texted on their own clocks (user, best_time): run"
        problems.append(FieldProblem("/who/limits/daily", message))
    if is_live and who.get("safety_limit") is not None:
        problems.append(FieldProblem("/who/safety_limit", "a live campaign has no runs"))
    email = body.get("owner_email")
    if email is not None and not EMAIL.fullmatch(email):
        problems.append(FieldProblem("/owner_email", "is not an e-mail address"))
    if who.get("safety_limit") is not None and email is None:
        problems.append(FieldProblem("/owner_email", "is needed with a safety_limit, to be told"))
    return problems


def _check_who(who: Mapping[str, Any], around: Surroundings) -> list[FieldProblem]:
    trigger = who.get("trigger")
    if trigger is not None:
        problems = check_trigger(trigger)
        return problems if who.get("filter") is None else problems + check_rule(who["filter"], "/who/filter", around)
    rule, segment_id = who.get("rule"), who.get("segment_id")
    if (rule is None) == (segment_id is None):
        return [FieldProblem("/who", "needs exactly one of rule and segment_id")]
    if rule is not None:
        return check_rule(rule, "/who/rule", around)
    # As a rule that names it: its segments and lists have to be there, too.
    problems = check_rule({"in_segment": segment_id}, "", around)
    return [FieldProblem("/who/segment_id", problem.message) for problem in problems]

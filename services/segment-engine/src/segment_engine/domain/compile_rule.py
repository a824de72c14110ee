"""Rule → one SQL condition over `profiles`, with bound parameters. The names and values of a user are only parameters.

Must not run anything. The condition goes into `SELECT … FROM profiles FINAL WHERE NOT deleted AND (condition)`: so
everybody with a profile is asked, whoever never did anything included (rules.md T1, T24).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from postrider.rules.local_times import span_of
from postrider.rules.tree import AllOf, AnyOf, Attribute, Did, InSegment, Messaged, Not, Rule, UserList
from segment_engine.domain.columns import microseconds
from segment_engine.domain.compile_did import DidCompiler
from segment_engine.domain.compile_filters import FilterCompiler
from segment_engine.domain.compile_params import Parameters


@dataclass(frozen=True, slots=True)
class Compiled:
    """`params`: name → text as ClickHouse reads it for `{name:Type}`; the names are p0, p1, …"""

    sql: str
    params: dict[str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """Names under which any event, or any profile, may hold a list; None: any name."""

    properties: Collection[str] | None = None
    traits: Collection[str] | None = None


def compile_rule(
    rule: Rule,
    *,
    now: datetime,
    account_zone: str,
    user_ids: Sequence[str] | None = None,
    listed: Listed = Listed(),
) -> Compiled:
    """With `user_ids` the condition is false for everybody else, and history is read for these people alone.

    Saved segments are in the rule already (`postrider.rules.resolve`).
    """
    parameters = Parameters()
    only = None if user_ids is None else f"user_id IN {parameters.bind('Array(String)', user_ids)}"
    condition = _Compiler(parameters, microseconds(now), account_zone, only, listed).compile(rule)
    return Compiled(f"{only} AND ({condition})" if only else condition, parameters.texts())


class _Compiler:
    """`compile` makes a truth value about `user_id`. `only`: see `DidCompiler`."""

    def __init__(self, parameters: Parameters, now: int, zone: str, only: str | None, listed: Listed) -> None:
        self._bind = parameters.bind
        self._now = now
        self._zone = zone
        self._only = f" AND {only}" if only else ""
        self._filters = FilterCompiler(parameters, now, zone, listed.traits)
        self._did = DidCompiler(parameters, FilterCompiler(parameters, now, zone, listed.properties), now, zone, only)

    def compile(self, rule: Rule) -> str:
        match rule:
            case AllOf(rules):
                # A look at the profile is cheaper than one into a set of people, and spares it for most.
                cheapest = sorted(rules, key=_asks_others)
                return " AND ".join(f"({self.compile(inner)})" for inner in cheapest) or "true"
            case AnyOf(rules):
                return " OR ".join(f"({self.compile(inner)})" for inner in rules)
            case Not(inner):
                return f"NOT ({self.compile(inner)})"
            case Attribute(test):
                return f"({self._filters.compile(test)})"
            case Did():
                return f"({self._did.compile(rule)})"
            case Messaged():
                return f"({self._messaged(rule)})"
            case UserList(list_id):
                members = f"SELECT user_id FROM user_list_members WHERE list_id = {self._bind('String', list_id)}"
                return f"(user_id IN ({members}{self._only}))"
            case InSegment(segment_id):
                raise ValueError(f"segment {segment_id} was not resolved")

    def _messaged(self, rule: Messaged) -> str:
        campaign, status = self._bind("String", rule.campaign_id), self._bind("String", rule.status)
        found = f"FROM outcomes WHERE campaign_id = {campaign} AND what = {status}{self._only}"
        if rule.window is None:
            return f"user_id IN (SELECT user_id {found})"
        # Several rows of one message may not have been merged yet: the earliest says when it came so far.
        inside = self._filters.instants("min(at)", span_of(rule.window, self._now, self._zone))
        return f"user_id IN (SELECT user_id {found} GROUP BY user_id, message_id HAVING {inside})"


def _asks_others(rule: Rule) -> bool:
    """Whether more than the person's profile is needed."""
    return not isinstance(rule.rule if isinstance(rule, Not) else rule, Attribute)

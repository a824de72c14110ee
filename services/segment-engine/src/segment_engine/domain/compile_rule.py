"""Rule → one SQL condition over `profiles`, with bound parameters. The names and values of a user are only parameters.

Must not run anything. The condition goes into `SELECT … FROM profiles FINAL WHERE NOT deleted AND (condition)`: so
everybody with a profile is asked, whoever never did anything included (rules.md T1, T24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from postrider.rules.tree import AllOf, AnyOf, Attribute, Did, Not, Rule
from segment_engine.domain.columns import microseconds
from segment_engine.domain.compile_did import DidCompiler
from segment_engine.domain.compile_filters import FilterCompiler
from segment_engine.domain.compile_params import Parameters


@dataclass(frozen=True, slots=True)
class Compiled:
    """`params`: name → text as ClickHouse reads it for `{name:Type}`; the names are p0, p1, …"""

    sql: str
    params: dict[str, str]


def compile_rule(rule: Rule, *, now: datetime, account_zone: str, user_ids: Sequence[str] | None = None) -> Compiled:
    """With `user_ids` the condition is false for everybody else, and history is read for these people alone."""
    parameters = Parameters()
    moment = microseconds(now)
    only = None if user_ids is None else f"user_id IN {parameters.bind('Array(String)', user_ids)}"
    filters = FilterCompiler(parameters, moment, account_zone)
    did = DidCompiler(parameters, filters, moment, account_zone, only)
    condition = _condition(rule, filters, did)
    return Compiled(f"{only} AND ({condition})" if only else condition, parameters.texts())


def _condition(rule: Rule, filters: FilterCompiler, did: DidCompiler) -> str:
    if isinstance(rule, AllOf):
        return _joined(" AND ", rule.rules, filters, did) or "true"
    if isinstance(rule, AnyOf):
        return _joined(" OR ", rule.rules, filters, did)
    if isinstance(rule, Not):
        return f"NOT ({_condition(rule.rule, filters, did)})"
    if isinstance(rule, Attribute):
        return f"({filters.compile(rule.test)})"
    assert isinstance(rule, Did)
    return f"({did.compile(rule)})"


def _joined(word: str, rules: tuple[Rule, ...], filters: FilterCompiler, did: DidCompiler) -> str:
    return word.join(f"({_condition(rule, filters, did)})" for rule in rules)

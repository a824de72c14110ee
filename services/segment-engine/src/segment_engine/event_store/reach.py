"""How many people a rule reaches, who of them is looked at more closely, and what they did: the reads of an estimate.

One statement counts everybody and draws the sample; two small ones serve live campaigns. Must not render anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nsmallest
from typing import Any, Protocol

from postrider.rules.tree import Filter
from segment_engine.domain.columns import microseconds, values_of
from segment_engine.domain.compile_filters import FilterCompiler
from segment_engine.domain.compile_params import Parameters, render
from segment_engine.domain.compile_rule import Compiled
from segment_engine.domain.verdicts import read_verdict
from segment_engine.event_store.audiences import verdict_of
from segment_engine.event_store.port import Activity, Estimate, EvaluationContext, LeftOut, Reach
from segment_engine.event_store.statements import bounded, people


class Reader(Protocol):
    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]: ...


@dataclass(slots=True)
class _Tally:
    """Counts of one zone or country."""

    qualified: int = 0
    reachable: int = 0


@dataclass(slots=True)
class _Tallies:
    by_name: dict[str, _Tally] = field(default_factory=dict)

    def add(self, name: str, n: int, *, reachable: bool) -> None:
        tally = self.by_name.setdefault(name, _Tally())
        tally.qualified += n
        tally.reachable += n if reachable else 0

    def reach(self) -> dict[str, Reach]:
        return {name: Reach(tally.qualified, tally.reachable) for name, tally in self.by_name.items()}


def people_params(context: EvaluationContext) -> dict[str, str]:
    """What `statements.people` has bound besides its condition."""
    return {
        "countries": render(list(context.country_zones)),
        "country_zones": render(list(context.country_zones.values())),
        "account_zone": render(context.account_zone),
        "consent_default": "false" if context.require_consent else "true",
    }


async def estimate(
    reader: Reader,
    statement: Compiled,
    context: EvaluationContext,
    *,
    once_per_phone: bool,
    sample_size: int,
    people_size: int,
    seed: str,
    campaign_id: str,
    left_out: LeftOut,
) -> Estimate:
    """`EventStore.estimate`."""
    params = {**statement.params, **people_params(context)}
    left = verdict_of(campaign_id, campaign_id, left_out, params)
    drawn = "[]"
    drawn_size = max(sample_size, people_size)
    if drawn_size:
        # Those with the smallest hashes of their ids under the seed: the same people as long as they stay reachable.
        # The size stands in the text, where a parametric function wants it: it is ours.
        order = "(sipHash64({seed:String}, user_id), user_id)"
        drawn = f"groupArraySortedIf({int(drawn_size)})({order}, verdict = '')"
        params["seed"] = render(seed)
    sql = bounded(
        f"SELECT zone, country, verdict, reason, {left} AS left_out, count(), {drawn} "
        f"FROM ({people(statement.sql, once_per_phone=once_per_phone)}) "
        "GROUP BY zone, country, verdict, reason, left_out"
    )
    verdicts: dict[str, int] = {}
    reasons: dict[tuple[str, str], int] = {}
    zones, countries = _Tallies(), _Tallies()
    candidates: list[tuple[int, str]] = []
    texted: list[tuple[int, str, str]] = []
    left_alone: dict[str, int] = {}
    for zone, country, verdict, reason, passed_over, n, sampled in await reader.rows(sql, params):
        verdicts[verdict] = verdicts.get(verdict, 0) + n
        if verdict:
            reasons[verdict, reason] = reasons.get((verdict, reason), 0) + n
        elif passed_over:
            status = read_verdict(passed_over).status
            left_alone[status] = left_alone.get(status, 0) + n
        zones.add(zone, n, reachable=not verdict)
        countries.add(country, n, reachable=not verdict)
        candidates += map(tuple, sampled)
        if not passed_over:
            texted += [(order, user_id, zone) for order, user_id in sampled]
    return Estimate(
        qualified=sum(verdicts.values()),
        reachable=verdicts.get("", 0),
        unreachable=verdicts.get("unreachable", 0),
        suppressed=verdicts.get("suppressed", 0),
        duplicate_phone=verdicts.get("duplicate_phone", 0),
        zones={zone: reach.qualified for zone, reach in zones.reach().items()},
        reasons=reasons,
        by_zone=zones.reach(),
        by_country=countries.reach(),
        sample=tuple(user_id for _, user_id in nsmallest(sample_size, candidates)),
        people=tuple((user_id, zone) for _, user_id, zone in nsmallest(people_size, texted)),
        control=left_alone.get("control", 0),
        not_in_reach=left_alone.get("not_in_reach", 0),
    )


async def activity(
    reader: Reader, event: str, where: Sequence[Filter], since: datetime, context: EvaluationContext
) -> Activity:
    """`EventStore.activity`."""
    condition, params = _occurred(event, where, since, context)
    rows = await reader.rows(bounded(f"SELECT count(), uniqExact(user_id) FROM events WHERE {condition}"), params)
    return Activity(*rows[0])


async def latest_values(
    reader: Reader,
    event: str,
    where: Sequence[Filter],
    since: datetime,
    context: EvaluationContext,
    user_ids: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """`EventStore.latest_values`."""
    if not user_ids:
        return {}
    condition, params = _occurred(event, where, since, context)
    params["users"] = render(list(user_ids))
    sql = bounded(
        "SELECT user_id, argMax((strs, nums, bools, lists), (at, message_id)) FROM events "
        f"WHERE user_id IN {{users:Array(String)}} AND {condition} GROUP BY user_id"
    )
    return {user_id: values_of(*columns) for user_id, columns in await reader.rows(sql, params)}


def _occurred(
    event: str, where: Sequence[Filter], since: datetime, context: EvaluationContext
) -> tuple[str, dict[str, str]]:
    parameters = Parameters()
    filters = FilterCompiler(parameters, microseconds(context.now), context.account_zone)
    parts = [
        f"event = {parameters.bind('String', event)}",
        f"at >= {parameters.bind('Int64', microseconds(since))}",
        *(f"({filters.compile(test)})" for test in where),
    ]
    return " AND ".join(parts), parameters.texts()

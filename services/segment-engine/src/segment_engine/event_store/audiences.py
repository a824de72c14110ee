"""The statement that fixes an audience: who qualifies, who is left out, in which zone or slot, in which order."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from postrider.scheduling.shares import (
    WHOLE,
    account_control_seed,
    campaign_control_seed,
    reach_seed,
    threshold,
)
from postrider.scheduling.zone_slots import BUCKET_HOURS, fallback_slot
from segment_engine.domain.clock_changes import clock_changes
from segment_engine.domain.columns import microseconds
from segment_engine.domain.compile_params import render
from segment_engine.event_store import statements
from segment_engine.event_store.port import BestTimes, EvaluationContext, LeftOut

ACTIVE_DAYS: Final = 180
"""How far back a best time looks."""


def audience(
    condition: str,
    run_id: str,
    campaign_id: str,
    context: EvaluationContext,
    left_out: LeftOut,
    best_times: BestTimes | None,
) -> tuple[str, dict[str, str]]:
    """The INSERT and what it binds besides the condition's own, the people's and the run's names."""
    params: dict[str, str] = {}
    verdict = verdict_of(run_id, campaign_id, left_out, params)
    people = statements.people(condition)
    if best_times is None:
        source = f"SELECT user_id, zone, {verdict} AS verdict FROM ({people})"
    else:
        source = _slotted(people, verdict, context, best_times, params)
    return statements.store_audience(source, run_id), params


def verdict_of(reach_of: str, campaign_id: str, left_out: LeftOut, params: dict[str, str]) -> str:
    """The verdict, and for those who could be texted why they are left out; binds its own in `params`. The first that
    applies counts: control before reach, and which group. `reach_of`: the run, or what stands for it."""
    cases = ["verdict != '', verdict"]
    for group, seed, percent in (
        ("account", account_control_seed(), left_out.account_control),
        ("campaign", campaign_control_seed(campaign_id), left_out.campaign_control),
    ):
        if threshold(percent):
            cases.append(f"{_share(f'{group}_control', seed, percent, params)}, 'control:{group}'")
    if threshold(left_out.reach) < WHOLE:
        cases.append(f"NOT {_share('reach', reach_seed(reach_of), left_out.reach, params)}, 'not_in_reach'")
    return f"multiIf({', '.join(cases)}, '')"


def _share(name: str, seed: str, percent: float, params: dict[str, str]) -> str:
    """`scheduling.shares.is_in_share`, in SQL."""
    params[f"{name}_seed"] = render(seed)
    params[f"{name}_threshold"] = render(threshold(percent))
    digest = f"SHA256(concat({{{name}_seed:String}}, '\\n', user_id))"
    return f"(reinterpretAsUInt64(reverse(substring({digest}, 1, 8))) % {WHOLE} < {{{name}_threshold:UInt32}})"


def _slotted(
    people: str, verdict: str, context: EvaluationContext, best_times: BestTimes, params: dict[str, str]
) -> str:
    since = context.now - timedelta(days=ACTIVE_DAYS)
    clocks = clock_changes(since.date(), context.now.date())
    params["since"] = render(microseconds(since))
    params["clock_zones"] = render(clocks.zones)
    params["clock_offsets"] = render(clocks.offset)
    local = ["intDiv(at, 1000000)", _of_zone("clock_offsets")]
    for number, (moments, steps) in enumerate(clocks.changes):
        if not any(steps):
            continue
        params[f"clock_moments_{number}"], params[f"clock_steps_{number}"] = render(moments), render(steps)
        local.append(f"if(at >= {_of_zone(f'clock_moments_{number}')}, {_of_zone(f'clock_steps_{number}')}, 0)")
    only = ""
    if best_times.event:
        params["best_event"] = render(best_times.event)
        only = " AND event = {best_event:String}"
    params["fallback"] = render(fallback_slot("", best_times.fallback))
    seconds = BUCKET_HOURS * 3600
    # Of two buckets as busy as each other the earlier one.
    return f"""SELECT user_id,
  concat(zone, if(active, concat('#', leftPad(toString(hour), 2, '0')), {{fallback:String}})) AS zone,
  {verdict} AS verdict
FROM (
  SELECT p.user_id AS user_id, p.zone AS zone, p.verdict AS verdict, b.n > 0 AS active, b.hour AS hour
  FROM ({people}) AS p LEFT ANY JOIN (
    SELECT user_id, argMax(bucket, (times, -bucket)) * {BUCKET_HOURS} AS hour, max(times) AS n
    FROM (
      SELECT user_id, intDiv(positiveModulo({" + ".join(local)}, 86400), {seconds}) AS bucket, count() AS times
      FROM events AS e INNER JOIN (SELECT user_id, zone FROM ({people})) AS z USING user_id
      WHERE at >= {{since:Int64}}{only} GROUP BY user_id, bucket
    ) GROUP BY user_id
  ) AS b ON p.user_id = b.user_id
)"""


def _of_zone(name: str) -> str:
    return f"transform(zone, {{clock_zones:Array(String)}}, {{{name}:Array(Int64)}}, toInt64(0))"

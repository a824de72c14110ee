"""Runs a simulation and holds it against the oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from postrider.contracts.definitions import AccountSettings
from postrider.postgres.database import Database
from tests.simulation.plans import NOON, SEND_BY, Key, due, people, plans
from tests.simulation.stage import Simulation

ACCOUNT_ZONE = "America/Sao_Paulo"


@dataclass(frozen=True)
class Told:
    texts: int
    runs: int
    problems: list[str]


async def simulate(database: Database, seed: int, campaigns: int, people_count: int, days: int) -> Told:
    until = NOON + timedelta(days=days)
    who = people(seed, people_count)
    planned = plans(seed, campaigns, NOON, until, ACCOUNT_ZONE)
    settings = AccountSettings(version=1, account_time_zone=ACCOUNT_ZONE)
    simulation = Simulation(database, who, NOON, settings)
    await simulation.begin()
    await simulation.run([each for plan in planned for each in plan.definitions()], until)
    emitted: dict[Key, list[object]] = {}
    for job in simulation.jobs:
        emitted.setdefault((job.campaign_id, job.occurrence, job.user_id), []).append(job)
    problems = [f"{key}: {len(jobs)} jobs" for key, jobs in emitted.items() if len(jobs) > 1]
    by_key = {(job.campaign_id, job.occurrence, job.user_id): job for job in simulation.jobs}
    runs: set[tuple[str, str]] = set()
    for plan in planned:
        expected = due(plan, who, ACCOUNT_ZONE, until)
        found = {key for key in by_key if key[0] == plan.definition.campaign_id}
        limit = plan.definition.who.limits.run
        runs |= {key[:2] for key in found}
        if limit is None:
            problems += [f"{key}: forgotten, due {expected[key]}" for key in expected.keys() - found]
        else:
            problems += _beyond(found, limit)
        for key in found:
            if key not in expected:
                problems.append(f"{key}: not due, {by_key[key].due_at}")
                continue
            job = by_key[key]
            if (job.due_at, job.send_by) != (expected[key], expected[key] + SEND_BY):
                problems.append(f"{key}: due {job.due_at}, oracle {expected[key]}")
            if job.allowed[0].start != job.due_at:
                problems.append(f"{key}: may first leave {job.allowed[0].start}")
    not_due_yet = await simulation.people_waiting()
    if simulation.funnel["pending"] != len(simulation.jobs) + not_due_yet:
        pending = simulation.funnel["pending"]
        problems.append(f"{pending} pending, {len(simulation.jobs)} jobs, {not_due_yet} not due yet")
    return Told(len(simulation.jobs), len(runs), problems[:50])


def _beyond(found: set[Key], limit: int) -> list[str]:
    texted = Counter(key[:2] for key in found)
    return [f"{run}: {n} texts, limit {limit}" for run, n in texted.items() if n > limit]

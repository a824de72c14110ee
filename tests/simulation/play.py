"""One world from its first day to the last text, and what the oracle says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from postrider.postgres.database import Database
from tests.simulation.check import Check
from tests.simulation.month import RealStage
from tests.simulation.plans import make_plans
from tests.simulation.stage import USUAL, Mishaps, Stage
from tests.simulation.story import Story
from tests.simulation.world import make_world
from tests.support.scheduler_stage import make_stage

STARTS = [datetime(2027, 1, 1, 12, tzinfo=UTC), datetime(2011, 2, 1, tzinfo=UTC), datetime(2027, 9, 1, tzinfo=UTC)]
"""Of worlds, in turn. In 2011 Samoa and Tokelau had no 30 December; 2028 has a 29 February."""
Progress = Callable[[datetime, Story], None]


@dataclass(frozen=True)
class Played:
    """`statuses`: people by what the scheduler made of them."""

    campaigns: int
    runs: int
    texts: int
    ticks: int
    statuses: dict[str, int]
    killed: int
    problems: list[str]


def silent(at: datetime, story: Story) -> None:
    """Tests say nothing while they run."""


async def play_for_real(
    kafka: str,
    fresh_database: Callable[[], Awaitable[str]],
    topic_prefix: str,
    *,
    seed: int,
    campaigns: int,
    people: int,
    days: int,
    step: int,
    kills: float,
    progress: Callable[[datetime, int], None] = lambda at, killed: None,
) -> Played:
    """With schedulers as processes on real Kafka and Postgres. It begins today: what the product deletes by age, it
    deletes by the real clock, too."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    world = make_world(seed, start, days, people, has_caps=seed % 4 != 3)
    world.settings = world.settings[:1]
    plans = {plan.id: plan for plan in make_plans(seed, campaigns, world)}
    async with make_stage(kafka, fresh_database, topic_prefix) as parts:
        stage = RealStage(parts, world, plans, seed, step, kills)
        await stage.run(progress)
        left = await stage.waiting()
    check = Check(world, plans, stage.story, stage.engine, stage.dispatcher, is_ordered=False)
    return _played(stage, check.run() + left, stage.killed)


async def play(
    database: Database,
    seed: int,
    campaigns: int,
    people: int,
    days: int,
    *,
    step: int,
    start: datetime = STARTS[0],
    mishaps: Mishaps = USUAL,
    progress: Progress = silent,
) -> Played:
    """`step`: the scheduler looks at least every so many minutes when there is something to do."""
    world = make_world(seed, start, days, people, has_caps=seed % 4 != 3)
    plans = {plan.id: plan for plan in make_plans(seed, campaigns, world)}
    stage = Stage(database, world, plans, seed, step, mishaps)
    await stage.run(progress)
    problems = Check(world, plans, stage.story, stage.engine, stage.dispatcher).run()
    return _played(stage, problems + await stage.waiting())


def _played(stage: Stage | RealStage, problems: list[str], killed: int = 0) -> Played:
    story = stage.story
    statuses = Counter(told.row.status for told in story.log if told.row.seq == 0)
    statuses.update(settled[3] for settled in stage.engine.unexpanded)
    return Played(
        len(stage.plans), len(story.runs), len(story.jobs), len(story.ticks), dict(statuses), killed, problems
    )

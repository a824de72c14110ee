"""An estimate: whom a rule reaches, what a text becomes for some of them, and how often a live campaign's event came.

The text is rendered by what the dispatcher renders with, from profiles as they are now. Must not change anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from postrider.postgres.database import Database
from postrider.rules import Rule
from postrider.rules.tree import Filter
from postrider.sms.message import Message, NotSent, Outcome, Text
from postrider.sms.values import Values
from segment_engine import metrics
from segment_engine.adapters import profile_table
from segment_engine.domain.live_campaigns import pick
from segment_engine.event_store.port import NOBODY, Activity, Estimate, EvaluationContext, EventStore, LeftOut

SAMPLE_SIZE: Final = 200
AT_ONCE: Final = 2
"""Estimates evaluated side by side: the store's threads also write the history."""
_CHUNK: Final = 25
_RENDER_SECONDS: Final = 3.0
"""Of rendering: a text with endless loops is tried on fewer people."""


class Renderer(Protocol):
    """What is needed of `RenderPool`."""

    async def render_messages(self, message: Message, values: Sequence[Values]) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Trigger:
    """The event that a live campaign answers, looked for in the last `days`."""

    event: str
    where: tuple[Filter, ...]
    days: int


@dataclass(frozen=True, slots=True)
class Question:
    """`rule` says who is counted. `text` is tried on a sample, with `about` as Campaign.*. `condition`: the filter of a
    live campaign by itself. `campaign_id`, `left_out`: who of them a campaign would leave out. `people_size`: of the
    others so many are named."""

    rule: Rule
    once_per_phone: bool = True
    seed: str = ""
    text: Message | None = None
    about: Mapping[str, object] | None = None
    trigger: Trigger | None = None
    condition: Rule | None = None
    campaign_id: str = ""
    left_out: LeftOut = NOBODY
    people_size: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Parts of each text that came out, and why the others did not: (status, reason) → how many."""

    parts: tuple[int, ...]
    failures: Mapping[tuple[str, str], int]

    @property
    def size(self) -> int:
        return len(self.parts) + sum(self.failures.values())


@dataclass(frozen=True, slots=True)
class Answer:
    """`condition_holds`: people for whom the filter holds, None without one."""

    reach: Estimate
    sample: Sample | None
    activity: Activity | None
    condition_holds: int | None


class Estimator:
    def __init__(self, database: Database, store: EventStore, renderer: Renderer) -> None:
        self._database = database
        self._store = store
        self._renderer = renderer
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def estimate(self, question: Question, context: EvaluationContext) -> Answer:
        """Raises `RuleErrors` like the store, `StoreFailed`, `WorkerBroken`."""
        async with self._turn:
            with metrics.ESTIMATE_SECONDS.time():
                reach = await self._store.estimate(
                    question.rule,
                    context,
                    once_per_phone=question.once_per_phone,
                    sample_size=SAMPLE_SIZE if question.text else 0,
                    people_size=question.people_size,
                    seed=question.seed,
                    campaign_id=question.campaign_id,
                    left_out=question.left_out,
                )
                activity = condition_holds = None
                if question.trigger:
                    trigger, since = question.trigger, context.now - timedelta(days=question.trigger.days)
                    activity = await self._store.activity(trigger.event, trigger.where, since, context)
                if question.condition:
                    alone = await self._store.estimate(question.condition, context, once_per_phone=False)
                    condition_holds = alone.qualified
            sample = await self._try(question, question.text, reach.sample, context) if question.text else None
        return Answer(reach, sample, activity, condition_holds)

    async def _try(
        self, question: Question, text: Message, user_ids: Sequence[str], context: EvaluationContext
    ) -> Sample:
        values = await self._values(question, text, user_ids, context)
        deadline = asyncio.get_running_loop().time() + _RENDER_SECONDS
        parts: list[int] = []
        failures: Counter[tuple[str, str]] = Counter()
        for start in range(0, len(values), _CHUNK):
            for outcome in await self._renderer.render_messages(text, values[start : start + _CHUNK]):
                match outcome:
                    case Text():
                        parts.append(outcome.parts)
                    case NotSent():
                        failures[outcome.status, outcome.reason] += 1
            if asyncio.get_running_loop().time() > deadline:
                break
        return Sample(tuple(parts), failures)

    async def _values(
        self, question: Question, text: Message, user_ids: Sequence[str], context: EvaluationContext
    ) -> list[Values]:
        """What the template would be given for each person of the sample who is still there."""
        references = text.references
        events: dict[str, dict[str, Any]] = {}
        if question.trigger and references.event:
            trigger, since = question.trigger, context.now - timedelta(days=question.trigger.days)
            events = await self._store.latest_values(trigger.event, trigger.where, since, context, user_ids)
        async with self._database.begin() as tx:
            profiles = await profile_table.read(tx, list(user_ids))
        profile_names, event_names = sorted(references.profile), sorted(references.event)
        return [
            Values(
                pick(profile_names, profiles[user_id].traits),
                pick(event_names, events.get(user_id, {})),
                question.about or {},
            )
            for user_id in user_ids
            if user_id in profiles and not profiles[user_id].deleted
        ]

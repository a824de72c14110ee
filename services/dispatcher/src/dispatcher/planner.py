"""Which queues to claim from, how many texts of each, and for which provider. Claims nothing itself.

Only providers that have room get any, so that a slow one keeps its texts in the ledger. The room of a provider is
shared among the campaigns that wait for it, however many texts and queues each of them has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dispatcher.calls import Definitions
from dispatcher.domain.admission import campaign_says
from dispatcher.domain.fair_share import share
from dispatcher.domain.message import Queue
from dispatcher.domain.routing import Nowhere
from dispatcher.fleet import Fleet
from dispatcher.pipeline import Pipeline
from dispatcher.preparation import compile_for
from dispatcher.throttles import Throttles
from postrider.contracts.definitions import CampaignDefinition, What

T = TypeVar("T")

MOST_AT_ONCE = 500
MOST_RENDERED = 25
"""Texts of a template that needs a worker process, at once: at a quarter of a second each they are rendered and marked
before their leases are over."""

Wants = dict[str, tuple[int, Pipeline | None]]
"""Queue → how many of its texts to claim, and for whom; None: every provider has refused them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queue that could be claimed from for a provider. `is_slow`: rendered by the worker process. `spills`: its group
    gives the next provider what this one has no room for soon."""

    name: str
    queue: Queue
    is_slow: bool
    spills: bool


@dataclass(slots=True)
class Routed:
    """`exhausted`: queues that every provider has refused; the others by provider."""

    exhausted: list[str] = field(default_factory=list)
    by_provider: dict[str, list[Candidate]] = field(default_factory=dict)


class Planner:
    """`on_not_sending` hears of campaigns whose texts are to be cancelled or held."""

    def __init__(
        self, definitions: Definitions, fleet: Fleet, throttles: Throttles, on_not_sending: Callable[[str], None]
    ) -> None:
        self._definitions = definitions
        self._fleet = fleet
        self._throttles = throttles
        self._on_not_sending = on_not_sending
        self._turns = Counter[int]()
        self._slow_turns = Counter[int]()

    async def wants(self, active: set[tuple[int, str]], lane: int, *, is_rendering: bool) -> Wants:
        """For the queues of the lane. What goes nowhere now is taken out of `active`."""
        routed = self._route(active, lane)
        wants: Wants = dict.fromkeys(routed.exhausted, (MOST_AT_ONCE, None))
        self._turns[lane] += 1
        slow_one = None if is_rendering else self._next_slow(lane, routed.by_provider.values())
        claimable = [
            (pipeline, room, found)
            for provider_id, candidates in routed.by_provider.items()
            if (pipeline := self._fleet.pipeline(provider_id)) is not None
            and (room := min(pipeline.room(lane), MOST_AT_ONCE))
            and (found := self._worth_it(pipeline, room, lane, candidates, slow_one))
        ]
        hands = await self._throttles.hands(self._throttled(claimable), self._definitions.campaigns)
        for pipeline, room, candidates in claimable:
            self._divide(wants, pipeline, room, lane, candidates, hands)
        return wants

    def _route(self, active: set[tuple[int, str]], lane: int) -> Routed:
        routed = Routed()
        for queue_lane, name in list(active):
            if queue_lane != lane:
                continue
            queue = Queue.parse(name)
            campaign = self._definitions.campaigns.get(queue.campaign_id)
            if campaign_says(campaign) != "send" or campaign is None:
                active.discard((queue_lane, name))
                self._on_not_sending(queue.campaign_id)
                continue
            what = campaign.whats.get(str(queue.what_version))
            target = Nowhere("unknown_what", exhausted=True) if what is None else self._fleet.route(what, queue, lane)
            if isinstance(target, Nowhere):
                if target.exhausted:
                    routed.exhausted.append(name)
                else:
                    active.discard((queue_lane, name))
                continue
            assert what is not None
            is_slow = not is_simple(campaign, what, target.provider_id, self._definitions)
            candidate = Candidate(name, queue, is_slow, self._fleet.network.spills(what))
            routed.by_provider.setdefault(target.provider_id, []).append(candidate)
        return routed

    def _next_slow(self, lane: int, found: Iterable[Sequence[Candidate]]) -> str | None:
        """Of the queues whose texts are rendered by the worker process, the one whose turn it is. There is one worker:
        who waits for it had better wait in the ledger, without a lease that runs out."""
        slow = sorted(each.name for candidates in found for each in candidates if each.is_slow)
        if not slow:
            return None
        self._slow_turns[lane] += 1
        return slow[self._slow_turns[lane] % len(slow)]

    def _worth_it(
        self, pipeline: Pipeline, room: int, lane: int, candidates: Sequence[Candidate], slow_one: str | None
    ) -> list[Candidate]:
        """A few texts are worth a transaction only for campaigns that have nothing in line."""
        waiting = pipeline.waiting_of(lane)
        is_enough = room >= pipeline.least_claim(lane)
        return [
            each
            for each in candidates
            if (is_enough or each.queue.campaign_id not in waiting) and (not each.is_slow or each.name == slow_one)
        ]

    def _throttled(self, claimable: Sequence[tuple[Pipeline, int, Sequence[Candidate]]]) -> dict[str, int]:
        """Campaigns with a throttle whose texts could be claimed → how many are claimed and wait for their call."""
        waiting: Counter[str] = Counter()
        for pipeline, _, candidates in claimable:
            campaigns = {each.queue.campaign_id for each in candidates}
            throttled = [id for id in campaigns if self._definitions.campaigns[id].when.throttle_per_minute is not None]
            if throttled:
                buffered = pipeline.buffered_by_campaign()
                waiting.update({id: buffered[id] for id in throttled})
        return dict(waiting)

    def _divide(
        self,
        wants: Wants,
        pipeline: Pipeline,
        room: int,
        lane: int,
        candidates: Sequence[Candidate],
        hands: dict[str, int],
    ) -> None:
        """Campaigns with a throttle take what they have in hand, and nothing from the others when they have to wait;
        the rest is shared. `hands` is what is left in them."""
        again, soon, turn = pipeline.room_again, pipeline.room_soon(lane), self._turns[lane]

        def give(candidate: Candidate, n: int) -> int:
            nonlocal again, soon
            most = [n, room]
            most += [MOST_RENDERED] if candidate.is_slow else []
            most += [again] if candidate.queue.is_again else []
            most += [soon] if candidate.spills else []
            given = max(min(most), 0)
            if given:
                again -= given if candidate.queue.is_again else 0
                soon -= given
                wants[candidate.name] = (given, pipeline)
            return given

        by_campaign: dict[str, list[Candidate]] = {}
        for each in sorted(candidates, key=_name_of):
            by_campaign.setdefault(each.queue.campaign_id, []).append(each)
        for campaign_id in [id for id in by_campaign if id in hands]:
            for each in _in_turn(by_campaign.pop(campaign_id), turn):
                n = give(each, hands[campaign_id])
                hands[campaign_id] -= n
                room -= n
        waiting = pipeline.waiting_of(lane)
        shares = share(room, {id: waiting.get(id, 0) for id in by_campaign}, turn)
        for campaign_id, n in _in_turn(list(shares.items()), turn):
            queues = _in_turn(by_campaign[campaign_id], turn)
            for place, each in enumerate(queues):
                n -= give(each, -(-n // (len(queues) - place)))


def _name_of(candidate: Candidate) -> str:
    return candidate.name


def _in_turn(each: Sequence[T], turn: int) -> Sequence[T]:
    first = turn % max(len(each), 1)
    return [*each[first:], *each[:first]]


def is_simple(campaign: CampaignDefinition, what: What, provider_id: str, definitions: Definitions) -> bool:
    """Rendered in the process, by postrider.sms's own word. A text that cannot be compiled costs nothing either."""
    try:
        return compile_for(campaign, what, provider_id, definitions.settings).is_simple
    except ValueError:
        return True

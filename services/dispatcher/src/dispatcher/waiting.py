"""Texts that are claimed, rendered and wait for their call at one provider: transactional ones before live before bulk,
in each lane one of each campaign in turn. Decides nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from dispatcher.calls import Prepared
from dispatcher.domain.fair_buffer import FairBuffer, Verdict
from dispatcher.domain.message import BULK, BY_PRIORITY

PARTS_LEARN = 0.05


class Waiting:
    def __init__(self) -> None:
        self._lanes = {lane: FairBuffer[Prepared](_campaign_of) for lane in BY_PRIORITY}
        self._expected = dict.fromkeys(BY_PRIORITY, 0)
        self._parts = dict.fromkeys(BY_PRIORITY, 0)
        self.again = 0
        """How many of them a provider has refused before."""
        self.parts_per_text = 1.0
        """About, of late."""

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def of_lane(self, lane: int) -> int:
        """Those that are still being rendered among them."""
        return len(self._lanes[lane]) + self._expected[lane]

    @property
    def urgent(self) -> int:
        """All but bulk."""
        return len(self) - len(self._lanes[BULK])

    @property
    def head(self) -> Prepared:
        """The first that may go. Something must wait."""
        return next(buffer for buffer in self._lanes.values() if buffer).head

    @property
    def parts(self) -> int:
        return sum(self._parts.values())

    def parts_ahead(self, lane: int) -> float:
        """Of what goes before another text of the lane."""
        ahead = BY_PRIORITY[: BY_PRIORITY.index(lane) + 1]
        return sum(self._parts[each] + self._expected[each] * self.parts_per_text for each in ahead)

    def by_campaign(self, lane: int) -> Mapping[str, int]:
        return self._lanes[lane].counts()

    def buffered_by_campaign(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for buffer in self._lanes.values():
            counted.update(buffer.counts())
        return counted

    def expect(self, lane: int, n: int) -> None:
        """So many texts are being prepared (or are no longer, with a negative number)."""
        self._expected[lane] += n

    def put(self, texts: Iterable[Prepared]) -> None:
        for text in texts:
            lane = text.message.lane
            self._lanes[lane].put(text)
            self._parts[lane] += text.parts
            self.again += text.message.attempt > 0
            self.parts_per_text += (text.parts - self.parts_per_text) * PARTS_LEARN

    # Taking. Each also forgets what is taken.

    def draw(self, lane: int, judge: Callable[[Prepared], Verdict]) -> list[Prepared]:
        return self._gone(self._lanes[lane].draw(judge))

    def take_heads(self, is_wanted: Callable[[Prepared], bool]) -> list[Prepared]:
        """Of each campaign and lane what is wanted of the front of its line, where the oldest are."""
        return self._gone([text for buffer in self._lanes.values() for text in buffer.take_heads(is_wanted)])

    def take_campaigns(self, campaign_ids: Iterable[str]) -> list[Prepared]:
        return self._gone(
            [text for id in campaign_ids for buffer in self._lanes.values() for text in buffer.take_owner(id)]
        )

    def drain(self) -> list[Prepared]:
        return self._gone([text for buffer in self._lanes.values() for text in buffer.drain()])

    def _gone(self, texts: list[Prepared]) -> list[Prepared]:
        for text in texts:
            self._parts[text.message.lane] -= text.parts
            self.again -= text.message.attempt > 0
        return texts


def _campaign_of(text: Prepared) -> str:
    return text.message.campaign_id

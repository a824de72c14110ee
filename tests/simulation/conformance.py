"""What is asked of the played parts and of the real ones alike, so that a simulation proves something of the product.

Each suite takes the part as a few functions and raises AssertionError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from postrider.contracts.audience import AudiencePage, AudienceSnapshotted
from postrider.contracts.delivery_events import ACCEPTED_STATUSES, NOT_SENT_STATUSES, MessageChanged
from postrider.contracts.envelope import Outgoing
from postrider.contracts.qualified import QualifiedUser

MOMENT = timedelta(milliseconds=1)
Answer = tuple[AudienceSnapshotted, Mapping[str, Sequence[AudiencePage]]]


class Read(Protocol):
    """As aiokafka gives a record out."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


def audience(answer: Answer, page_size: int) -> None:
    """One rank for each person, those who may be texted first, in zones that add up, in full pages in the order of
    ranks, of which the last says so."""
    snapshot, zones = answer
    assert {zone: sum(len(page.users) for page in pages) for zone, pages in zones.items()} == snapshot.zones
    users = sorted((user for pages in zones.values() for page in pages for user in page.users), key=lambda it: it.rank)
    assert [user.rank for user in users] == list(range(snapshot.total))
    assert len({user.user_id for user in users}) == snapshot.total
    assert [not user.verdict for user in users] == [user.rank < snapshot.reachable for user in users]
    for zone, pages in zones.items():
        assert [page.page for page in pages] == list(range(len(pages)))
        assert [page.last for page in pages] == [page is pages[-1] for page in pages]
        assert all(len(page.users) == page_size for page in pages[:-1]), zone
        ranks = [user.rank for page in pages for user in page.users]
        assert ranks == sorted(ranks)


def same_audience(one: Answer, other: Answer) -> None:
    """The same people in the same places, for the same reasons; where the engine says why in words, any do."""
    assert one[0] == other[0]
    assert _people(one) == _people(other)


def _people(answer: Answer) -> dict[tuple[str, int], list[tuple[str, int, str, str, str | None]]]:
    return {
        (zone, page.page): [(it.user_id, it.rank, it.verdict, it.phone, it.country) for it in page.users]
        for zone, pages in answer[1].items()
        for page in pages
    }


INACTION_SPAN = timedelta(seconds=60)
INACTIONS: Mapping[str, Sequence[tuple[str, timedelta]]] = {
    "nothing follows": [("A", timedelta(0))],
    "the act at once": [("A", timedelta(0)), ("B", timedelta(0))],
    "the act at the very end": [("A", timedelta(0)), ("B", INACTION_SPAN)],
    "the act a moment too late": [("A", timedelta(0)), ("B", INACTION_SPAN + MOMENT)],
    "the act before": [("B", -MOMENT), ("A", timedelta(0))],
    "again inside": [("A", timedelta(0)), ("A", INACTION_SPAN / 2)],
    "again at the very end": [("A", timedelta(0)), ("A", INACTION_SPAN)],
    "again a moment later": [("A", timedelta(0)), ("A", INACTION_SPAN + MOMENT)],
    "again behind the act": [("A", timedelta(0)), ("B", INACTION_SPAN / 3), ("A", INACTION_SPAN / 2)],
    "again behind the act, which comes again": [
        ("A", timedelta(0)), ("B", INACTION_SPAN / 3), ("A", INACTION_SPAN / 2), ("B", INACTION_SPAN * 3 / 2)
    ],
}  # fmt: skip
"""What a person does, and when: A, and no B within the span; both ends belong to it (docs/decisions/live-timers.md)."""


def same_qualified(one: Sequence[QualifiedUser], other: Sequence[QualifiedUser]) -> None:
    """The same people once for the same events, due at the same moments, in the same zones."""
    assert _texts(one) == _texts(other)
    assert len(_texts(one)) == len(one) == len(other)


def _texts(found: Sequence[QualifiedUser]) -> dict[tuple[str, str, str], tuple[object, ...]]:
    return {
        (it.campaign_id, it.occurrence, it.user_id): (it.due_at, it.zone, it.verdict, it.phone, it.country)
        for it in found
    }


async def bus(
    publish: Callable[[Sequence[Outgoing]], Awaitable[None]], read: Callable[[], Awaitable[Sequence[Read]]], topic: str
) -> None:
    """A key has a partition and an order; a batch that is published again comes again, whole and in its order; whoever
    reads from the beginning reads the same."""
    batches = [
        [Outgoing(topic, f"k{number % 7}".encode(), f"{batch}-{number}".encode()) for number in range(50)]
        for batch in range(3)
    ]
    for records in (batches[0], batches[1], batches[1], batches[2]):
        await publish(records)
    found = await read()
    by_key: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for record in sorted(found, key=lambda it: (it.partition, it.offset)):
        by_key[record.key or b""].append(record.value or b"")
    assert len(found) == 200
    assert len({(record.partition, record.offset) for record in found}) == 200
    for key, values in by_key.items():
        order = [batches[number] for number in (0, 1, 1, 2)]
        assert values == [record.value for records in order for record in records if record.key == key]
        assert len({record.partition for record in found if record.key == key}) == 1
    again = await read()
    assert [(it.partition, it.offset, it.value) for it in again] == [
        (it.partition, it.offset, it.value) for it in found
    ]


_AFTER: Mapping[str, frozenset[str]] = {
    "pending": frozenset({"pending", "in_doubt", *ACCEPTED_STATUSES, *NOT_SENT_STATUSES}),
    "in_doubt": frozenset({"in_doubt", "pending", "unknown", *ACCEPTED_STATUSES, *NOT_SENT_STATUSES}),
    "unknown": frozenset({"unknown", *ACCEPTED_STATUSES}),
    **{status: frozenset(ACCEPTED_STATUSES) for status in ACCEPTED_STATUSES},
    **{status: frozenset() for status in NOT_SENT_STATUSES},
}


def outcomes(rows: Sequence[MessageChanged]) -> None:
    """`rows`: what a dispatcher said, in its order, repeats left out. Each text ends in one way; one that was, or may
    have been, handed over has an attempt that says when; nothing follows a text that was not sent."""
    before: dict[str, MessageChanged] = {}
    for row in rows:
        last = before.get(row.message_id)
        assert row.seq > (0 if last is None else last.seq)
        assert row.status in _AFTER["pending" if last is None else last.status], (last, row)
        if row.status in ("in_doubt", "unknown", *ACCEPTED_STATUSES):
            assert row.attempts
            assert row.attempts[-1].at <= row.at + timedelta(seconds=1)  # two machines' clocks
        before[row.message_id] = row

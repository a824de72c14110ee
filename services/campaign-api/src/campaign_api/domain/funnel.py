"""The funnel as sums of conserving moves (semantics.md §8): what a batch adds, and the report made of the counters.

Pure: dedups nothing, reads nothing. Whatever moves come in whatever order, a report made of whole moves adds up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from campaign_api.domain.resource import rfc3339
from postrider.contracts.delivery_events import (
    ACCEPTED_STATUSES,
    NOT_SENT_STATUSES,
    OPEN_STATUSES,
    STATUSES,
    FunnelMoved,
)

REASONED_STATUSES = frozenset({*NOT_SENT_STATUSES, "undelivered"})
"""Statuses that a message does not leave: only for these does a reason, once counted, stay true."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The name of one counter. The empty string means: none (yet)."""

    campaign_id: str
    run_id: str
    variant: str
    provider_id: str
    status: str
    reason: str


def deltas(moves: Iterable[FunnelMoved]) -> dict[Cell, int]:
    """What the moves add to the counters; cells that come out even are absent."""
    sums: Counter[Cell] = Counter()
    for move in moves:
        if move.from_status:
            sums[Cell(move.campaign_id, move.run_id, move.variant, move.from_provider_id, move.from_status, "")] -= (
                move.n
            )
        reason = move.reason if move.to_status in REASONED_STATUSES else ""
        sums[Cell(move.campaign_id, move.run_id, move.variant, move.provider_id, move.to_status, reason)] += move.n
    return {cell: n for cell, n in sums.items() if n}


def counts(cells: Iterable[tuple[Cell, int]]) -> dict[str, int]:
    """All counts of semantics.md §8, zeros included. `qualified` and `accepted` are sums, so they add up."""
    by_status: Counter[str] = Counter()
    for cell, n in cells:
        by_status[cell.status] += n
    accepted = sum(by_status[status] for status in ACCEPTED_STATUSES)
    others = {status: by_status[status] for status in (*OPEN_STATUSES, "unknown")}
    not_sent = {status: by_status[status] for status in NOT_SENT_STATUSES}
    return {
        "qualified": accepted + sum(others.values()) + sum(not_sent.values()),
        **others,
        "accepted": accepted,
        **{status: by_status[status] for status in ACCEPTED_STATUSES},
        **not_sent,
    }


def open_messages(cells: Iterable[tuple[Cell, int]]) -> int:
    """Pending and in doubt: while there are some, the campaign is not completed."""
    return sum(n for cell, n in cells if cell.status in OPEN_STATUSES)


def report(cells: Mapping[Cell, int], runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of `GET /v1/campaigns/{id}/report`. Every `by_…` list sums to the funnel."""
    items = list(cells.items())
    known_runs = {str(run["run_id"]): dict(run) for run in runs}
    by_run = _grouped(items, "run_id")
    for row in by_run:
        row |= {key: value for key, value in known_runs.pop(row["run_id"] or "", {}).items() if key != "run_id"}
    by_run += [{**run, **counts(())} for run in known_runs.values()]
    reasons: Counter[tuple[str, str]] = Counter()
    for cell, n in items:
        if cell.status in REASONED_STATUSES:
            reasons[cell.status, cell.reason] += n
    order = {status: index for index, status in enumerate(STATUSES)}
    return {
        "funnel": counts(items),
        "by_reason": [
            {"status": status, "reason": reason or None, "n": n}
            for (status, reason), n in sorted(reasons.items(), key=lambda item: (order[item[0][0]], item[0][1]))
            if n
        ],
        "by_provider": _grouped(items, "provider_id"),
        "by_variant": _grouped(items, "variant"),
        "by_run": by_run,
        "conversions": {},
    }


def shown_run(
    run: Mapping[str, Any], counted: Mapping[str, Any], zones: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """A row of `GET /v1/campaigns/{id}/runs`. `counted`: its row of the report; `zones`: by run, as the scheduler has
    them."""
    return {
        **run,
        "counts": {name: n for name, n in counted.items() if name not in run},
        "zones": [
            {
                "zone": zone["zone"],
                "state": zone["state"],
                "reason": zone["reason"] or None,
                "users": zone["users"],
                "expanded_users": zone["expanded_users"],
                "due_at": rfc3339(datetime.fromisoformat(zone["due_at"])),
                "send_by": rfc3339(datetime.fromisoformat(zone["send_by"])),
            }
            for zone in sorted(zones.get(run["run_id"], ()), key=lambda zone: (zone["due_at"], zone["zone"]))
        ],
    }


def _grouped(items: list[tuple[Cell, int]], name: str) -> list[dict[str, Any]]:
    groups: dict[str, list[tuple[Cell, int]]] = {}
    for cell, n in items:
        groups.setdefault(getattr(cell, name), []).append((cell, n))
    return [{name: key or None, **counts(groups[key])} for key in sorted(groups)]

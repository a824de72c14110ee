"""What a campaign's limits and its throttle make of an estimate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from campaign_api.domain.campaign_changes import send_by_of


@dataclass(frozen=True, slots=True)
class Plan:
    """`most`: texts that a run (or a live campaign in all) may send; None: no limit."""

    most: int | None = None
    safety_limit: int | None = None
    throttle_per_minute: int | None = None
    send_by: timedelta | None = None

    def within_limits(self, texts: int) -> tuple[int, int]:
        """(texts that go out, those above the limit)."""
        allowed = texts if self.most is None else min(texts, self.most)
        return allowed, texts - allowed

    def exceeds_safety_limit(self, texts: int) -> bool:
        return self.safety_limit is not None and texts > self.safety_limit

    def minutes(self, texts: int) -> float | None:
        """How long handing them over takes; None without a throttle."""
        return None if self.throttle_per_minute is None else round(texts / self.throttle_per_minute, 1)

    def is_cut(self, texts: int) -> bool:
        """Whether the deadline comes before the last of those who are due at one moment."""
        minutes = self.minutes(texts)
        return minutes is not None and self.send_by is not None and timedelta(minutes=minutes) > self.send_by


def plan_of(body: Mapping[str, Any], settings: Mapping[str, Any]) -> Plan:
    who = body["who"]
    limits = who.get("limits") or {}
    given = [limit for limit in (limits.get("run"), limits.get("total")) if limit is not None]
    return Plan(
        most=min(given, default=None),
        safety_limit=who.get("safety_limit"),
        throttle_per_minute=body["when"].get("throttle_per_minute"),
        send_by=send_by_of(body, settings),
    )

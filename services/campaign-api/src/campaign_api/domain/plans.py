"""What a campaign's limits, its throttle and its provider's rate make of an estimate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from campaign_api.domain.campaign_changes import send_by_of


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of those who would be texted."""

    texts: int
    limited: int
    capped: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`most`: texts that a run (or a live campaign in all) may send; None: no limit. `parts_per_second`: of the
    provider that is tried first. `days`: those over which a live campaign's texts come; None: a run's are due at once.
    """

    most: int | None = None
    safety_limit: int | None = None
    throttle_per_minute: int | None = None
    send_by: timedelta | None = None
    parts_per_second: float | None = None
    days: int | None = None

    def planned(self, texts: int, capped_share: float) -> Planned:
        """A run's ranks are cut first, and caps take from what is left; a live text that is capped takes no slot."""
        most = texts if self.most is None else self.most
        if self.days is not None:
            capped = round(texts * capped_share)
            allowed = min(texts - capped, most)
            return Planned(allowed, texts - capped - allowed, capped)
        allowed = min(texts, most)
        capped = round(allowed * capped_share)
        return Planned(allowed - capped, texts - allowed, capped)

    def exceeds_safety_limit(self, texts: int) -> bool:
        return self.safety_limit is not None and texts > self.safety_limit

    def minutes(self, texts: int, parts: float) -> float | None:
        """How long handing a run's texts over takes; None when nothing limits it. `parts`: of one, on average."""
        per_minute = self._texts_per_minute(parts)
        return None if per_minute is None or self.days is not None else round(texts / per_minute, 1)

    def is_cut(self, texts: int, parts: float) -> bool:
        """Whether the deadline comes before the last of those who are due at one moment; of a live campaign: whether
        more come than leave."""
        per_minute = self._texts_per_minute(parts)
        if per_minute is None:
            return False
        if self.days is not None:
            return texts > per_minute * timedelta(days=self.days).total_seconds() / 60
        return self.send_by is not None and timedelta(minutes=texts / per_minute) > self.send_by

    def _texts_per_minute(self, parts: float) -> float | None:
        rates = [] if self.throttle_per_minute is None else [float(self.throttle_per_minute)]
        if self.parts_per_second is not None:
            rates.append(self.parts_per_second * 60 / max(parts, 1.0))
        return min(rates, default=None)


def plan_of(
    body: Mapping[str, Any], settings: Mapping[str, Any], parts_per_second: float | None, days: int | None
) -> Plan:
    who = body["who"]
    limits = who.get("limits") or {}
    given = [limit for limit in (limits.get("run"), limits.get("total")) if limit is not None]
    return Plan(
        most=min(given, default=None),
        safety_limit=who.get("safety_limit"),
        throttle_per_minute=body["when"].get("throttle_per_minute"),
        send_by=send_by_of(body, settings),
        parts_per_second=parts_per_second,
        days=days,
    )

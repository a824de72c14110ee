"""/livez, /readyz and /metrics, and the named checks behind them.

A part that is down is reported with its name, the reason and since when; the process lives on and waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from postrider.clock import Clock, SystemClock

PART_UP = Gauge("postrider_part_up", "1 when a part this service needs answers, else 0.", ["part"])


@dataclass
class Check:
    """One part: "starting" until its first word, then up unless somebody says that it is down.

    Several may speak of one part, each with a voice of its own: whoever finds it well does not overrule another who
    finds it down.
    """

    name: str
    clock: Clock
    status: str = "starting"
    reason: str = "not started"
    since: datetime = field(init=False)
    _down: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.since = self.clock.now()
        PART_UP.labels(self.name).set(0)

    def up(self, voice: str = "") -> None:
        self._down.pop(voice, None)
        if self._down:
            self.reason = next(iter(self._down.values()))
        elif self.status != "up":
            self.status, self.reason, self.since = "up", "", self.clock.now()
            PART_UP.labels(self.name).set(1)

    def down(self, reason: str, voice: str = "") -> None:
        self._down[voice] = reason
        if self.status != "down":
            self.status, self.since = "down", self.clock.now()
        self.reason = reason
        PART_UP.labels(self.name).set(0)


class Health:
    """The checks of one process. Ready when all are up and it is not stopping; live unless a watchdog says dead."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._checks: dict[str, Check] = {}
        self.stopping = False
        self.dead: str | None = None

    def check(self, name: str) -> Check:
        if name not in self._checks:
            self._checks[name] = Check(name, self._clock)
        return self._checks[name]

    @property
    def ready(self) -> bool:
        return not self.stopping and all(check.status == "up" for check in self._checks.values())

    def report(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "stopping": self.stopping,
            "parts": {
                check.name: {"status": check.status, "since": check.since.isoformat(), "reason": check.reason}
                for check in self._checks.values()
            },
        }


def router(health: Health) -> APIRouter:
    """Probes without authentication: they tell no secrets."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/livez")
    async def livez(response: Response) -> dict[str, Any]:
        response.status_code = 200 if health.dead is None else 503
        return {"live": health.dead is None, "reason": health.dead or ""}

    @routes.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        response.status_code = 200 if health.ready else 503
        return health.report()

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return routes

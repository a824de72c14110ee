"""The segment-engine's live path by itself: events read, profiles, timers armed, disarmed and fired. No history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from postrider.runtime import Service, main
from segment_engine.app import SERVICE, build
from segment_engine.settings import Settings

PARTS = frozenset({"definitions", "outbox", "live", "firing", "firing_filtered", "alignments"})


@asynccontextmanager
async def live_alone(settings: Settings) -> AsyncIterator[Service]:
    async with build(settings) as service:
        yield replace(service, components=[part for part in service.components if part.name in PARTS])


if __name__ == "__main__":
    main(SERVICE, "segment_engine", Settings, live_alone)

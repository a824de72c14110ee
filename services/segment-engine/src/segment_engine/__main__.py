"""`python -m segment_engine` runs the service, `python -m segment_engine migrate` brings its schema up to date."""

from __future__ import annotations

from postrider.runtime import Thresholds, main
from segment_engine.app import build
from segment_engine.settings import Settings

COLLECT_AFTER: Thresholds = (500_000, 20, 100)
"""More than the objects of a history batch: it is over, and freed, before anybody counts them."""

if __name__ == "__main__":
    main("segment-engine", "segment_engine", Settings, build, COLLECT_AFTER)

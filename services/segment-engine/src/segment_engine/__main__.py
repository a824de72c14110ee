"""`python -m segment_engine` runs the service, `python -m segment_engine migrate` brings its schema up to date."""

from __future__ import annotations

import gc

from postrider.runtime import main
from segment_engine.app import build
from segment_engine.settings import Settings

# Batches of thousands of small objects live for a moment: counting them all the time cost a third of the event loop.
COLLECT_AFTER = (100_000, 50, 100)

if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    main("segment-engine", "segment_engine", Settings, build)

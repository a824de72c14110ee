"""`python -m segment_engine` runs the service, `python -m segment_engine migrate` brings its schema up to date."""

from __future__ import annotations

from postrider.runtime import main
from segment_engine.app import build
from segment_engine.settings import Settings

if __name__ == "__main__":
    main("segment-engine", "segment_engine", Settings, build)

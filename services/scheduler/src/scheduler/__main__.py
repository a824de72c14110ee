"""`python -m scheduler` runs the service, `python -m scheduler migrate` brings its schema up to date."""

from __future__ import annotations

from postrider.runtime import main
from scheduler.app import build
from scheduler.settings import Settings

if __name__ == "__main__":
    main("scheduler", "scheduler", Settings, build)

"""`python -m dispatcher` runs the service, `python -m dispatcher migrate` brings its schema up to date."""

from __future__ import annotations

from dispatcher.app import build
from dispatcher.settings import Settings
from postrider.runtime import main

if __name__ == "__main__":
    main("dispatcher", "dispatcher", Settings, build)

"""`python -m dispatcher` runs the service, `python -m dispatcher migrate` brings its schema up to date."""

from __future__ import annotations

from postrider.runtime import main

from dispatcher.app import build
from dispatcher.settings import Settings

if __name__ == "__main__":
    main("dispatcher", "dispatcher", Settings, build)

"""`make bench`: the figures of the main path, from one run."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from benchmarks.main_path import main

if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(os.environ.get("POSTRIDER_HOME", ".local")).resolve())))

"""The HTTP port's suite once more on uvloop, on which the services run: its transports and its TLS are its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
SUITE = "services/dispatcher/tests/contract/test_http_port.py"


async def test_the_suite_passes_on_uvloop() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.support.on_uvloop", SUITE,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-2000:]

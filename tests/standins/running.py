"""Starts the Twilio stand-in as a process, for tests, fault runs and benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextlib.asynccontextmanager
async def twilio_process(log: Path, *more: str, account_sid: str, auth_token: str) -> AsyncIterator[int]:
    """The port of a stand-in that ends with the block. `more`: its command line's other options."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.standins.twilio",
        *("--log", str(log), "--account-sid", account_sid, "--auth-token", auth_token),
        *more,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        yield int(line)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()

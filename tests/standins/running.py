"""Starts stand-ins of vendors as processes, for tests, fault runs and benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


async def standin_started(kind: str, log: Path, *options: str) -> tuple[asyncio.subprocess.Process, int]:
    """The stand-in `tests.standins.<kind>` as a process, and its port. The caller ends it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.standins.{kind}",
        *("--log", str(log)),
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        return process, int(await asyncio.wait_for(process.stdout.readline(), 20))
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise


@contextlib.asynccontextmanager
async def standin_process(kind: str, log: Path, *options: str) -> AsyncIterator[int]:
    """The port of the stand-in `tests.standins.<kind>` that ends with the block."""
    process, port = await standin_started(kind, log, *options)
    try:
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def twilio_process(
    log: Path, *more: str, account_sid: str, auth_token: str
) -> contextlib.AbstractAsyncContextManager[int]:
    """`more`: its command line's other options."""
    return standin_process("twilio", log, "--account-sid", account_sid, "--auth-token", auth_token, *more)

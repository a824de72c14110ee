"""One Kafka and one Postgres per test session, and what keeps tests apart on them. No test starts parts of its own
unless starting and stopping is what it tests.
"""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from postrider.local.errors import HomeInUse
from postrider.local.home import Home, HomeLock, workspace
from postrider.local.parts import Parts
from postrider.local.process import end_orphan


def quiet(_line: str) -> None:
    """Progress lines would spoil the test report."""


@asynccontextmanager
async def session_parts() -> AsyncIterator[Parts]:
    """Parts on free ports with their data in a directory of this session's; all gone afterwards."""
    base = workspace() / ".local"
    for abandoned in abandoned_homes(base):
        await remove_abandoned(abandoned)
    folder = make_folder(base)
    fixed = ("POSTRIDER_KAFKA_PORT", "POSTRIDER_POSTGRES_PORT")
    env = {name: value for name, value in os.environ.items() if name not in fixed}
    home = Home(folder)
    with HomeLock(home):
        parts = Parts(home, env, quiet, jars=base / "kafka" / "libs")
        try:
            yield parts
        finally:
            await parts.stop()
    shutil.rmtree(folder)


def make_folder(base: Path) -> Path:
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="tests-", dir=base))
    folder.chmod(0o755)  # the user that runs Postgres has to enter it
    return folder


def abandoned_homes(base: Path) -> list[Home]:
    """Homes of sessions that may have been killed; a young one is perhaps not locked yet."""
    return [Home(folder) for folder in base.glob("tests-*") if time.time() - folder.stat().st_mtime > 60]


async def remove_abandoned(home: Home) -> None:
    """Unless a live session holds its lock."""
    try:
        with HomeLock(home):
            for pid_file in [home.pids / f"{part}.json" for part in ("kafka", "postgres")]:
                await end_orphan(pid_file, signal.SIGTERM, 2)
    except HomeInUse:
        return
    shutil.rmtree(home.path, ignore_errors=True)  # two sessions may find the same one


def topic_prefix() -> str:
    """A prefix for the topics of one test: `<prefix>.user-events.v1` and so on."""
    return f"t{secrets.token_hex(4)}"


async def create_database(url: str) -> str:
    """The URL of a new, empty database beside the one of `url`."""
    name = f"t_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return f"{url.rpartition('/')[0]}/{name}"


async def drop_database(url: str) -> None:
    """Also ends the sessions that a failed test left open in it."""
    base, _, name = url.rpartition("/")
    connection = await asyncpg.connect(f"{base}/postgres")
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()

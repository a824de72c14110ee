"""`python -m segment_engine` as a process on a test's parts: started, killed and started again on one port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from postrider.local.ports import free_port
from tests.support.segment_engine import TOKEN, Engine


class EngineProcess:
    """`changes` of the environment; an empty value is a variable that is missing."""

    def __init__(self, made: Engine, changes: Mapping[str, str] | None = None) -> None:
        settings = made.settings
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "DATABASE_URL": settings.database_url,
            "POSTRIDER_TOPIC_PREFIX": settings.topic_prefix,
            "POSTRIDER_SERVICE_TOKEN": TOKEN,
            "POSTRIDER_EVENT_STORE_PATH": str(settings.event_store_path or ""),
            "POSTRIDER_DEDUP_KEY": settings.dedup_key.get_secret_value(),
            "POSTRIDER_PHONE_HASH_KEY": settings.phone_hash_key.get_secret_value(),
            "POSTRIDER_SEGMENT_ENGINE_PORT": str(self.port),
            **(changes or {}),
        }
        self.environment = {name: value for name, value in environment.items() if value}

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "segment_engine", env=self.environment, stdout=asyncio.subprocess.DEVNULL
        )

    async def end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None
        if process.returncode is None:
            process.send_signal(number)
        return await asyncio.wait_for(process.wait(), 30)

    def client(self) -> httpx.AsyncClient:
        """Carries the service token."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30)


@asynccontextmanager
async def engine_process(made: Engine, changes: Mapping[str, str] | None = None) -> AsyncIterator[EngineProcess]:
    running = EngineProcess(made, changes)
    try:
        yield running
    finally:
        if running.process is not None:
            await running.end(signal.SIGKILL)


async def is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False

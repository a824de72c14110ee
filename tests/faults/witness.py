"""Asks every service all the time what it says of itself, as an orchestrator and an alarm would. Decides nothing: what
was heard is a ledger for the checker.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

EVERY_SECONDS = 0.5
_PART_UP = re.compile(r'^postrider_part_up\{part="([^"]+)"\} (\S+)', re.M)

_STARTED = re.compile(r"^process_start_time_seconds (\S+)", re.M)


class Witness:
    """`run` until cancelled; one line for each look at a service."""

    def __init__(self, urls: Mapping[str, str], ledger: Path) -> None:
        """`urls` by the service's name."""
        self._urls = urls
        self._ledger = ledger

    async def run(self) -> None:
        with self._ledger.open("w") as file:
            async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
                while True:
                    looks = await asyncio.gather(*(self._look(client, *each) for each in self._urls.items()))
                    file.writelines(json.dumps(look) + "\n" for look in looks)
                    file.flush()
                    await asyncio.sleep(EVERY_SECONDS)

    async def _look(self, client: httpx.AsyncClient, service: str, url: str) -> dict[str, Any]:
        """`at` is when the question was asked. Statuses are null when no answer came."""
        look: dict[str, Any] = {"at": time.time(), "service": service, "live": None, "ready": None, "parts": {}}
        try:
            look["live"] = (await client.get(f"{url}/livez")).status_code
            ready = await client.get(f"{url}/readyz")
            look |= {"ready": ready.status_code, "parts": ready.json()["parts"]}
            metrics = (await client.get(f"{url}/metrics")).text
            look["started"] = _STARTED.findall(metrics)
            look["part_up"] = {part: float(value) for part, value in _PART_UP.findall(metrics)}
            look["page"] = metrics
        except httpx.HTTPError as error:
            look["error"] = type(error).__name__
        if "page" in look:
            (self._ledger.parent / f"metrics-{service}.txt").write_text(look.pop("page"))
        return look

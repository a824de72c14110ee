"""Postgres away: all four services say so, with which part and since when, alarm, live on, and are ready again without
a restart. Idle ones too, that do not happen to need it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from postrider.local.services import SERVICES
from tests.standins.postgres_proxy import PostgresProxy
from tests.support.eventually import eventually
from tests.support.service_processes import SOON_SECONDS, make_place

pytestmark = pytest.mark.integration


async def test_every_service_tells_an_outage_of_postgres_and_its_end(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> None:
    place = await make_place(kafka, await fresh_database(), topic_prefix, tmp_path)
    url, log = make_url(place.database), tmp_path / "log"

    async def all_ready() -> bool:
        try:
            answers = [await client.get(f"{place.url(service)}/readyz") for service in SERVICES]
        except httpx.TransportError:
            return False  # one is on its way up
        return all(answer.status_code == 200 for answer in answers)

    async def all_told() -> bool:
        for service in SERVICES:
            assert (await client.get(f"{place.url(service)}/livez")).status_code == 200
            ready = await client.get(f"{place.url(service)}/readyz")
            parts = ready.json()["parts"]
            if parts["postgres"]["status"] != "down":
                return False
            assert (ready.status_code, parts["kafka"]["status"]) == (503, "up")
            assert part_went < datetime.fromisoformat(parts["postgres"]["since"]) <= datetime.now(UTC)
            metrics = (await client.get(f"{place.url(service)}/metrics")).text
            assert re.search(r'^postrider_part_up\{part="postgres"\} 0\.0$', metrics, re.M)
        return True

    async with (
        PostgresProxy(str(url.host), int(url.port or 5432)) as wire,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
        async with place.through(through).all_running(log) as processes:
            await eventually(all_ready, SOON_SECONDS)
            part_went = datetime.now(UTC)
            await wire.refuse()
            await eventually(all_told, SOON_SECONDS)
            await wire.admit()
            await eventually(all_ready, SOON_SECONDS)
            async with wire.black_hole():
                part_went = datetime.now(UTC)
                await eventually(all_told, SOON_SECONDS)
            await eventually(all_ready, SOON_SECONDS)
            assert [process.returncode for process in processes] == [None] * len(SERVICES)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    told = {(event["service"], event["event"]) for event in events if event.get("part") == "postgres"}
    assert told == {(service.name, event) for service in SERVICES for event in ("part_down", "part_up")}

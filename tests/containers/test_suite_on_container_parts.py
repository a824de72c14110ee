"""`PARTS=containers`: the four services as processes, Kafka and Postgres as containers by testcontainers."""

from __future__ import annotations

import os
from pathlib import Path

import asyncpg
import pytest

from postrider.local.client import ApiClient
from postrider.local.containers import LABEL
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY
from postrider.local.suite import Suite
from tests.containers.campaign import play
from tests.containers.engine import docker
from tests.support.parts import quiet

pytestmark = pytest.mark.containers


async def test_a_campaign_on_kafka_and_postgres_in_containers(tmp_path: Path) -> None:
    given = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_") and name not in given}
    ours = f"label={LABEL}={tmp_path}"
    volumes = set(docker("volume", "ls", "-q").split())
    async with Suite(tmp_path, env | {"PARTS": "containers"}, quiet) as suite:
        assert suite.addresses is not None
        running = docker("ps", "--filter", ours, "--format", "{{.Image}} {{.Ports}}").splitlines()
        assert {line.split()[0] for line in running} == {"apache/kafka:4.3.1", "postgres:15"}
        assert "0.0.0.0" not in "".join(running)
        connection = await asyncpg.connect(suite.addresses.database_url)
        try:
            shown = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "max_connections", "jit")}
        finally:
            await connection.close()
        assert shown == {"fsync": "on", "max_connections": "200", "jit": "off"}
        async with ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY) as api:
            await play(api, people=20)
    assert docker("ps", "-aq", "--filter", ours) == ""
    assert set(docker("volume", "ls", "-q").split()) <= volumes

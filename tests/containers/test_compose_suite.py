"""deploy/compose.yaml on a real engine, looked at from outside: published ports, `docker inspect`, signals."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from typing import Any

import httpx
import msgspec
import pytest

from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.local.client import ApiClient
from postrider.local.home import workspace
from postrider.local.services import SERVICES
from tests.containers.campaign import bought, play
from tests.containers.engine import containers_of, docker, left_of, service_of
from tests.containers.suite import ComposeSuite
from tests.support.eventually import eventually

pytestmark = pytest.mark.containers

OURS = {service.name for service in SERVICES}
JOBS = {"topics", *(f"migrate-{name}" for name in OURS)}


def by_service(suite: ComposeSuite) -> dict[str, dict[str, Any]]:
    return {service_of(container): container for container in containers_of(suite.project)}


async def test_campaigns_go_end_to_end_through_the_published_ports(api: ApiClient) -> None:
    await play(api)


def test_every_container_is_healthy_and_can_change_nothing_of_its_own(suite: ComposeSuite) -> None:
    found = by_service(suite)
    assert set(found) == {*OURS, *JOBS, "kafka", "postgres"}
    for name, container in found.items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert not host["Privileged"], name
        bindings = [bound["HostIp"] for ports in (host["PortBindings"] or {}).values() for bound in ports]
        assert set(bindings) <= {"127.0.0.1"}, name
    assert {name for name, each in found.items() if each["HostConfig"]["CapAdd"]} == {"postgres"}
    assert {name for name, each in found.items() if each["Config"]["User"] == "10001:10001"} == OURS | JOBS
    assert {name: each["State"]["ExitCode"] for name, each in found.items() if name in JOBS} == dict.fromkeys(JOBS, 0)
    health = {name: each["State"]["Health"]["Status"] for name, each in found.items() if "Health" in each["State"]}
    assert health == dict.fromkeys(OURS | {"kafka", "postgres"}, "healthy")


def test_no_process_runs_as_root(suite: ComposeSuite) -> None:
    for name, container in by_service(suite).items():
        if name in JOBS:
            continue
        table = docker("top", container["Id"], "-eo", "pid,uid,comm").splitlines()[1:]
        users = {row.split()[1] for row in table}
        assert users and "0" not in users, (name, table)


def test_the_root_cannot_be_written_and_the_store_can(suite: ComposeSuite) -> None:
    attempt = "touch /opt/postrider/x 2>&1 || touch /etc/x 2>&1 || touch /tmp/x && id -u"
    for name, container in by_service(suite).items():
        if name in OURS:
            said = docker("exec", container["Id"], "sh", "-c", attempt).splitlines()
            assert [line.rpartition(": ")[2] for line in said] == ["Read-only file system"] * 2 + ["10001"], name
    engine = by_service(suite)["segment-engine"]
    assert {mount["Destination"] for mount in engine["Mounts"] if mount["Type"] == "volume"} == {"/var/lib/postrider"}


def test_a_service_sees_its_own_secrets_only(suite: ComposeSuite) -> None:
    seen = {
        name: {line.partition("=")[0] for line in container["Config"]["Env"]} & set(suite.secrets)
        for name, container in by_service(suite).items()
    }
    every = {"POSTRIDER_SERVICE_TOKEN", "POSTRIDER_PHONE_HASH_KEY"}
    assert seen["scheduler"] == seen["topics"] == every
    assert seen["dispatcher"] == every | {"POSTRIDER_SEALING_PRIVATE_KEY"}
    assert seen["segment-engine"] == every | {"POSTRIDER_DEDUP_KEY"}
    assert seen["campaign-api"] == every | {"POSTRIDER_SEALING_PUBLIC_KEY", "POSTRIDER_BOOTSTRAP_KEY"}


async def test_probes_and_metrics_answer_on_the_published_ports(suite: ComposeSuite) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for service in SERVICES:
            for path in ("/livez", "/readyz", "/metrics"):
                answer = await client.get(suite.url(service) + path)
                assert answer.status_code == 200, (service.name, path, answer.text)


async def test_another_service_publishes_at_the_published_broker(suite: ComposeSuite, api: ApiClient) -> None:
    tag = uuid.uuid4().hex[:8]
    publisher = Publisher(KafkaConfig(suite.kafka))
    await publisher.start()
    record = {"type": "track", "userId": tag, "messageId": tag, "event": f"Bought {tag}", "properties": {}}
    try:
        await publisher.publish([Outgoing(USER_EVENTS.full_name(), tag.encode(), msgspec.json.encode(record))])
    finally:
        await publisher.stop()

    async def counted() -> bool:
        answer = await api.post("/v1/segments/estimate", {"rule": bought(tag)})
        return bool(answer["qualified"] == 1)

    await eventually(counted, 30)


async def test_what_dies_is_started_again_and_goes_on(suite: ComposeSuite) -> None:
    before = by_service(suite)
    for name, container in before.items():
        if name in OURS or name == "kafka":
            docker("exec", container["Id"], "sh", "-c", "kill -KILL -1")
    # Its server is the first process, which no signal from inside can kill: an immediate stop, recovered like a crash.
    docker("exec", "-u", "postgres", before["postgres"]["Id"], "sh", "-c", "kill -QUIT 1")

    def all_came_back() -> bool:
        return not suite.unhealthy() and all(
            each["RestartCount"] > before[name]["RestartCount"] for name, each in by_service(suite).items()
            if name not in JOBS
        )  # fmt: skip

    await eventually(all_came_back, 120, every=1)
    async with ApiClient(suite.url(), suite.key) as api:
        await play(api, people=10)


async def test_everything_stops_in_order_and_comes_back_in_new_containers(suite: ComposeSuite) -> None:
    async with ApiClient(suite.url(), suite.key) as api:
        await play(api, people=10)
        campaigns = [campaign["id"] for campaign in await api.items("/v1/campaigns")]
        before = {id: await api.get(f"/v1/campaigns/{id}/report") for id in campaigns}
        people = await api.post("/v1/segments/estimate", {"rule": {"all": []}})
    old = {name: container["Id"] for name, container in by_service(suite).items()}
    suite.compose("stop", timeout=200)
    codes = {name: each["State"]["ExitCode"] for name, each in by_service(suite).items() if name not in JOBS}
    # The JVM ends by the signal that it was sent, after its own orderly stop.
    assert codes == dict.fromkeys(OURS | {"postgres"}, 0) | {"kafka": 143}
    suite.down(volumes=False)
    suite.up()
    assert not set(old.values()) & {container["Id"] for container in by_service(suite).values()}
    async with ApiClient(suite.url(), suite.key) as api:
        assert {id: await api.get(f"/v1/campaigns/{id}/report") for id in campaigns} == before
        assert await api.post("/v1/segments/estimate", {"rule": {"all": []}}) == people
        await play(api, people=10)


async def test_an_interrupted_smoke_run_leaves_nothing() -> None:
    project = "postrider-interrupted"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.containers", "--project", project, cwd=workspace(), stdout=asyncio.subprocess.PIPE
    )
    try:
        await eventually(lambda: process.returncode is not None or len(containers_of(project)) >= 2, 60)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(200):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == b"compose-smoke: interrupted; nothing is left"
    assert left_of(project) == []

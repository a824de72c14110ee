"""Every service with a wrong or missing setting: it ends by itself, soon, naming the variable and telling no secret."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping

import pytest
from sqlalchemy import make_url

from postrider.local.home import load_secrets
from postrider.local.services import SERVICES, Service
from tests.support.parts import create_database, drop_database, topic_prefix
from tests.support.service_processes import Ended, Place, make_place

pytestmark = pytest.mark.integration
NOBODY = "127.0.0.1:1"
WRONG = "wr0ng-passw0rd"
NO_POSTGRES = f"postgresql://postrider:{WRONG}@{NOBODY}/postrider"

ADDRESSES = {"KAFKA_BOOTSTRAP_SERVERS": NOBODY, "DATABASE_URL": NO_POSTGRES}
SECRETS = {"POSTRIDER_SERVICE_TOKEN": ""}
OWN_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "campaign-api": {"POSTRIDER_BOOTSTRAP_KEY": "", "POSTRIDER_SEALING_PUBLIC_KEY": "bm90IGEga2V5"},
    "segment-engine": {"POSTRIDER_EVENT_STORE_PATH": "", "POSTRIDER_DEDUP_KEY": "xyz"},
    "scheduler": {"POSTRIDER_PAGE_SIZE": "0"},
    "dispatcher": {"POSTRIDER_SEALING_PRIVATE_KEY": "", "POSTRIDER_PHONE_HASH_KEY": "00"},
}
"""All that is wrong is told at once, so that one start tries several."""
MALFORMED = {
    "KAFKA_BOOTSTRAP_SERVERS": "nonsense",
    "KAFKA_CA_FILE": "/no/such/file.pem",
    "DATABASE_URL": f"postgresql://postrider:{WRONG}@127.0.0.1:port/postrider",
    "POSTRIDER_SERVICE_TOKEN": "short",
    "POSTRIDER_DISPATCHER_URL": "dispatcher:8081",
}
UNSPECIFIC: Mapping[str, Mapping[str, str]] = {
    "KAFKA_SASL_MECHANISM": {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
    "KAFKA_BOOTSTRAP_SERVERS": {"KAFKA_BOOTSTRAP_SERVERS": "no-such-host.invalid:9092"},
    "POSTRIDER_BIND_HOST": {"POSTRIDER_BIND_HOST": "192.0.2.1"},
}
"""What is to be named, and the change. The same code in all services: tried with one."""


@pytest.fixture(scope="module")
async def place(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """One for all of them: a process that does not start leaves nothing behind."""
    url = await create_database(database)
    yield await make_place(kafka, url, topic_prefix(), tmp_path_factory.mktemp("place"))
    await drop_database(url)


def problems(ended: Ended) -> list[str]:
    """What the log says; a start that fails writes one line, an object."""
    (line,) = ended.out.splitlines()
    event = json.loads(line)
    assert event["event"] == "cannot_start"
    found: list[str] = event["problems"]
    return found


async def check(place: Place, service: Service, changes: Mapping[str, str], names: set[str], *more: str) -> None:
    ended = await place.run(service, changes, *more)
    told = problems(ended)
    assert ended.code == 1
    assert {name for name in names if any(problem.startswith(name) for problem in told)} == names, told
    assert len(told) == len(names), told
    secrets = [WRONG, str(make_url(place.database).password), *load_secrets(place.home).values()]
    assert [secret for secret in secrets if secret in ended.out + ended.err] == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_a_wrong_setting_ends_the_start_by_its_name(place: Place, service: Service) -> None:
    wrong = {**SECRETS, **OWN_SETTINGS[service.name]}
    password = make_url(place.database).set(password=WRONG).render_as_string(hide_password=False)
    elsewhere = {"POSTRIDER_TOPIC_PREFIX": "nobodys.", "DATABASE_URL": password}
    await asyncio.gather(
        check(place, service, ADDRESSES, set(ADDRESSES)),
        check(place, service, wrong, set(wrong)),
        check(place, service, elsewhere, set(elsewhere)),
    )


async def test_malformed_settings_are_told_all_at_once(place: Place) -> None:
    await check(place, SERVICES[0], MALFORMED, set(MALFORMED))


async def test_a_folder_that_cannot_be_used_is_named(place: Place) -> None:
    (engine,) = [service for service in SERVICES if service.name == "segment-engine"]
    await check(place, engine, {"POSTRIDER_EVENT_STORE_PATH": "/proc/nowhere"}, {"POSTRIDER_EVENT_STORE_PATH"})


@pytest.mark.parametrize("name", UNSPECIFIC)
async def test_what_can_be_wrong_with_any_service(place: Place, name: str) -> None:
    await check(place, SERVICES[1], UNSPECIFIC[name], {name})


async def test_a_port_in_use_is_named(place: Place) -> None:
    service = SERVICES[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        changes = {service.port_variable: str(taken.getsockname()[1])}
        ended = await place.run(service, changes)
    (problem,) = problems(ended)
    assert ended.code == 1 and service.port_variable in problem


async def test_a_migration_names_the_setting_too(place: Place) -> None:
    url = make_url(place.database).set(password=WRONG).render_as_string(hide_password=False)
    for wrong in (url, NO_POSTGRES):
        await check(place, SERVICES[0], {"DATABASE_URL": wrong}, {"DATABASE_URL"}, "migrate")

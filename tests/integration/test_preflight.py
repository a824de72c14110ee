"""A wrong address fails at start, by the setting's name, and tells no secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import make_url

from postrider.kafka.clients import KafkaConfig
from postrider.kafka.topics import create_topics
from postrider.postgres.migrate import migrate
from postrider.preflight import problems_of
from postrider.settings import ServiceSettings

pytestmark = pytest.mark.integration
SERVICE, PACKAGE = "scheduler", "scheduler"
NOBODY = "127.0.0.1:1"


@pytest.fixture
async def prefix(kafka: str, topic_prefix: str) -> str:
    """One that has topics."""
    await create_topics(KafkaConfig(kafka, topic_prefix + "."))
    return topic_prefix + "."


def settings(kafka: str, database: str, own: str | None = None, prefix: str = "postrider.") -> ServiceSettings:
    return ServiceSettings(
        kafka_bootstrap_servers=kafka, database_url=database, service_database_url=own,
        service_token="0123456789abcdef", topic_prefix=prefix,
    )  # type: ignore[call-arg]  # fmt: skip


async def test_addresses_that_lead_somewhere_are_fine(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], prefix: str
) -> None:
    url = await fresh_database()
    await migrate(url, SERVICE, PACKAGE)
    assert await problems_of(settings(kafka, url, prefix=prefix), SERVICE, PACKAGE) == []


async def test_a_prefix_without_topics_is_named(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str
) -> None:
    url = await fresh_database()
    await migrate(url, SERVICE, PACKAGE)
    (problem,) = await problems_of(settings(kafka, url, prefix=topic_prefix), SERVICE, PACKAGE)
    assert problem.startswith(f"POSTRIDER_TOPIC_PREFIX: {kafka} has no topic {topic_prefix}user-events.v1")
    assert "python -m postrider.kafka.topics" in problem


async def test_an_address_where_nobody_answers_is_named(fresh_database: Callable[[], Awaitable[str]]) -> None:
    url = make_url(await fresh_database()).set(host="127.0.0.1", port=1).render_as_string(hide_password=False)
    kafka, postgres = await problems_of(settings(NOBODY, url), SERVICE, PACKAGE)
    assert kafka.startswith(f"KAFKA_BOOTSTRAP_SERVERS: no broker answers at {NOBODY}")
    assert postgres.startswith("DATABASE_URL: no connection to 127.0.0.1:1/")
    assert (make_url(url).password or "-") not in postgres


async def test_a_database_that_is_not_migrated_says_how(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], prefix: str
) -> None:
    (problem,) = await problems_of(settings(kafka, await fresh_database(), prefix=prefix), SERVICE, PACKAGE)
    assert problem.startswith("DATABASE_URL: ")
    assert "python -m scheduler migrate" in problem


async def test_the_services_own_url_is_the_one_named_when_it_is_given(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], prefix: str
) -> None:
    url = await fresh_database()
    own = make_url(url).set(database="no_such_database").render_as_string(hide_password=False)
    (problem,) = await problems_of(settings(kafka, url, own, prefix), SERVICE, PACKAGE)
    assert problem.startswith("POSTRIDER_SERVICE_DATABASE_URL: there is no such database")

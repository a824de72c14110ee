"""Before a service starts: do the addresses in its settings lead anywhere? A wrong one is told by the setting's name.

Tells neither passwords nor users. Run once, before anything is built; later outages are waited for, not checked here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import asyncpg
from sqlalchemy import make_url

from postrider.contracts.topics import TOPICS
from postrider.kafka.clients import BrokerPing, is_kafka_outage
from postrider.postgres.database import schema_of, service_url
from postrider.settings import ServiceSettings

PATIENCE_SECONDS = 8.0
TOPICS_SECONDS = 4.0
LOOK_SECONDS = 0.25


async def problems_of(settings: ServiceSettings, service: str, package: str) -> list[str]:
    """One line for each setting that leads nowhere; empty when all is well. Bounded in time."""
    found = await asyncio.gather(_kafka_problem(settings), _postgres_problem(settings, service, package))
    return [problem for problem in (_port_problem(settings), *found) if problem is not None]


def _port_problem(settings: ServiceSettings) -> str | None:
    """Whether the service could listen. A later surprise ends it all the same, but not by the setting's name."""
    field = type(settings).model_fields.get("port")
    if field is None:
        return None
    try:
        info = socket.getaddrinfo(settings.bind_host, getattr(settings, "port"), type=socket.SOCK_STREAM)  # noqa: B009
        with socket.socket(*info[0][:3]) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(info[0][4])
            trial.listen()
    except OSError as error:
        port = getattr(settings, "port")  # noqa: B009
        return f"POSTRIDER_BIND_HOST, {field.alias}: cannot listen on {settings.bind_host}:{port} ({error.strerror})"
    return None


async def _kafka_problem(settings: ServiceSettings) -> str | None:
    where = f"no broker answers at {settings.kafka_bootstrap_servers}"
    if settings.kafka_security_protocol != "PLAINTEXT":
        where += f" over {settings.kafka_security_protocol}: wrong address, KAFKA_SASL_… or KAFKA_CA_FILE"
    ping = BrokerPing(settings.kafka_config("preflight"), PATIENCE_SECONDS)
    try:
        reason = await ping.ask()
        if reason is not None:
            return f"KAFKA_BOOTSTRAP_SERVERS: {where} ({reason})"
        missing = await _missing_topics(ping, [topic.full_name(settings.topic_prefix) for topic in TOPICS])
    except Exception as error:
        if not is_kafka_outage(error):
            raise
        return f"KAFKA_BOOTSTRAP_SERVERS: {where} ({type(error).__name__})"
    finally:
        await ping.close()
    if missing:
        return (
            f"POSTRIDER_TOPIC_PREFIX: {settings.kafka_bootstrap_servers} has no topic {missing[0]}: "
            "another prefix, or not created yet: python -m postrider.kafka.topics"
        )
    return None


async def _missing_topics(ping: BrokerPing, names: Sequence[str]) -> list[str]:
    """A broker may hear of topics a moment after they were created."""
    looks = int(TOPICS_SECONDS / LOOK_SECONDS)
    for _ in range(looks):
        missing = await ping.missing_topics(names)
        if not missing:
            break
        await asyncio.sleep(LOOK_SECONDS)
    return missing


async def _postgres_problem(settings: ServiceSettings, service: str, package: str) -> str | None:
    given = settings.service_database_url
    name = "POSTRIDER_SERVICE_DATABASE_URL" if given else "DATABASE_URL"
    migrate = f"python -m {package} migrate"
    connection = await _connect(
        name,
        given or service_url(settings.database_url, service),
        "the service's role",
        f", or not migrated: {migrate}",
    )
    if isinstance(connection, str):
        return connection
    try:
        table = await connection.fetchval("SELECT to_regclass($1)", f"{schema_of(service)}.consumer_progress")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return f"{name}: the connection broke ({type(error).__name__})"
    finally:
        connection.terminate()
    return None if table is not None else f"{name}: no schema for {service} in this database yet: {migrate}"


async def owner_problem(settings: ServiceSettings) -> str | None:
    """The same for the owner's URL, which migrations use."""
    connection = await _connect("DATABASE_URL", settings.database_url, "the owner", "")
    if isinstance(connection, str):
        return connection
    connection.terminate()
    return None


async def _connect(name: str, address: str, who: str, or_else: str) -> asyncpg.Connection[asyncpg.Record] | str:
    """A connection that answers within `PATIENCE_SECONDS`, or what is wrong with the setting."""
    url = make_url(address).set(drivername="postgresql")
    where = f"{url.host or 'a local socket'}:{url.port or 5432}/{url.database or ''}"
    try:
        return await asyncpg.connect(
            url.render_as_string(hide_password=False), timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        return f"{name}: {where} refuses {who} (wrong password{or_else})"
    except asyncpg.InvalidCatalogNameError:
        return f"{name}: there is no such database: {where}"
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        return f"{name}: no connection to {where} ({type(error).__name__})"

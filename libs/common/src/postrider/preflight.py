"""Before a service starts: do the addresses in its settings lead anywhere? A wrong one is told by the setting's name.

Tells neither passwords nor users. Run once, before anything is built; later outages are waited for, not checked here.
"""

from __future__ import annotations

import asyncio

import asyncpg
from sqlalchemy import make_url

from postrider.kafka.clients import no_answer
from postrider.postgres.database import schema_of, service_url
from postrider.settings import ServiceSettings

PATIENCE_SECONDS = 8.0


async def problems_of(settings: ServiceSettings, service: str, package: str) -> list[str]:
    """One line for each setting that leads nowhere; empty when all is well. Bounded in time."""
    found = await asyncio.gather(_kafka_problem(settings), _postgres_problem(settings, service, package))
    return [problem for problem in found if problem is not None]


async def _kafka_problem(settings: ServiceSettings) -> str | None:
    reason = await no_answer(settings.kafka_config("preflight"), PATIENCE_SECONDS)
    if reason is None:
        return None
    return f"KAFKA_BOOTSTRAP_SERVERS: no broker answers at {settings.kafka_bootstrap_servers} ({reason})"


async def _postgres_problem(settings: ServiceSettings, service: str, package: str) -> str | None:
    given = settings.service_database_url
    name = "POSTRIDER_SERVICE_DATABASE_URL" if given else "DATABASE_URL"
    url = make_url(given or service_url(settings.database_url, service)).set(drivername="postgresql")
    where = f"{url.host or 'a local socket'}:{url.port or 5432}/{url.database or ''}"
    migrate = f"wrong password, or not migrated yet: python -m {package} migrate"
    try:
        connection = await asyncpg.connect(url.render_as_string(hide_password=False), timeout=PATIENCE_SECONDS)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        return f"{name}: {where} refuses the service's role ({migrate})"
    except asyncpg.InvalidCatalogNameError:
        return f"{name}: there is no such database: {where}"
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        return f"{name}: no connection to {where} ({type(error).__name__})"
    try:
        table = await connection.fetchval("SELECT to_regclass($1)", f"{schema_of(service)}.consumer_progress")
    finally:
        await connection.close()
    if table is None:
        return f"{name}: {where} has no schema for {service} yet: python -m {package} migrate"
    return None

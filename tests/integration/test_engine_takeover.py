"""A replica that is taken for dead while it stands still: its successor goes on without it, and when it moves again it
neither fires nor commits what is not its own any more.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from postrider.contracts.definitions import Trigger, Unless, Who
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS
from segment_engine.loops import audience_intake, history, live, messages, suppressions
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.engine_process import engine_process
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, live_campaign, track

pytestmark = pytest.mark.integration

GROUPS = (live.GROUP, history.GROUP, audience_intake.GROUP, messages.GROUP, suppressions.GROUP)
PEOPLE = 40
WITHIN = 10


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "unused") as made:
        yield made


@asynccontextmanager
async def replica(made: Engine, store: ClickHouse) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process on the shared store; killed in the end. Without a port it has no name that its successor could take."""
    changes = {
        "POSTRIDER_SEGMENT_ENGINE_PORT": "0",
        "POSTRIDER_EVENT_STORE_PATH": "",
        "POSTRIDER_CLICKHOUSE_URL": store.url,
        "POSTRIDER_CLICKHOUSE_USER": USER,
        "POSTRIDER_CLICKHOUSE_PASSWORD": PASSWORD,
    }
    async with engine_process(made, changes) as engine_:
        await engine_.start()
        assert engine_.process is not None
        yield engine_.process


async def declare_dead(made: Engine) -> None:
    """What the broker does by itself once a session is over: everybody in the groups has left them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=made.config.bootstrap_servers)
    await admin.start()
    try:
        for group in (made.config.topic_prefix + name for name in GROUPS):
            coordinator = await admin.find_coordinator(group)
            for described in await admin.describe_consumer_groups([group]):
                for member in described.groups[0][5]:
                    await admin._client.send(coordinator, LeaveGroupRequest(group, member[0]))
    finally:
        await admin.close()


async def texts(made: Engine) -> Counter[str]:
    users = await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)
    return Counter(user.user_id for user in users)


async def count(owner: asyncpg.Connection, sql: str, wanted: int) -> bool:
    found = await owner.fetchval(sql)
    assert found == wanted, found
    return True


ARMED = "SELECT count(*) FROM segment_engine.waits WHERE due_at IS NOT NULL"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
OWNED = "SELECT min(epoch) FROM segment_engine.consumer_progress WHERE consumer_group = 'segment-engine-live'"
LEFT_OPEN = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND application_name = 'postrider-segment_engine'
"""


async def test_who_was_taken_for_dead_neither_fires_nor_commits(made: Engine, tmp_path: Path) -> None:
    who = Who(trigger=Trigger("Cart", unless=Unless("Bought"), within_seconds=WITHIN))
    await made.define(live_campaign("Cart", campaign_id="cmp_in", kind="live_inaction", who=who))
    owner = await asyncpg.connect(made.settings.database_url)
    async with ClickHouse(tmp_path / "store").serving() as store:
        async with replica(made, store) as first:
            await made.send(*(track(f"u-{n}", f"m-{n}", "Cart") for n in range(PEOPLE)))
            await eventually(lambda: count(owner, ARMED, PEOPLE), 60)
            epoch = await owner.fetchval(OWNED)
            # It stands still in the middle of a transaction: offset advanced, the person's row awaited.
            other = await asyncpg.connect(made.settings.database_url)
            held = other.transaction()
            await held.start()
            await other.execute("SELECT FROM segment_engine.waits WHERE user_id = 'u-0' FOR UPDATE")
            await made.send(track("u-0", "b-0", "Bought"), track("u-1", "b-1", "Bought"))
            await eventually(lambda: count(owner, WAITING, 1), 5)
            first.send_signal(signal.SIGSTOP)
            await held.rollback()
            await other.close()
            await declare_dead(made)
            async with replica(made, store) as second:
                # Postgres ends such a session by itself, later than a test wants to wait (`SHOW` below).
                await eventually(lambda: count(owner, LEFT_OPEN, 1), 10)
                expected = Counter(f"u-{n}" for n in range(2, PEOPLE))

                async def fired() -> bool:
                    assert await texts(made) == expected
                    return True

                await eventually(fired, 60)
                assert await owner.fetchval(OWNED) > epoch
                first.send_signal(signal.SIGCONT)
                late = [track(f"v-{n}", f"n-{n}", "Cart") for n in range(PEOPLE)]
                await made.send(*late, track("v-0", "c-0", "Bought"))
                expected.update(f"v-{n}" for n in range(1, PEOPLE))
                await eventually(fired, 60)
                await eventually(lambda: count(owner, ARMED, 0), 10)
                await asyncio.sleep(1)
                assert await texts(made) == expected
                assert first.returncode is None and second.returncode is None
    await owner.close()


async def test_a_transaction_that_nobody_goes_on_with_is_ended_by_postgres(made: Engine) -> None:
    """Or a machine that is gone would hold its rows, and the partitions of its successor, for hours."""
    async with made.database.begin() as tx:
        connection = await tx.get_raw_connection()
        driver = connection.driver_connection
        assert driver is not None
        assert await driver.fetchval("SHOW idle_in_transaction_session_timeout") == "150s"

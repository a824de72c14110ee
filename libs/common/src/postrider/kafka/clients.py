"""One factory for every Kafka client, so that no setting that matters is left to a default."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest

from postrider.kafka import tolerant_records
from postrider.logs import failure, log

STOP_SECONDS = 5.0
CLOSE_SECONDS = 1.0
MAX_REQUEST_BYTES = 4 * 1024 * 1024
_M: Final = 0x5BD1E995
_32_BITS: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class KafkaConfig:
    """Where the brokers are and how to speak to them."""

    bootstrap_servers: str
    topic_prefix: str = "postrider."
    client_id: str = "postrider"
    instance_id: str | None = None
    """Static membership: a process that was killed and comes back as the same member has its partitions at once,
    instead of after the session's length. Unique among the replicas of a service."""
    session_seconds: float = 45.0
    """How long a process may say nothing before its partitions are given to others; three heartbeats fit into it."""
    dead_letters_per_minute: int = 1_000
    """More in a minute, and more than half of what was read, stop a consumer; 0: no limit."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def _common(self) -> dict[str, Any]:
        common: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": 15_000,
            "metadata_max_age_ms": 30_000,
        }
        if self.security_protocol.endswith("SSL"):
            common["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.sasl_mechanism:
            common |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return common


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka closes connections last in a stop: one that fails or is cut short would leave them open, and tasks that
    use them, for as long as the process lives."""

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            tasks = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
            for owner, name in [*((self._coordinator, task) for task in tasks), (self._fetcher, "_fetch_task")]:
                _cancel(getattr(owner, name, None))
            await self._client.close()


class _Producer(AIOKafkaProducer):  # type: ignore[misc]
    """Likewise."""

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            _cancel(self._sender.sender_task)
            await self.client.close()


def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()


def make_consumer(config: KafkaConfig, group: str | None, max_poll_records: int = 500) -> AIOKafkaConsumer:
    """Offsets are ours: no auto commit, no automatic reset. `group` None: for `assign`.

    Kafka knows a group by prefix and name: installations that share a cluster do not share groups.
    """
    tolerant_records.install()
    return _Consumer(
        **config._common(),
        group_id=None if group is None else config.topic_prefix + group,
        group_instance_id=None if group is None else config.instance_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_uncommitted",
        session_timeout_ms=int(config.session_seconds * 1_000),
        heartbeat_interval_ms=min(3_000, int(config.session_seconds * 1_000 / 4)),
        max_poll_interval_ms=600_000,
        max_poll_records=max_poll_records,
        fetch_max_wait_ms=500,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        check_crcs=True,
    )


def make_producer(config: KafkaConfig) -> AIOKafkaProducer:
    return _Producer(
        **config._common(),
        acks="all",
        enable_idempotence=True,
        max_batch_size=512 * 1024,
        max_request_size=MAX_REQUEST_BYTES,
        linger_ms=0,
    )


def make_admin(config: KafkaConfig) -> AIOKafkaAdminClient:
    return AIOKafkaAdminClient(**config._common())


async def no_answer(config: KafkaConfig, patience_seconds: float) -> str | None:
    """Why no broker answers; None when one does."""
    ping = BrokerPing(config, patience_seconds)
    try:
        return await ping.ask()
    finally:
        await ping.close()


class BrokerPing:
    """Asks a broker for nothing but an answer, on a connection of its own."""

    def __init__(self, config: KafkaConfig, patience_seconds: float) -> None:
        self._config = config
        self._patience = patience_seconds
        self._admin: AIOKafkaAdminClient | None = None

    async def ask(self) -> str | None:
        """Why no broker answers; None when one does."""
        try:
            if self._admin is None:
                self._admin = make_admin(self._config)
                await start_client(self._admin.start(), self._patience)
            async with asyncio.timeout(self._patience):
                await self._admin._send_request(ApiVersionRequest())
        except (KafkaError, OSError, TimeoutError, ValueError) as error:
            # A new one asks the bootstrap servers again, on a new connection: the old one may be cut and not know it.
            await self.close()
            return type(error).__name__
        return None

    async def missing_topics(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are no topics. Ask first."""
        assert self._admin is not None
        async with asyncio.timeout(self._patience):
            there = set(await self._admin.list_topics())
        return [name for name in names if name not in there]

    async def close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await stop_quietly(admin.close(), "admin")


@lru_cache(maxsize=16_384)
def partition_for(key: bytes, partitions: int) -> int:
    """Kafka's own default partitioner (murmur2 of the key), as Java and aiokafka have it. What is told of a person and
    what is sent to them have one key: it is worked out once."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """As aiokafka has it, which goes byte by byte."""
    size = len(data)
    whole = size // 4
    found = 0x9747B28C ^ size
    for word in struct.unpack_from(f"<{whole}I", data):
        word = word * _M & _32_BITS
        word = (word ^ word >> 24) * _M & _32_BITS
        found = (found * _M & _32_BITS) ^ word
    rest = data[whole * 4 :]
    if rest:
        found = ((found ^ int.from_bytes(rest, "little")) * _M) & _32_BITS
    found = (found ^ found >> 13) * _M & _32_BITS
    return found ^ found >> 15


def is_kafka_outage(error: BaseException) -> bool:
    return isinstance(error, KafkaError | OSError | TimeoutError)


async def start_client(starting: Awaitable[None], patience_seconds: float, stop: asyncio.Event | None = None) -> bool:
    """Raises TimeoutError when it takes longer. Stop the client afterwards in any case.

    False: `stop` was set meanwhile, and the start is given up: a group with a member that died hands out its partitions
    only when that one is given up, too. aiokafka loses its first connection, open, when it is cancelled while it asks
    that one for metadata: whoever gives up waits for the end of the start, a moment at most.
    """
    task = asyncio.ensure_future(starting)
    stopping = None if stop is None else asyncio.ensure_future(stop.wait())
    try:
        waited = {task} if stopping is None else {task, stopping}
        await asyncio.wait(waited, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
        given_up = stopping is not None and stopping.done()
        if given_up:
            await asyncio.wait({task}, timeout=CLOSE_SECONDS)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=STOP_SECONDS)
        raise
    finally:
        is_over = task.done()
        for each in (task, stopping):
            if each is not None:
                each.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not is_over:
        if given_up:
            return False
        raise TimeoutError
    task.result()
    return True


async def stop_quietly(stopping: Awaitable[None], what: str) -> None:
    """aiokafka's stop() can hang, can raise for what is already lost, and can end cancelled because a task of its own
    was: bounded, logged, and over."""
    task = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait({task}, timeout=STOP_SECONDS)
    finally:
        late = not task.done()
        task.cancel()
        await asyncio.wait({task}, timeout=CLOSE_SECONDS)  # it closes its connections
    if late or not task.done() or task.cancelled():
        log.warning("kafka_stop_failed", client=what, error="late" if late else "cancelled")
        return
    error = task.exception()
    if error is None:
        return
    if not isinstance(error, KafkaError | OSError | TimeoutError):
        raise error
    log.warning("kafka_stop_failed", client=what, **failure(error))

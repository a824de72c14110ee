"""The event store on a ClickHouse server or cluster, over its HTTP interface: any number of segment-engines.

Statements are those of the embedded store. Parameters travel in the body as form fields, so that no length of a URL
limits a rule, and are read by ClickHouse alone. Only what may be repeated is sent again here: reads, and inserts with a
token; whoever calls repeats the rest. Must not contain SQL of its own.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from postrider.health import Check
from segment_engine.event_store.cluster import CLUSTER_SETTINGS, as_on, cluster_migrations
from segment_engine.event_store.port import EvaluationTooLarge, StoreFailed, StoreUnavailable
from segment_engine.event_store.schema import MIGRATIONS, Migrations
from segment_engine.event_store.sql_store import SqlEventStore
from segment_engine.event_store.statements import SESSION_SETTINGS, is_too_large

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0
CONNECTIONS = 16
RETRY_SECONDS = (0.2, 1.0, 3.0)
_OVER_HTTP: Mapping[str, object] = {
    "wait_end_of_query": 1,
    "default_format": "JSONCompactEachRow",
    # The server gives up before this side does: what is sent again does not meet itself.
    "max_execution_time": int(ANSWER_SECONDS) - 20,
    "cancel_http_readonly_queries_on_client_close": 1,
}
"""An answer is 200 only when the statement is over; without the first, an error could come in the middle of it."""
_ERROR = re.compile(r"Code: (\d+)\..*\(([A-Z][A-Z0-9_]+)\)\.?(?: \(version [^()]*(?:\([^()]*\))?\))?\s*$", re.DOTALL)
"""The name stands last, behind texts that may quote anything in parentheses."""
_UNAVAILABLE = frozenset({
    "TOO_MANY_PARTS", "NOT_ENOUGH_SPACE", "TABLE_IS_READ_ONLY", "KEEPER_EXCEPTION", "NO_ZOOKEEPER", "NETWORK_ERROR",
    "SOCKET_TIMEOUT", "ALL_CONNECTION_TRIES_FAILED", "ALL_REPLICAS_ARE_STALE", "TOO_FEW_LIVE_REPLICAS",
    "UNKNOWN_STATUS_OF_INSERT",
    "TOO_MANY_SIMULTANEOUS_QUERIES", "MEMORY_LIMIT_EXCEEDED", "TIMEOUT_EXCEEDED", "SERVER_OVERLOADED",
    "CANNOT_SCHEDULE_TASK", "ABORTED", "UNFINISHED", "DNS_ERROR",
})  # fmt: skip
"""Names of errors that say nothing about the statement: the server is busy, cut off, or one of its replicas is."""
_COLLISIONS = frozenset({"UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", "REPLICA_IS_NOT_IN_QUORUM"})
"""An insert of another engine is on its way to the replicas: a matter of milliseconds, and no sign of trouble."""
COLLISION_SECONDS = 15.0
_BUSY = frozenset({429, 500, 502, 503, 504})
"""Of an answer that names no error of ClickHouse's: something in between gave it."""
_TOKEN = "insert_deduplication_token"
_decode = msgspec.json.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class Server:
    """`url`: http(s)://host:port, of a server or of what balances several. `cluster`: its name in ClickHouse's own
    configuration, None for a single server. `ca_file`: of the authority that signs, default the system's."""

    url: str
    user: str = "default"
    password: str = field(default="", repr=False)
    database: str = "default"
    cluster: str | None = None
    ca_file: str | None = None


class _Collided(StoreUnavailable):
    """Nothing was done, and will be when the other insert is through."""


class ClickHouseStore(SqlEventStore):
    """`port.EventStore` on a server; nobody owns it."""

    def __init__(self, server: Server, check: Check | None = None) -> None:
        super().__init__(HttpRunner(server, check), migrations_of(server))


def migrations_of(server: Server) -> Migrations:
    return MIGRATIONS if server.cluster is None else cluster_migrations(server.cluster, server.database)


class HttpRunner:
    """`sql_store.Runner` over HTTP. `check` is down from a statement that found the server unavailable until one that
    succeeds. `retry_seconds`: the pauses before what may be repeated is sent again."""

    def __init__(
        self, server: Server, check: Check | None = None, *, retry_seconds: tuple[float, ...] = RETRY_SECONDS
    ) -> None:
        self._server = server
        self._check = check
        self._retry_seconds = retry_seconds
        self._client: httpx.AsyncClient | None = None
        settings = {**SESSION_SETTINGS, **_OVER_HTTP, **(CLUSTER_SETTINGS if server.cluster else {})}
        self._settings = {"database": server.database, **{name: str(value) for name, value in settings.items()}}

    async def open(self) -> None:
        verify: ssl.SSLContext | bool = False
        if self._server.url.startswith("https"):
            try:
                verify = ssl.create_default_context(cafile=self._server.ca_file)
            except OSError as error:
                raise StoreFailed(f"the authorities' file {self._server.ca_file}: {error.strerror or error}") from error
        self._client = httpx.AsyncClient(
            base_url=self._server.url,
            headers={
                b"X-ClickHouse-User": self._server.user.encode(),
                b"X-ClickHouse-Key": self._server.password.encode(),
            },
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS),
            verify=verify,
            trust_env=False,
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def execute(self, sql: str, params: Mapping[str, str] | None = None) -> None:
        await self._send(self._here(sql), params, None, repeatable=_TOKEN in sql)

    async def insert(self, sql: str, lines: bytes) -> None:
        await self._send(sql, None, lines, repeatable=_TOKEN in sql)

    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]:
        data = await self._send(sql, params, None, repeatable=True)
        return [_decode(line) for line in data.splitlines()]

    def _here(self, sql: str) -> str:
        return sql if self._server.cluster is None else as_on(sql, self._server.cluster, self._server.database)

    async def _send(
        self, sql: str, params: Mapping[str, str] | None, lines: bytes | None, *, repeatable: bool
    ) -> bytes:
        pauses = list(self._retry_seconds) if repeatable else []
        patience = time.monotonic() + COLLISION_SECONDS
        while True:
            try:
                data = await self._ask(sql, params, lines)
            except StoreUnavailable as error:
                if isinstance(error, _Collided) and time.monotonic() < patience:
                    await asyncio.sleep(random.uniform(0.005, 0.05))
                    continue
                if self._check is not None:
                    self._check.down(str(error))
                if not pauses:
                    raise
                await asyncio.sleep(pauses.pop(0))
                continue
            if self._check is not None:
                self._check.up()
            return data

    async def _ask(self, sql: str, params: Mapping[str, str] | None, lines: bytes | None) -> bytes:
        if self._client is None:
            raise StoreFailed("the event store is not open")
        try:
            if lines is not None:
                answer = await self._client.post("/", params={**self._settings, "query": sql}, content=lines)
            else:
                fields = {"query": sql, **{f"param_{name}": text for name, text in (params or {}).items()}}
                form = {name: (None, text.encode()) for name, text in fields.items()}
                answer = await self._client.post("/", params=self._settings, files=form)
        except (httpx.HTTPError, OSError) as error:
            untrusted = _untrusted(error)
            if untrusted is not None:
                raise StoreFailed(f"the server's certificate is not trusted: {untrusted.verify_message}") from None
            raise StoreUnavailable(f"no answer: {type(error).__name__}") from None
        if answer.status_code == httpx.codes.OK:
            return answer.content
        raise _failed(answer, sql)


def _untrusted(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The certificate's fault among the causes, if it was that."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def error_of(text: str) -> tuple[str, str] | None:
    """Name and code of the error that ClickHouse tells, None for what somebody else answers."""
    match = _ERROR.search(text)
    return None if match is None else (match[2], match[1])


def _failed(answer: httpx.Response, sql: str) -> StoreFailed:
    """The server's text may quote values: only its code and name go on."""
    found = error_of(answer.text)
    if found is None:
        reason = f"statement failed: HTTP {answer.status_code}"
        return StoreUnavailable(reason) if answer.status_code in _BUSY else StoreFailed(reason)
    name, code = found
    reason = f"statement failed: {name} ({code})"
    if is_too_large(sql, name, answer.text):
        return EvaluationTooLarge(reason)
    if name in _COLLISIONS:
        return _Collided(reason)
    return StoreUnavailable(reason) if name in _UNAVAILABLE else StoreFailed(reason)

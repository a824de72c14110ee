"""A ClickHouse server's HTTP interface in front of chDB: what the adapter sends is run, by the engine itself.

No real server: one node, no users but one. Knows which settings exist, as a server does. Of a cluster it plays the only
node, with as much as one engine can tell: a replicated table is a plain one that refuses what replicas refuse, a
Distributed one reads its local table and can neither be altered nor deleted from.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from chdb import ChdbError
from chdb.session import Session

USER, PASSWORD = "postrider", "secret-of-the-stand-in"
NO_SETTINGS = frozenset({"database", "query", "default_format", "wait_end_of_query"})
"""Fields of a request that are not settings of the session."""
MAX_BODY_BYTES = 256 * 1024 * 1024
_CODE = re.compile(r"Code: (\d+)")

Fault = Literal["busy", "collision", "cut before", "cut after"]
"""503 from something in between · another insert waits for its quorum · the connection ends before the statement ran ·
or after it ran, without an answer."""

_ON_CLUSTER = re.compile(
    r"^(CREATE TABLE IF NOT EXISTS|ALTER TABLE|DELETE FROM|TRUNCATE TABLE) (\w+) ON CLUSTER 'main'"
)
_REPLICATED = re.compile(r"ENGINE = Replicated(\w*MergeTree)\('/[^']*', '[^']*'(?:, )?")
_WINDOW = re.compile(r"\breplicated_deduplication_window = (\d+), replicated_deduplication_window_seconds = \d+")
_DISTRIBUTED = re.compile(r"ENGINE = Distributed\('main', '(\w+)', '(\w+)', sipHash64\(user_id\)\)$")
_INSERT = re.compile(r"^INSERT INTO (\w+)")
_MUTATION = re.compile(r"^(?:ALTER TABLE \w+ (?:UPDATE|DELETE)|DELETE FROM)\b.*\bSELECT\b", re.DOTALL)
_NO_SUBQUERY = "Code: 36. DB::Exception: statement with subquery may be nondeterministic. (BAD_ARGUMENTS)"
_COLLISION = (
    "Code: 286. DB::Exception: Quorum for previous write. (UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE) (version 26.9)"
)


@dataclass
class ClickHouse:
    """`port` on loopback. `faults`: what befalls the next statements that contain the text, in this order."""

    folder: Path
    port: int = 0
    is_cluster: bool = False
    tls: ssl.SSLContext | None = None
    statements: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _session: Any = None
    _known: frozenset[str] = frozenset()
    _applied: set[tuple[str, str]] = field(default_factory=set)
    _distributed: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if (request.headers.get("X-ClickHouse-User"), request.headers.get("X-ClickHouse-Key")) != (USER, PASSWORD):
            return _error(f"Code: 516. DB::Exception: {USER}: Authentication failed. (AUTHENTICATION_FAILED)", 403)
        fields = dict(request.query)
        data = b""
        if request.content_type == "multipart/form-data":
            reader = await request.multipart()
            async for part in reader:
                fields[part.name or ""] = (await part.read()).decode()  # type: ignore[union-attr]
        else:
            data = await request.read()
        sql = fields["query"] + data.decode()
        params = {name.removeprefix("param_"): text for name, text in fields.items() if name.startswith("param_")}
        settings = {name: text for name, text in request.query.items() if name not in NO_SETTINGS}
        fault = self._fault(sql)
        if fault == "busy":
            return web.Response(status=503, text="upstream is away")
        if fault == "collision":
            return _error(_COLLISION, 500)
        if fault == "cut before":
            return _cut(request)
        self.statements.append(sql)
        self.settings = settings
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._thread, self._run, sql, params, settings)
        except (ChdbError, RuntimeError) as error:
            return _error(str(error), 500)
        return _cut(request) if fault == "cut after" else web.Response(body=answer)

    def _fault(self, sql: str) -> Fault | None:
        for index, (text, fault) in enumerate(self.faults):
            if text in sql:
                del self.faults[index]
                return fault
        return None

    def _run(self, sql: str, params: Mapping[str, str], settings: Mapping[str, str]) -> bytes:
        unknown = settings.keys() - self._known
        if unknown:
            raise ChdbError(f"Code: 115. DB::Exception: Unknown setting {min(unknown)}. (UNKNOWN_SETTING)")
        for name, value in settings.items() - self._applied:
            self._session.query(f"SET {name} = {value if value.replace('-', '').isdigit() else repr(value)}")
        self._applied = set(settings.items())
        if self.is_cluster:
            sql = self._on_the_only_node(sql)
        return bytes(self._session.query(sql, "JSONCompactEachRow", params=dict(params)).bytes())

    def _on_the_only_node(self, sql: str) -> str:
        """What a cluster of one node would do, in the words of an engine that has no Keeper."""
        if _MUTATION.match(sql):
            raise ChdbError(_NO_SUBQUERY)
        insert = _INSERT.match(sql)
        if insert is not None and insert[1] in self._distributed:
            return f"INSERT INTO {self._distributed[insert[1]]}{sql[insert.end() :]}"
        sql = _ON_CLUSTER.sub(r"\1 \2", sql)
        distributed = _DISTRIBUTED.search(sql)
        if distributed is not None:
            self._distributed[sql.split()[5]] = distributed[2]
            return f"{sql[: distributed.start()]}ENGINE = Merge('{distributed[1]}', '^{distributed[2]}$')"
        return _WINDOW.sub(r"non_replicated_deduplication_window = \1", _REPLICATED.sub(r"ENGINE = \1(", sql))

    def start_engine(self) -> None:
        session: Any = Session(str(self.folder))  # type: ignore[no-untyped-call]
        self._session = session
        names = bytes(session.query("SELECT name FROM system.settings", "TSV").bytes()).decode()
        self._known = frozenset(names.split())

    def stop_engine(self) -> None:
        self._session.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ClickHouse]:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self.start_engine)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        try:
            yield self
        finally:
            await runner.cleanup()
            await loop.run_in_executor(self._thread, self.stop_engine)
            self._thread.shutdown()


def _error(text: str, status: int) -> web.Response:
    code = _CODE.search(text)
    return web.Response(status=status, text=text, headers={"X-ClickHouse-Exception-Code": code[1] if code else "1002"})


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()

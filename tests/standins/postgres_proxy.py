"""A wire to Postgres that can be cut, at the worst moment too: after the server has committed and before its answer.

Speaks just enough of the protocol (version 3, no TLS) to see where a transaction ends. What is cut is aborted on both
sides. Lives in the event loop of whoever makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

_SSL_REQUEST = 80877103
_READY = b"Z\x00\x00\x00\x05"
"""ReadyForQuery, but for its last byte, the state: what was to be done is."""
CHUNK = 65_536


class _Cut(Exception):
    """The connection ends here."""


class PostgresProxy:
    """`async with PostgresProxy(host, port) as proxy:` listens on `proxy.port` of the loopback.

    `cut_share`: of the ends of transactions, how many are cut; half of them after the commit, half before it.
    """

    def __init__(self, host: str, port: int, seed: int = 1) -> None:
        self._target = (host, port)
        self._chance = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._lost = asyncio.Event()
        """Of the connections made since the last black hole: set when they fall into the next."""
        self._connections: set[asyncio.Task[None]] = set()
        self.cut_share = 0.0
        self.cuts = {"before": 0, "after": 0}
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.admit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def refuse(self) -> None:
        """Cuts every connection; nobody listens any more, until `admit`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def admit(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    @contextlib.asynccontextmanager
    async def black_hole(self) -> AsyncIterator[None]:
        """Connections stay, new ones are made, and nothing comes through; those of that time are dead for ever."""
        self._lost.set()
        try:
            yield
        finally:
            self._lost = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream: asyncio.StreamWriter | None = None
        lost = self._lost
        try:
            await _unless(lost)
            answers, upstream = await asyncio.open_connection(*self._target)
            await _greet(reader, writer, upstream)
            cutting = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, upstream, cutting, lost))
                group.create_task(_down(answers, writer, cutting, lost))
        except* (_Cut, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side is gone, or was cut: so goes the other
        finally:
            self._connections.discard(task)
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, cutting: asyncio.Event, lost: asyncio.Event
    ) -> None:
        while True:
            head = await reader.readexactly(5)
            rest = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            await _unless(lost)
            is_end = head[:1] == b"S" or (head[:1] == b"Q" and rest.startswith(b"COMMIT"))
            if is_end and self._chance.random() < self.cut_share:
                if self._chance.random() < 0.5:
                    self.cuts["before"] += 1
                    raise _Cut
                self.cuts["after"] += 1
                cutting.set()
            upstream.write(head + rest)
            await upstream.drain()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!II", head)
        rest = await reader.readexactly(length - 8)
        if code != _SSL_REQUEST:
            upstream.write(head + rest)
            return
        writer.write(b"N")


async def _down(
    answers: asyncio.StreamReader, writer: asyncio.StreamWriter, cutting: asyncio.Event, lost: asyncio.Event
) -> None:
    while chunk := await answers.read(CHUNK):
        await _unless(lost)
        if cutting.is_set():
            if chunk[-6:-1] == _READY:
                raise _Cut
            continue
        writer.write(chunk)
        await writer.drain()
    raise _Cut


async def _unless(lost: asyncio.Event) -> None:
    """Whatever meets a black hole stays in it."""
    if lost.is_set():
        await asyncio.Event().wait()

"""A wire to a provider that can hang: what is sent meanwhile is taken and gets nowhere, new connections are accepted,
and nothing is answered. When it goes on, connections of that time are cut, and what was sent on them is lost for good.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

CHUNK = 1 << 16


@dataclass
class HangingProxy:
    """To `port` on loopback. `lost`: connections that were cut."""

    port: int
    lost: int = 0
    _goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    _pumps: set[asyncio.Task[None]] = field(default_factory=set)

    def hang(self) -> None:
        self._goes_on.clear()

    def go_on(self) -> None:
        self._goes_on.set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Its port."""
        self.go_on()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, backlog=1024)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            self.go_on()
            server.close()
            for pump in list(self._pumps):
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
        pumps = [
            asyncio.create_task(self._pump(reader, there_writer)),
            asyncio.create_task(self._pump(there_reader, writer)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
                self._pumps.discard(pump)
            for each in (writer, there_writer):
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until an end, or until something came while it hung."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if not self._goes_on.is_set():
                    await self._goes_on.wait()
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()

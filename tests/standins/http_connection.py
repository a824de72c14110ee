"""HTTP/1.1 on a socket with httptools: parsing and framing for stand-ins that must be fast, nothing about texts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools


@dataclass(slots=True)
class Request:
    method: str = ""
    url: bytes = b""
    authorization: bytes = b""
    body: bytes = b""
    began: float = 0.0
    """When its first byte was read."""


Reply = Callable[[int, bytes, bytes], None]
"""(status, JSON body, further header lines)"""

Handle = Callable[[Request, Reply, Callable[[], None]], None]
"""(request, reply, drop): answers through `reply`, now or later; `drop` closes the connection without a word."""


class Connection(asyncio.Protocol):
    """HTTP/1.1 on one socket: parsing and framing, nothing about texts. One request at a time is answered in order."""

    def __init__(self, handle: Handle, open_connections: set[Connection]) -> None:
        self._handle = handle
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._request = Request(began=time.time())
        self._chunks = []

    def on_url(self, url: bytes) -> None:
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._request.authorization = value

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()
        self._request.body = b"".join(self._chunks)
        try:
            self._handle(self._request, self._reply, self.transport.abort)
        except (ValueError, KeyError):
            self._reply(400, b'{"code": 20001, "message": "Invalid request", "status": 400}', b"")

    def _reply(self, status: int, body: bytes, headers: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
                % (status, headers, len(body), body)
            )

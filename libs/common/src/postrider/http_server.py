"""uvicorn's HTTP protocol with bounds it lacks: on the time and bytes that the head of a request may take, on trailers.

Without them anybody who can connect may hold connections open for ever, and fill the memory with headers.
"""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_SECONDS = 30.0
HEAD_BYTES = 64 * 1024

_DETAILS = {
    400: "this is not HTTP, or no URL",
    408: "the head of the request did not come in time",
    431: f"the head of the request is larger than {HEAD_BYTES} bytes",
}


class BoundedProtocol(HttpToolsProtocol):
    """Give it to `uvicorn.Config(http=…)`."""

    head_seconds = HEAD_SECONDS
    _unclaimed = 0
    """Bytes of the present head, or trailer: those that are no part of a body."""
    _told = 0
    _waiting: asyncio.TimerHandle | None = None
    _refusal = 400

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()
        self._unclaimed += len(data)
        super().data_received(data)
        if self._unclaimed > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        self._told = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also of trailers. An exception in a callback of the parser ends in `send_400_response`."""
        self._told += len(name) + len(value)
        if self._told > HEAD_BYTES:
            self._refusal = 431
            raise ValueError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_here()
        self._unclaimed = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unclaimed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unclaimed = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def _refuse(self, status: int) -> None:
        title = STATUS_LINE[status].split(b" ", 2)[2].strip().decode()
        document = {"type": "about:blank", "title": title, "status": status, "detail": _DETAILS[status], "errors": []}
        body = json.dumps(document).encode()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(self.head_seconds, self._too_slow)

    def _head_is_here(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self._refuse(408)

"""One HTTP/1.1 connection for one call at a time, on asyncio's transports and httptools (the parser of Node.js).

A call begins with `exchange`, which writes the whole request in one go: before it not one byte of the call is out,
after it everything that goes wrong is a doubt. Sends nothing again. What a server says unasked ends the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from dispatcher.http_port import HttpResponse, InDoubt

MAX_HEAD_BYTES = 65_536
RAW_PER_BODY_BYTE = 2
"""A reply in chunks is longer on the wire than its body; one that is so much longer is no reply."""


class Connection(asyncio.Protocol):
    """`on_lost` is called once, when nothing can be sent on it any more."""

    def __init__(self, max_reply_bytes: int, on_lost: Callable[[Connection], None]) -> None:
        self._max_body = max_reply_bytes
        self._max_raw = max_reply_bytes * RAW_PER_BODY_BYTE + MAX_HEAD_BYTES
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[HttpResponse] | None = None
        self._deadline = 0.0
        self._ended: HttpResponse | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()
        self._start_reply()

    @property
    def is_usable(self) -> bool:
        """Whether a call may begin."""
        return self._transport is not None and not self._transport.is_closing() and self._reply is None

    async def exchange(self, request: bytes, deadline: float) -> HttpResponse:
        """Writes the request before it awaits anything. `deadline` is the loop's time, which whoever has the connection
        watches (`is_in_time`). Raises InDoubt; cancelled, it leaves the call in doubt."""
        assert self.is_usable and self._transport is not None
        reply: asyncio.Future[HttpResponse] = self._loop.create_future()
        self._reply = reply
        self._start_reply()
        self._deadline = deadline
        self._transport.write(request)
        try:
            return await reply
        finally:
            if self._reply is not None:
                self._reply = None
                self.abort()

    def is_in_time(self, now: float) -> bool:
        """Whether a call is under way and may go on; one whose deadline is over ends here, in doubt."""
        if self._reply is None:
            return False
        if now < self._deadline:
            return True
        self._fail("timeout")
        return False

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None:
            if self._head_is_whole and not self._is_framed and exc is None:
                self._answer()  # such a body ends where the connection does
            else:
                self._fail("cut_reply" if self._head_is_whole else "disconnected")
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._reply is None:
            self.abort()  # nobody asked: whatever it is, it must not be taken for the next reply
            return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What came before the nonsense may be the whole reply; the connection is not used again.
            self._keeps_alive = False
            if self._ended is None:
                self._fail("garbage")
                return
        if self._ended is not None:
            self._hand_over(self._ended)
        elif not self._head_is_whole and self._raw > MAX_HEAD_BYTES:
            self._fail("garbage")
        elif self._size > self._max_body or self._raw > self._max_raw:
            self._fail("reply_too_large")

    # The parser's side

    def on_message_begin(self) -> None:
        if self._ended is not None:
            self._keeps_alive = False  # a second reply to one request
            return
        self._start_reply()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ended is not None:
            return
        word = name.decode("utf-8", "surrogateescape").lower()
        if word in ("content-length", "transfer-encoding"):
            self._is_framed = True
        self._headers.setdefault(word, value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        if self._ended is not None:
            return
        self._status = self._parser.get_status_code()
        self._head_is_whole = self._status >= 200
        self._is_framed = self._is_framed or self._status in (204, 304)

    def on_body(self, body: bytes) -> None:
        if self._ended is None:
            self._chunks.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if self._ended is None and self._head_is_whole:  # of 100 and 103 more is to come
            self._keeps_alive = self._parser.should_keep_alive()
            self._ended = HttpResponse(self._status, self._headers, b"".join(self._chunks))

    # Ends

    def _start_reply(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._size = self._raw = 0
        self._head_is_whole = self._is_framed = self._keeps_alive = False

    def _answer(self) -> None:
        self._keeps_alive = False
        self._hand_over(HttpResponse(self._status, self._headers, b"".join(self._chunks)))

    def _hand_over(self, response: HttpResponse) -> None:
        reply, self._reply, self._ended = self._reply, None, None
        if self._size > self._max_body:
            self.abort()
            _tell(reply, InDoubt("reply_too_large"))
            return
        if not self._keeps_alive:
            self.close()
        if reply is not None and not reply.done():
            reply.set_result(response)

    def _fail(self, reason: str) -> None:
        reply, self._reply = self._reply, None
        self.abort()
        _tell(reply, InDoubt(reason))


def _tell(reply: asyncio.Future[HttpResponse] | None, doubt: InDoubt) -> None:
    if reply is not None and not reply.done():
        reply.set_exception(doubt)

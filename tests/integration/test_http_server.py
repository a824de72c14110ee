"""The HTTP server under every service, spoken to in bytes: heads are bounded in time and size, and what is no HTTP gets
a problem document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from postrider.http_server import HEAD_BYTES, BoundedProtocol
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


class Hasty(BoundedProtocol):
    head_seconds = 0.2


async def serving(protocol: type[BoundedProtocol]) -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(echo, "127.0.0.1", 0, log_config=None, lifespan="off", http=protocol))
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await task


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async for port in serving(BoundedProtocol):
        yield port


@pytest.fixture
async def hasty_port() -> AsyncIterator[int]:
    async for port in serving(Hasty):
        yield port


async def told(port: int, *pieces: bytes, endless: Iterable[bytes] = ()) -> tuple[int, bytes]:
    """Status and body of the answer to these bytes; the server has closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        try:
            for piece in endless:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass  # the server has had enough, which is what is asked
        answer = b""
        try:
            while piece := await asyncio.wait_for(reader.read(65_536), 10):
                answer += piece
        except ConnectionError:
            pass  # what came before is the answer
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def problem(answer: tuple[int, bytes]) -> int:
    status, body = answer
    document = json.loads(body)
    assert document["status"] == status
    assert document["detail"]
    return status


async def test_an_ordinary_request_and_the_next_on_its_connection_are_answered(port: int) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n"
    status, body = await told(port, post + b"\r\n", b"x" * 200_000, post + b"Connection: close\r\n\r\n", b"x" * 200_000)
    assert (status, body.count(b"200000")) == (200, 2)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so(port: int, garbage: bytes) -> None:
    assert problem(await told(port, garbage)) == 400


async def test_a_body_that_is_no_chunks_is_told_so(port: int) -> None:
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert problem(await told(port, start + b"zzz\r\n")) == 400
    assert problem(await told(port, start, b"1\r\na\r\n", b"-1\r\n")) == 400


async def test_a_head_within_the_limit_passes(port: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: " + b"a" * (HEAD_BYTES - 1_000) + b"\r\n\r\n"
    assert await told(port, head) == (200, b"0")


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"a" * 4_096),
        (b"GET / HTTP/1.1\r\nX-A: ", b"a" * 4_096),
        (b"GET / HTTP/1.1\r\n", b"X-A: " + b"a" * 4_000 + b"\r\n"),
    ],
)
async def test_a_head_without_end_is_cut_off(port: int, start: bytes, more: bytes) -> None:
    pieces = [more] * (HEAD_BYTES // len(more) + 2)
    assert problem(await told(port, start, *pieces)) == 431


async def test_trailers_and_chunk_extensions_without_end_are_cut_off(port: int) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    for start, more in ((b"0\r\n", b"X-A: " + b"a" * 4_000 + b"\r\n"), (b"0\r\nX-A: ", b"a" * 4_096)):
        sent = 0

        def endless(more: bytes = more) -> Iterable[bytes]:
            nonlocal sent
            while sent < 64 * 1024 * 1024:
                sent += len(more)
                yield more

        await told(port, chunked + start, endless=endless())
        assert sent < 64 * 1024 * 1024


async def test_a_head_that_trickles_in_ends_the_connection(hasty_port: int) -> None:
    assert problem(await told(hasty_port, b"GET / HT")) == 408
    assert problem(await told(hasty_port)) == 408
    first = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    status, body = await told(hasty_port, first, b"GET / HT")
    assert status == 200
    assert b'"status": 408' in body or body == b"0"

"""Servers that misbehave, one method a misbehaviour, on raw asyncio: what every HTTP client adapter must survive.

Each counts the requests that reached it whole (headers and body), which is what "sent at most once" is judged by.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

REPLY = b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"sid":"SM"}'


@dataclass(slots=True)
class Seen:
    """What a server saw. `requests`: whole ones; `begun`: those of which the head came."""

    port: int = 0
    connections: int = 0
    begun: int = 0
    requests: int = 0
    ended_early: int = 0
    strays: int = 0
    heads: list[bytes] = field(default_factory=list)


async def read_head(reader: Reader, seen: Seen) -> int | None:
    """The Content-Length of the next request, or None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    seen.begun += 1
    seen.heads.append(head)
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def read_request(reader: Reader, seen: Seen) -> bool:
    length = await read_head(reader, seen)
    if length is None:
        return False
    try:
        await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    seen.requests += 1
    return True


def reset(writer: Writer) -> None:
    """Close with RST instead of FIN."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Behaviour = Callable[[Reader, Writer, Seen], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Seen]:
    """A server on a free port of the loopback that behaves as told on each connection."""
    seen = Seen()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: Reader, writer: Writer) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await behaviour(reader, writer, seen)
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            seen.ended_early += 1  # the client left, which some behaviours provoke, or the test is over
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answer(reader: Reader, writer: Writer, seen: Seen) -> None:
    """Behaves: keep-alive, one reply a request."""
    while await read_request(reader, seen):
        writer.write(REPLY)
        await writer.drain()


async def reset_after_head(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_head(reader, seen)
    reset(writer)


async def reset_after_body(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)
    reset(writer)


async def close_after_body(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)


async def hang(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)
    await asyncio.Event().wait()


async def half_a_head(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)
    writer.write(REPLY[:30])
    await writer.drain()


async def half_a_body(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)
    writer.write(REPLY[:-5])
    await writer.drain()


async def garbage(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)
    writer.write(b"\x00\x01 this is not HTTP \xff\r\n\r\n")
    await writer.drain()


async def redirect(reader: Reader, writer: Writer, seen: Seen) -> None:
    """307 to itself: a client that follows sends the body a second time."""
    while await read_request(reader, seen):
        location = f"http://127.0.0.1:{seen.port}/again".encode()
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()


async def one_reply_then_close(reader: Reader, writer: Writer, seen: Seen) -> None:
    """Says keep-alive, then closes without a word: the client's pooled connection is dead."""
    if await read_request(reader, seen):
        writer.write(REPLY)
        await writer.drain()


async def one_reply_then_swallow(reader: Reader, writer: Writer, seen: Seen) -> None:
    """The race of keep-alive: the second request arrives whole, and instead of a reply the connection ends."""
    if await read_request(reader, seen):
        writer.write(REPLY)
        await writer.drain()
        await read_request(reader, seen)


async def huge_reply(reader: Reader, writer: Writer, seen: Seen) -> None:
    """No length, no end."""
    await read_request(reader, seen)
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def huge_head(reader: Reader, writer: Writer, seen: Seen) -> None:
    await read_request(reader, seen)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: " + b"x" * 60_000 + b"\r\n")
        await writer.drain()


async def slow_drip(reader: Reader, writer: Writer, seen: Seen) -> None:
    """A byte at a time, never silent for long: only a limit on the whole exchange ends it."""
    await read_request(reader, seen)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def compressed_bomb(reader: Reader, writer: Writer, seen: Seen) -> None:
    """A megabyte of zeros in a kilobyte: the port must hand over the kilobyte."""
    await read_request(reader, seen)
    body = zlib.compress(b"\0" * 1_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def cookie(reader: Reader, writer: Writer, seen: Seen) -> None:
    while await read_request(reader, seen):
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()


async def interim_first(reader: Reader, writer: Writer, seen: Seen) -> None:
    """Replies that are none yet, before the one that is."""
    while await read_request(reader, seen):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + REPLY)
        await writer.drain()


async def chunked(reader: Reader, writer: Writer, seen: Seen) -> None:
    while await read_request(reader, seen):
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"sid"', b':"SM"}'):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def until_closed(reader: Reader, writer: Writer, seen: Seen) -> None:
    """No length: the body ends with the connection."""
    if await read_request(reader, seen):
        writer.write(b'HTTP/1.1 201 Created\r\n\r\n{"sid":"SM"}')
        await writer.drain()


STRAY = REPLY.replace(b"SM", b"NO")


async def replies_twice(reader: Reader, writer: Writer, seen: Seen) -> None:
    """A second reply that nobody asked for: taken for the next call's, it would be somebody else's acceptance."""
    while await read_request(reader, seen):
        writer.write(REPLY + STRAY)
        await writer.drain()


async def replies_again_later(reader: Reader, writer: Writer, seen: Seen) -> None:
    while await read_request(reader, seen):
        writer.write(REPLY)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(STRAY)
        await writer.drain()
        seen.strays += 1


async def close_at_once(reader: Reader, writer: Writer, seen: Seen) -> None:
    """Accepts the connection and closes it. Under TLS the handshake fails; without, the request may have gone out."""
    reset(writer)


def refusing_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops further SYNs, so connecting hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])

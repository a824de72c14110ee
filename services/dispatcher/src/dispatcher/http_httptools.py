"""The HTTP port on asyncio's transports and httptools. "Not sent" is no matter of exceptions here: whatever goes wrong
before `Connection.exchange` is called is not sent, whatever goes wrong after is in doubt, and `may_begin` is asked with
nothing awaited between its answer and the write.

Must not: send anything again, follow redirects, look at proxy variables, connect to an address that was not checked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass, field

from aiohappyeyeballs import start_connection

from dispatcher.egress import AddressNotAllowed, AddressPolicy, Resolve, resolve_checked, resolve_with_system
from dispatcher.http_checks import (
    DNS_CACHE_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAX_REPLY_BYTES,
    CheckedUrls,
    Origin,
    checked_headers,
    connect_seconds,
)
from dispatcher.http_connection import Connection
from dispatcher.http_port import CalledOff, HttpRequest, HttpResponse, NotSent

ANOTHER_ADDRESS_AFTER_SECONDS = 0.25
"""RFC 8305: how long an address may be silent before the next one of the name is tried beside it."""
LOOK_SECONDS = 0.05
"""How late a time-out may come."""
_WITHOUT_BODY = frozenset({"GET", "DELETE", "OPTIONS"})
_HEAD_ONLY = frozenset({"HEAD", "CONNECT"})
_SHUT_DOWN_SECONDS = 1.0


@dataclass(slots=True)
class _Host:
    """One scheme, host and port. `idle`: (since, connection), the latest used last."""

    name: str
    port: int
    is_tls: bool
    idle: deque[tuple[float, Connection]] = field(default_factory=deque)
    addresses: list[str] = field(default_factory=list)
    known_until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class HttptoolsPort:
    """One pool for one provider. Build it inside the running loop.

    `policy` decides which addresses may be reached; `resolve` and `ssl_context` are for tests.
    """

    def __init__(
        self,
        *,
        connection_limit: int,
        policy: AddressPolicy,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        resolve: Resolve = resolve_with_system,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limit = connection_limit
        self._policy = policy
        self._max_reply_bytes = max_reply_bytes
        self._resolve = resolve
        self._tls = ssl_context
        self._urls = CheckedUrls(policy)
        self._loop = asyncio.get_running_loop()
        self._calls = asyncio.Semaphore(connection_limit)
        self._hosts: dict[Origin, _Host] = {}
        self._open: set[Connection] = set()
        self._all_lost = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def connection_limit(self) -> int:
        return self._limit

    async def send(self, request: HttpRequest) -> HttpResponse:
        origin, target = self._urls.check(request)
        message = _written(request, origin, target)
        if self._closed:
            raise NotSent("closed")
        deadline = self._loop.time() + request.timeout_seconds
        host = self._host(origin)
        connection = await self._connection(host, connect_seconds(request.timeout_seconds))
        try:
            if not request.may_begin():
                raise CalledOff
            self._watch()
            return await connection.exchange(message, deadline)
        finally:
            self._put_back(host, connection)
            self._calls.release()

    async def close(self) -> None:
        self._closed = True
        for timer in (self._sweep, self._watching):
            if timer is not None:
                timer.cancel()
        if not self._open:
            return
        for connection in list(self._open):
            connection.abort()
        try:
            async with asyncio.timeout(_SHUT_DOWN_SECONDS):
                await self._all_lost.wait()
        except TimeoutError:
            return  # aborted they are; the loop forgets them when it can

    # Connections

    def _host(self, origin: Origin) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host(origin.host, origin.port, origin.scheme == "https")
        return host

    async def _connection(self, host: _Host, seconds: float) -> Connection:
        """A connection, and one of the `connection_limit` calls with it. Raises NotSent."""
        if not self._calls.locked():
            await self._calls.acquire()  # does not wait
            idle = self._take_idle(host)
            if idle is not None:
                return idle
            self._calls.release()
        try:
            async with asyncio.timeout(seconds):
                await self._calls.acquire()
                try:
                    return self._take_idle(host) or await self._connect(host)
                except BaseException:
                    self._calls.release()
                    raise
        except TimeoutError as error:
            raise NotSent("connect_timeout") from error
        except AddressNotAllowed as error:
            raise NotSent("address_not_allowed") from error
        except ssl.SSLError as error:
            raise NotSent("tls") from error
        except ConnectionRefusedError as error:
            raise NotSent("refused") from error
        except (OSError, ValueError) as error:
            raise NotSent("unreachable") from error

    def _take_idle(self, host: _Host) -> Connection | None:
        while host.idle:
            since, connection = host.idle.pop()
            if connection.is_usable and self._loop.time() - since < KEEP_ALIVE_SECONDS:
                return connection
            connection.close()
        return None

    async def _connect(self, host: _Host) -> Connection:
        if self._closed:
            raise NotSent("closed")
        addresses = await self._addresses(host)
        # Those that wait at another host make room: so many calls as may run have a connection each.
        if len(self._open) >= self._limit:
            self._close_one_idle()
        sock = await start_connection(
            [_address_info(address, host.port) for address in addresses],
            happy_eyeballs_delay=ANOTHER_ADDRESS_AFTER_SECONDS,
            interleave=1,
        )
        if self._closed:
            sock.close()
            raise NotSent("closed")
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._max_reply_bytes, self._lost),
                sock=sock,
                ssl=self._tls_context() if host.is_tls else None,
                server_hostname=host.name.removesuffix(".") if host.is_tls else None,
            )
        except BaseException:
            sock.close()
            raise
        if not connection.is_usable:  # the server hung up before we could look
            raise NotSent("unreachable")
        self._open.add(connection)
        return connection

    async def _addresses(self, host: _Host) -> list[str]:
        """Checked ones. A name is asked for once in a while, by one call for all."""
        async with host.asking:
            if self._loop.time() >= host.known_until:
                try:
                    host.addresses = await resolve_checked(host.name, host.port, self._policy, self._resolve)
                except AddressNotAllowed:
                    raise
                except (OSError, UnicodeError) as error:
                    raise NotSent("dns") from error
                host.known_until = self._loop.time() + DNS_CACHE_SECONDS
            return host.addresses

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _put_back(self, host: _Host, connection: Connection) -> None:
        if self._closed or not connection.is_usable:
            connection.close()
            return
        host.idle.append((self._loop.time(), connection))
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS, self._close_old)

    def _close_old(self) -> None:
        self._sweep = None
        now = self._loop.time()
        for host in self._hosts.values():
            while host.idle and now - host.idle[0][0] >= KEEP_ALIVE_SECONDS:
                host.idle.popleft()[1].close()
        if any(host.idle for host in self._hosts.values()):
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS / 2, self._close_old)

    def _close_one_idle(self) -> None:
        oldest = min(
            (host for host in self._hosts.values() if host.idle), key=lambda host: host.idle[0][0], default=None
        )
        if oldest is not None:
            oldest.idle.popleft()[1].close()

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Ends the calls that are over their time. One timer for all of them: thousands of a second would be set only
        to be cancelled."""
        self._watching = None
        now = self._loop.time()
        if sum(connection.is_in_time(now) for connection in list(self._open)):
            self._watch()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._closed and not self._open:
            self._all_lost.set()


def _written(request: HttpRequest, origin: Origin, target: str) -> bytes:
    """The request as it goes out."""
    if request.method in _HEAD_ONLY:
        raise NotSent("invalid_request")
    lines = [f"{request.method} {target} HTTP/1.1"]
    has_host = False
    for name, value in checked_headers(request.headers).items():
        has_host = has_host or name.lower() == "host"
        lines.append(f"{name}: {value}")
    if not has_host:
        lines.insert(1, f"Host: {origin.authority}")
    if request.body or request.method not in _WITHOUT_BODY:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join((*lines, "", "")).encode() + request.body


def _address_info(address: str, port: int) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)

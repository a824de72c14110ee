"""The HTTP port on aiohttp 3. Classifies each failure into NotSent or InDoubt; exception names are checked by a suite
of misbehaving servers (tests/contract/test_http_port.py), because they lie in other clients.

Must not retry: aiohttp re-sends a GET or PUT by itself when a pooled connection turns out to be dead (a provider that
takes its texts by GET would get them twice). The middleware below turns every failure after connecting into our own
exception before aiohttp's retry sees it.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.connector import Connection
from yarl import URL

from dispatcher.egress import (
    AddressNotAllowed,
    AddressPolicy,
    Resolve,
    literal_address,
    resolve_checked,
    resolve_with_system,
)
from dispatcher.http_port import CalledOff, HttpRequest, HttpResponse, InDoubt, NotSent, always
from postrider.contracts.urls import is_disguised_address

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 15.0
DNS_CACHE_SECONDS = 10
MAX_REPLY_BYTES = 1 << 20
MAX_CHECKED_URLS = 256
_PLAIN_METHODS = frozenset({"GET", "POST"})

_HOST = re.compile(r"[0-9A-Za-z._-]{1,254}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_AUTOMATIC_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AiohttpPort:
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
        self._checked: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connection_limit,
                resolver=_CheckedResolver(policy, resolve),
                ttl_dns_cache=DNS_CACHE_SECONDS,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=ssl_context if ssl_context is not None else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC_HEADERS,
            auto_decompress=False,
            trust_env=False,
            request_class=_Request,
        )

    @property
    def connection_limit(self) -> int:
        return self._limit

    async def send(self, request: HttpRequest) -> HttpResponse:
        url = self._checked_url(request)
        headers = _checked_headers(request.headers)
        if self._session.closed:
            raise NotSent("closed")
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=request.body or None,
                allow_redirects=False,
                timeout=_timeout(request.timeout_seconds),
                middlewares=(_at_most_once, _asking(request.may_begin)),
            ) as response:
                body = await self._read(response)
                kept: dict[str, str] = {}
                for name, value in response.headers.items():
                    kept.setdefault(name.lower(), value)
                return HttpResponse(response.status, kept, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(_reason_not_sent(error)) from error
        except aiohttp.InvalidURL as error:
            raise NotSent("invalid_request") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise InDoubt(_reason_in_doubt(error)) from error

    async def close(self) -> None:
        await self._session.close()

    def _checked_url(self, request: HttpRequest) -> URL:
        """aiohttp asks no resolver about a host that is an address already, or looks like one to it: check that one
        here, once."""
        known = self._checked.get(request.url)
        if known is not None and request.method in _PLAIN_METHODS:
            return known
        try:
            url = URL(request.url)
            host, port = url.raw_host, url.port
        except ValueError as error:
            raise NotSent("invalid_request") from error
        if url.scheme not in ("http", "https") or not host or not port or not _TOKEN.fullmatch(request.method):
            raise NotSent("invalid_request")
        literal = literal_address(host)
        if literal is None and (is_disguised_address(host) or not _HOST.fullmatch(host)):
            raise NotSent("invalid_request")
        if literal is not None:
            try:
                self._policy.check_all([literal])
            except AddressNotAllowed as error:
                raise NotSent("address_not_allowed") from error
        if len(self._checked) >= MAX_CHECKED_URLS:
            self._checked.clear()
        self._checked[request.url] = url
        return url

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, or InDoubt: of a reply past the cap we do not know what it says."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_reply_bytes:
                response.close()
                raise InDoubt("reply_too_large")
            chunks.append(chunk)
        return b"".join(chunks)


async def _at_most_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp's retry catches ClientOSError and ServerDisconnectedError only: ours pass it by."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise InDoubt(_reason_in_doubt(error)) from error


class _Request(aiohttp.ClientRequest):
    """Asks, when it has its connection, whether it may still begin. What was connected for nothing serves the next.

    aiohttp keeps the head back until the body is written, by a task of its own, a turn of the loop later: a process may
    be stopped for long in between, so the task asks again.
    """

    may_begin: Callable[[], bool] = staticmethod(always)

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if not self.may_begin():
            conn.release()
            raise CalledOff
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        if not self.may_begin():
            assert conn.protocol is not None
            conn.protocol.set_exception(CalledOff())  # to whoever waits for the reply
            return
        await super().write_bytes(writer, conn, content_length)


def _asking(may_begin: Callable[[], bool]) -> aiohttp.ClientMiddlewareType:
    async def ask(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        assert isinstance(request, _Request)
        request.may_begin = may_begin
        return await handler(request)

    return ask


class _CheckedResolver(AbstractResolver):
    """Gives aiohttp's connector only addresses that were checked; it connects to these and asks nobody else."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await resolve_checked(host, port, self._policy, self._resolve)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to release."""


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    """Connecting ends well before the whole does, so that a connect timeout never looks like a lost reply."""
    return aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_SECONDS, seconds / 2), ceil_threshold=float("inf"))


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Names and values that cannot end a line: a rendered value must not become a header of its own."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _BAD_IN_VALUE.search(value):
            raise NotSent("invalid_request")
    return headers


def _reason_not_sent(error: aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect_timeout"
    cause = error.os_error
    if isinstance(cause, AddressNotAllowed):
        return "address_not_allowed"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError) or isinstance(cause, ssl.SSLError):
        return "tls"
    return "refused" if isinstance(cause, ConnectionRefusedError) else "unreachable"


def _reason_in_doubt(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "cut_reply"
    if isinstance(error, aiohttp.ClientResponseError):
        return "garbage"
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionError)) or (
        isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
    ):
        return "disconnected"
    return "broken"

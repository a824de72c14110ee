"""The port to HTTP for provider calls. Its whole point is the line between "not sent" and "in doubt".

An adapter of this port sends each request at most once (no retry on a stale connection), follows no redirects, ignores
proxy variables, keeps no cookies, inflates nothing, caps the reply, and limits its connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct


def always() -> bool:
    return True


class HttpRequest(Struct, frozen=True):
    """`timeout_seconds` bounds the whole exchange, connecting included. `may_begin` is asked once there is a
    connection, right before the first byte: connecting may take seconds, in which a stop comes.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    timeout_seconds: float = 10.0
    may_begin: Callable[[], bool] = always


class HttpResponse(Struct, frozen=True):
    """A whole reply. Header names are lower case; of a repeated header the first counts. `body` is not inflated."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpFailure(Exception):
    """`reason` is a constant word fit for logs and metrics; it carries no address, header or body."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(HttpFailure):
    """Proven: not one byte of the request went out.

    Reasons: dns, refused, unreachable, connect_timeout, tls, address_not_allowed, invalid_request, closed.
    """


class InDoubt(HttpFailure):
    """Anything after the first byte of the request may have gone out.

    Reasons: timeout, disconnected, garbage, cut_reply, reply_too_large, broken.
    """


class CalledOff(Exception):
    """`may_begin` said no: not one byte of the request went out, and that is nobody's fault. No HttpFailure, so that
    adapters let it pass: whoever asked for the call knows what to do."""


class HttpPort(Protocol):
    """One pool of connections. Each provider has its own, so that a slow one takes nobody else's."""

    @property
    def connection_limit(self) -> int: ...

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Raises NotSent, InDoubt or CalledOff. CancelledError passes through and means: in doubt."""
        ...

    async def close(self) -> None: ...

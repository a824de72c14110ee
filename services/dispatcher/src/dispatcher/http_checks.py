"""What every adapter of the HTTP port checks of a request before it connects: the URL, a host that is an address
already, and headers that could become more headers. Knows no HTTP client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from dispatcher.egress import AddressNotAllowed, AddressPolicy, literal_address
from dispatcher.http_port import HttpRequest, NotSent
from postrider.contracts.urls import is_disguised_address

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 15.0
DNS_CACHE_SECONDS = 10
MAX_REPLY_BYTES = 1 << 20
MAX_CHECKED_ORIGINS = 64
_PLAIN_METHODS = frozenset({"GET", "POST"})

_HOST = re.compile(r"[0-9A-Za-z._-]{1,254}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
_WRITTEN_OUT = re.compile(
    r"(https?://[0-9A-Za-z.:\[\]-]{1,300})(/(?!\.)(?:[0-9A-Za-z_~!$&'()*+,;=:@/?-]++|(?<!/)\.|%[0-9A-Fa-f]{2})*+)"
)
"""A URL that goes out as it is written: nothing to encode, no steps of dots, no fragment, no user."""
_BAD_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a URL leads. `authority`: host and port as a Host header names them."""

    scheme: str
    host: str
    port: int
    authority: str


class CheckedUrls:
    """Takes URLs apart. Remembers the origins that passed: a provider has few of them, and each text asks, with a query
    of its own where texts go by GET."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._known: dict[str, Origin] = {}

    def check(self, request: HttpRequest) -> tuple[Origin, str]:
        """The origin and the target, ready for a request line. Raises NotSent. No client asks a resolver about a host
        that is an address already, or looks like one to it: that one is checked here."""
        if request.method not in _PLAIN_METHODS and not _TOKEN.fullmatch(request.method):
            raise NotSent("invalid_request")
        found = _WRITTEN_OUT.fullmatch(request.url)
        if found is not None:
            known = self._known.get(found[1])
            if known is not None:
                return known, found[2]
        try:
            url = URL(request.url)
            host, port = url.raw_host, url.port
        except ValueError as error:
            raise NotSent("invalid_request") from error
        if url.scheme not in ("http", "https") or not host or not port:
            raise NotSent("invalid_request")
        literal = literal_address(host)
        if literal is None and (is_disguised_address(host) or not _HOST.fullmatch(host)):
            raise NotSent("invalid_request")
        if literal is not None:
            try:
                self._policy.check_all([literal])
            except AddressNotAllowed as error:
                raise NotSent("address_not_allowed") from error
        origin = Origin(url.scheme, host, port, url.host_port_subcomponent or "")
        if found is not None and url.user is None:
            if len(self._known) >= MAX_CHECKED_ORIGINS:
                self._known.clear()
            self._known[found[1]] = origin
        return origin, url.raw_path_qs or "/"


def checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Names and values that cannot end a line: a rendered value must not become a header of its own. How a request is
    framed is the client's matter alone."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _BAD_IN_VALUE.search(value) or name.lower() in _FRAMING:
            raise NotSent("invalid_request")
    return headers


def connect_seconds(timeout_seconds: float) -> float:
    """Connecting ends well before the whole does, so that a connect timeout never looks like a lost reply."""
    return min(CONNECT_SECONDS, timeout_seconds / 2)

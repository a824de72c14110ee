"""What every adapter of the HTTP port checks of a request before it connects: the URL, a host that is an address
already, and headers that could become more headers. Knows no HTTP client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from yarl import URL

from dispatcher.egress import AddressNotAllowed, AddressPolicy, literal_address
from dispatcher.http_port import HttpRequest, NotSent
from postrider.contracts.urls import is_disguised_address

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 15.0
DNS_CACHE_SECONDS = 10
MAX_REPLY_BYTES = 1 << 20
MAX_CHECKED_URLS = 256
_PLAIN_METHODS = frozenset({"GET", "POST"})

_HOST = re.compile(r"[0-9A-Za-z._-]{1,254}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
_BAD_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class CheckedUrls:
    """Remembers the URLs that passed: a provider has few of them, and each text asks."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._known: dict[str, URL] = {}

    def check(self, request: HttpRequest) -> URL:
        """Raises NotSent. No client asks a resolver about a host that is an address already, or looks like one to it:
        that one is checked here."""
        known = self._known.get(request.url)
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
        if len(self._known) >= MAX_CHECKED_URLS:
            self._known.clear()
        self._known[request.url] = url
        return url


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

"""What a URL that users configure may look like, before anybody resolves its name. Pure.

Whether its addresses may be reached is decided where the connection is made (the dispatcher's egress.py), since a name
can answer anything at any time. Refused here is what no honest configuration has: user names, hosts that are numbers
in disguise, zones of addresses.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_LABEL = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?")
_NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


def wrong_with_url(value: str, *, query: bool = False) -> str | None:
    """What is wrong, in words that do not repeat it. `query`: it may have one."""
    if not re.fullmatch(r"[\x21-\x7e]{1,2000}", value):
        return "must be a URL of printable ASCII without spaces"
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "must be a URL"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "must be an http or https URL with a host"
    if "@" in parts.netloc:
        return "must not carry a user name or password"
    if "\\" in value:
        return "must not have backslashes"
    if "#" in value:
        return "must not have a fragment"
    if "?" in value and not query:
        return "must not have a query or fragment"
    return _wrong_host(host, bracketed="[" in parts.netloc)


def _wrong_host(host: str, *, bracketed: bool) -> str | None:
    """An address is written the one plain way, and a name is one of DNS: nothing that a resolver reads as a number."""
    if bracketed:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            return "must have a host"
        return "must not name the zone of an address" if address.scope_id is not None else None
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return "must write an IPv4 address as four decimal numbers"
        return None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "must have a host that is a DNS name (an international one as xn--…) or an address"
    return None

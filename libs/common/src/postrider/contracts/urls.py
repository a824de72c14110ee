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


def origin_of(url: str) -> str:
    """Scheme, host and port: who gets what is sent there. "" for what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


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


def is_disguised_address(host: str) -> bool:
    """Something that a resolver or a socket reads as an address, though it is none in the plain spelling: decimal,
    octal, hexadecimal and short forms, zones, trailing dots. `host` without brackets."""
    if ":" in host or "%" in host:
        return not _is_plain_v6(host)
    last = host.rstrip(".").rpartition(".")[2]
    return _NUMBER.fullmatch(last) is not None and not _is_plain_v4(host)


def _wrong_host(host: str, *, bracketed: bool) -> str | None:
    if is_disguised_address(host) or (bracketed and not _is_plain_v6(host)):
        return "must write an address in full: IPv4 as four decimal numbers, IPv6 without a zone"
    if bracketed or _is_plain_v4(host):
        return None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split(".")):
        return "must have a host that is a DNS name (an international one as xn--…) or an address"
    return None


def _is_plain_v4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_plain_v6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False

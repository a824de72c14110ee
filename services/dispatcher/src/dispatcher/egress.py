"""Which addresses a user-configured URL may reach, and resolving a name once into addresses that were all checked.

Resolve, check, pin: a name is resolved once, every address of the answer must be allowed, and the caller connects to
those very addresses. Checking a name and letting the client resolve it again would lose to DNS rebinding. Knows no
HTTP client.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

MOST_NAMES_AT_ONCE = 32
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> addresses as text. Raises OSError when the name does not resolve."""

# IANA special-purpose registries, and what clouds answer on. Listed here, because `ipaddress.is_global` differs
# between Python releases, and because some forms that embed an IPv4 address (NAT64, 6to4) are global by the registry.
_REFUSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # unspecified, "this network"
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent on a public address
        "169.254.0.0/16",  # link-local; metadata at 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "100::/64",
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",  # unique local; metadata at fd00:ec2::254
        "fe80::/10",  # link-local
        "fec0::/10",
        "ff00::/8",  # multicast
    )
)
_GLOBAL_UNICAST_V6 = ipaddress.ip_network("2000::/3")


class AddressNotAllowed(OSError):
    """A name's answer, or a literal address, that may not be reached. Carries no address."""

    def __init__(self) -> None:
        super().__init__("address_not_allowed")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`allowed`: ranges opened by POSTRIDER_ALLOWED_PRIVATE_HOSTS; an address inside one is always allowed."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[str]) -> AddressPolicy:
        """From texts such as "127.0.0.0/8" or "::1". Raises ValueError for anything that is no range."""
        return cls(tuple(ipaddress.ip_network(text.strip(), strict=False) for text in ranges if text.strip()))

    def allows(self, address: Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return False
        if any(address.version == network.version and address in network for network in self.allowed):
            return True
        if any(address.version == network.version and address in network for network in _REFUSED):
            return False
        if address.version == 6 and address not in _GLOBAL_UNICAST_V6:
            return False
        return address.is_global and not address.is_multicast

    def check_all(self, addresses: Sequence[str]) -> list[str]:
        """The addresses, all allowed. One that is not refuses the whole answer: a mixed answer is an attack."""
        for text in addresses:
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise AddressNotAllowed from None
            if not self.allows(address):
                raise AddressNotAllowed
        return list(addresses)


def literal_address(host: str) -> str | None:
    """The address when `host` is one written out (with or without brackets), else None."""
    text = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


async def resolve_with_system(host: str, port: int) -> list[str]:
    """The system's resolver, off the loop. Raises OSError (socket.gaierror) when the name does not resolve."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return _addresses(answers)


class Names:
    """The system's resolver for all providers of a process, on threads of its own. A name that is being asked for is
    not asked for again: one whose name server does not answer takes one thread, however many wait for it, and holds up
    no other name."""

    def __init__(self, ask: Callable[..., Sequence[Any]] = socket.getaddrinfo) -> None:
        self._ask = ask
        self._threads = ThreadPoolExecutor(MOST_NAMES_AT_ONCE, "names")
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[Any]]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """As `resolve_with_system`."""
        key = (host, port)
        asked = self._asked.get(key)
        if asked is None:
            asking = partial(self._ask, host, port, type=socket.SOCK_STREAM)
            asked = self._asked[key] = asyncio.get_running_loop().run_in_executor(self._threads, asking)
            asked.add_done_callback(lambda done: self._answered(key, done))
        return _addresses(await asyncio.shield(asked))

    def _answered(self, key: tuple[str, int], done: asyncio.Future[Sequence[Any]]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # perhaps nobody waits any more

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(answers: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


async def resolve_checked(host: str, port: int, policy: AddressPolicy, resolve: Resolve) -> list[str]:
    """Addresses to connect to, and nothing else. Raises AddressNotAllowed, or OSError when there are none."""
    literal = literal_address(host)
    addresses = [literal] if literal is not None else await resolve(host, port)
    if not addresses:
        raise OSError("no address")
    return policy.check_all(addresses)

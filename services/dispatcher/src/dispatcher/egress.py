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
from dataclasses import dataclass

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
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


async def resolve_checked(host: str, port: int, policy: AddressPolicy, resolve: Resolve) -> list[str]:
    """Addresses to connect to, and nothing else. Raises AddressNotAllowed, or OSError when there are none."""
    literal = literal_address(host)
    addresses = [literal] if literal is not None else await resolve(host, port)
    if not addresses:
        raise OSError("no address")
    return policy.check_all(addresses)

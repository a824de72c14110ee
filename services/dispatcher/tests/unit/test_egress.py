"""Which addresses a user-configured URL may reach."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from dispatcher.egress import AddressNotAllowed, AddressPolicy, Names, literal_address, resolve_checked

REFUSED = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "203.0.113.5",
    "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "4000::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
]  # fmt: skip
ALLOWED = ["8.8.8.8", "172.32.0.1", "172.15.0.1", "54.172.60.0", "2606:4700::1111", "2a00:1450:4001::1"]


async def no_names(host: str, port: int) -> list[str]:
    raise AssertionError("a literal address needs no resolver")


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    with pytest.raises(AddressNotAllowed):
        AddressPolicy().check_all([address])


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed(address: str) -> None:
    assert AddressPolicy().check_all([address]) == [address]


def test_one_refused_address_refuses_the_answer() -> None:
    with pytest.raises(AddressNotAllowed):
        AddressPolicy().check_all(["8.8.8.8", "10.0.0.1"])


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(AddressNotAllowed):
        AddressPolicy().check_all(["127.1"])


def test_the_setting_opens_ranges_and_nothing_else() -> None:
    policy = AddressPolicy.of(["127.0.0.0/8", " ::1 ", "", "10.0.0.5/24"])
    assert policy.check_all(["127.0.0.1", "::1", "10.0.0.77"])
    for address in ("10.0.1.1", "::ffff:127.0.0.1", "192.168.0.1"):
        with pytest.raises(AddressNotAllowed):
            policy.check_all([address])


@pytest.mark.parametrize("text", ["localhost", "10.0.0.0/33", "all"])
def test_the_setting_takes_ranges_only(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        AddressPolicy.of([text])


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("::1", "::1"), ("sms.example", None), ("127.1", None)],
)
def test_literal_addresses(host: str, address: str | None) -> None:
    assert literal_address(host) == address


async def test_a_literal_is_checked_without_a_resolver() -> None:
    assert await resolve_checked("8.8.8.8", 443, AddressPolicy(), no_names) == ["8.8.8.8"]
    with pytest.raises(AddressNotAllowed):
        await resolve_checked("[::1]", 443, AddressPolicy(), no_names)


async def test_a_name_without_addresses() -> None:
    async def empty(host: str, port: int) -> list[str]:
        return []

    with pytest.raises(OSError, match="no address"):
        await resolve_checked("sms.example", 443, AddressPolicy(), empty)


async def test_a_name_server_that_does_not_answer_holds_up_no_other_name() -> None:
    """However many calls wait for it."""
    answers, asked = threading.Event(), Counter[str]()

    def ask(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked[host] += 1
        if host == "hangs.example":
            answers.wait()
        return [(None, None, None, "", ("8.8.8.8", port))]

    names = Names(ask)
    waiting = [asyncio.create_task(names.resolve("hangs.example", 443)) for _ in range(100)]
    try:
        for n in range(100):
            assert await names.resolve(f"n{n}.example", 443) == ["8.8.8.8"]
        assert asked["hangs.example"] == 1 and not any(task.done() for task in waiting)
        waiting[0].cancel()
    finally:
        answers.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[1:] == [["8.8.8.8"]] * 99, "who gave up took nothing from the others"
    assert await names.resolve("hangs.example", 443) == ["8.8.8.8"] and asked["hangs.example"] == 2
    names.close()

"""Every client adapter of the HTTP port against servers that misbehave: "not sent" is proven, nothing is sent twice."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import trustme
from msgspec.structs import replace

from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.http_port import CalledOff, HttpFailure, HttpPort, HttpRequest, HttpResponse, InDoubt, NotSent
from tests.standins import misbehaving
from tests.support.eventually import eventually

LOOPBACK = AddressPolicy.of(["127.0.0.0/8", "::1"])
MAX_REPLY_BYTES = 100_000
NewPort = Callable[..., HttpPort]


async def no_such_name(host: str, port: int) -> list[str]:
    raise OSError(f"no address for {host}")


@pytest.fixture(params=[HttptoolsPort], ids=["httptools"])
async def new_port(request: pytest.FixtureRequest) -> AsyncIterator[NewPort]:
    """Another client adapter passes the same suite by joining the parameters."""
    made: list[HttpPort] = []

    def make(**more: object) -> HttpPort:
        options = {"connection_limit": 4, "policy": LOOPBACK, "max_reply_bytes": MAX_REPLY_BYTES, **more}
        made.append(request.param(**options))
        return made[-1]

    yield make
    for port in made:
        await port.close()
    await asyncio.sleep(0)
    gc.collect()


def post(port: int, *, method: str = "POST", timeout_seconds: float = 5.0, scheme: str = "http") -> HttpRequest:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic eDp5"}
    url = f"{scheme}://127.0.0.1:{port}/2010-04-01/Messages.json"
    return HttpRequest(method, url, headers, b"To=%2B15005550006&Body=hello", timeout_seconds)


async def outcome_of(port: HttpPort, request: HttpRequest) -> HttpResponse | HttpFailure:
    try:
        return await port.send(request)
    except HttpFailure as failure:
        return failure


async def test_a_reply_is_handed_over_whole(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        http = new_port()
        responses = [await http.send(post(seen.port)) for _ in range(3)]
    assert [response.status for response in responses] == [201, 201, 201]
    assert responses[0].body == b'{"sid":"SM"}'
    assert responses[0].headers["content-type"] == "application/json"
    assert (seen.requests, seen.connections) == (3, 1)
    assert b"Basic eDp5" in seen.heads[0]


@pytest.mark.parametrize("behaviour", [misbehaving.interim_first, misbehaving.chunked, misbehaving.until_closed])
async def test_a_reply_in_any_frame_is_whole(new_port: NewPort, behaviour: misbehaving.Behaviour) -> None:
    async with misbehaving.serving(behaviour) as seen:
        http = new_port()
        for _ in range(2):
            response = await http.send(post(seen.port))
            assert (response.status, response.body) == (201, b'{"sid":"SM"}')
        assert seen.requests == 2


async def test_a_reply_that_nobody_asked_for_is_nobodys(new_port: NewPort) -> None:
    for behaviour in (misbehaving.replies_twice, misbehaving.replies_again_later):
        async with misbehaving.serving(behaviour) as seen:
            http = new_port()
            for n in range(1, 4):
                response = await http.send(post(seen.port))
                assert (response.body, seen.requests) == (b'{"sid":"SM"}', n)
                if behaviour is misbehaving.replies_again_later:
                    await eventually(lambda: seen.strays == seen.requests)
                    await asyncio.sleep(0.01)  # for the bytes to arrive


async def test_a_call_that_is_given_up_leaves_its_reply_to_nobody(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        http = new_port(connection_limit=1)
        call = asyncio.create_task(http.send(post(seen.port)))
        await eventually(lambda: seen.requests == 1 or call.done())
        given_up = call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        response = await http.send(post(seen.port))
        assert response.status == 201
        assert (seen.requests, seen.connections) == (2, 2 if given_up else 1)


async def test_many_at_once_share_their_connections(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        http = new_port(connection_limit=4)
        outcomes = await asyncio.gather(*(outcome_of(http, post(seen.port)) for _ in range(40)))
        assert all(isinstance(outcome, HttpResponse) for outcome in outcomes)
        assert seen.requests == 40
        assert seen.connections <= 4


async def test_two_hosts_share_the_limit(new_port: NewPort) -> None:
    """A connection that waits at one host makes room for a call to another."""
    async with misbehaving.serving(misbehaving.answer) as one, misbehaving.serving(misbehaving.answer) as other:
        http = new_port(connection_limit=1)
        for _ in range(3):
            assert (await http.send(post(one.port))).status == 201
            assert (await http.send(post(other.port))).status == 201
        assert (one.requests, other.requests) == (3, 3)


async def test_a_stop_while_it_connects_lets_no_byte_out_and_keeps_the_connection(new_port: NewPort) -> None:
    stopped: list[bool] = []

    async def takes_long(host: str, port: int) -> list[str]:
        stopped.append(True)
        return ["127.0.0.1"]

    async with misbehaving.serving(misbehaving.answer) as seen:
        http = new_port(resolve=takes_long)
        request = HttpRequest("POST", f"http://provider.test:{seen.port}/", {}, b"hello", 5.0, lambda: not stopped)
        with pytest.raises(CalledOff):
            await http.send(request)
        await eventually(lambda: seen.connections == 1)
        assert seen.requests == 0
        response = await http.send(replace(request, may_begin=lambda: True))
    assert response.status == 201
    assert (seen.requests, seen.connections) == (1, 1)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("answers", [[False], [True, False]], ids=str)
async def test_who_is_told_no_at_any_moment_sends_no_byte(new_port: NewPort, method: str, answers: list[bool]) -> None:
    """However often the port asks before the first byte; it asks at least once."""
    async with misbehaving.serving(misbehaving.answer) as seen:
        http = new_port()
        asked: list[bool] = []

        def may_begin() -> bool:
            asked.append(answers[len(asked)] if len(asked) < len(answers) else answers[-1])
            return asked[-1]

        try:
            response = await http.send(replace(post(seen.port, method=method), may_begin=may_begin))
        except CalledOff:
            assert asked[-1] is False and seen.requests == 0
        else:
            assert all(asked) and response.status == 201
        assert (await http.send(post(seen.port, method=method))).status == 201
        assert seen.requests == (2 if all(asked) else 1)


IN_DOUBT = {
    "reset after the head was read": (misbehaving.reset_after_head, {"disconnected"}),
    "reset after the body was read": (misbehaving.reset_after_body, {"disconnected"}),
    "closed after the body was read": (misbehaving.close_after_body, {"disconnected"}),
    "reset right after accepting": (misbehaving.close_at_once, {"disconnected"}),
    "half a head": (misbehaving.half_a_head, {"disconnected", "garbage"}),
    "half a body": (misbehaving.half_a_body, {"cut_reply"}),
    "garbage": (misbehaving.garbage, {"garbage"}),
    "a reply without end": (misbehaving.huge_reply, {"reply_too_large"}),
    "a head without end": (misbehaving.huge_head, {"garbage"}),
}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("name", IN_DOUBT)
async def test_after_the_first_byte_it_is_in_doubt_and_sent_once(new_port: NewPort, name: str, method: str) -> None:
    behaviour, reasons = IN_DOUBT[name]
    async with misbehaving.serving(behaviour) as seen:
        outcome = await outcome_of(new_port(), post(seen.port, method=method))
        assert isinstance(outcome, InDoubt), outcome
        assert outcome.reason in reasons
        assert seen.connections == 1


@pytest.mark.parametrize("behaviour", [misbehaving.hang, misbehaving.slow_drip])
async def test_a_reply_that_does_not_come_in_time_is_in_doubt(
    new_port: NewPort, behaviour: misbehaving.Behaviour
) -> None:
    async with misbehaving.serving(behaviour) as seen:
        outcome = await outcome_of(new_port(), post(seen.port, timeout_seconds=1))
        assert isinstance(outcome, InDoubt)
        assert outcome.reason == "timeout"
        assert (seen.requests, seen.connections) == (1, 1)


async def test_a_redirect_is_a_reply_and_is_not_followed(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.redirect) as seen:
        response = await new_port().send(post(seen.port))
        assert response.status == 307
        assert seen.requests == 1


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
async def test_a_dead_pooled_connection_never_sends_twice(new_port: NewPort, method: str) -> None:
    """The server takes the second request whole and hangs up: a transparent retry would be a second text."""
    async with misbehaving.serving(misbehaving.one_reply_then_swallow) as seen:
        http = new_port()
        assert (await http.send(post(seen.port))).status == 201
        outcome = await outcome_of(http, post(seen.port, method=method))
        assert isinstance(outcome, InDoubt)
        assert outcome.reason == "disconnected"
        assert (seen.requests, seen.connections) == (2, 1)


async def test_a_pooled_connection_closed_by_the_server_costs_no_text(new_port: NewPort) -> None:
    """Seen closed before the next call: a new connection. Not seen yet: in doubt. Never a text twice."""
    async with misbehaving.serving(misbehaving.one_reply_then_close) as seen:
        http = new_port()
        outcomes = [await outcome_of(http, post(seen.port)) for _ in range(20)]
    assert all(isinstance(outcome, (HttpResponse, InDoubt)) for outcome in outcomes)
    replies = sum(isinstance(outcome, HttpResponse) for outcome in outcomes)
    assert replies == seen.requests <= 20


async def test_nobody_listens(new_port: NewPort) -> None:
    outcome = await outcome_of(new_port(), post(misbehaving.refusing_port()))
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "refused"


async def test_connecting_hangs(new_port: NewPort) -> None:
    with misbehaving.full_backlog() as port:
        outcome = await outcome_of(new_port(), post(port, timeout_seconds=0.4))
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "connect_timeout"


async def test_no_free_connection_in_time(new_port: NewPort) -> None:
    """Waiting for the pool is part of connecting: nothing was sent."""
    async with misbehaving.serving(misbehaving.hang) as seen:
        http = new_port(connection_limit=1)
        first = asyncio.create_task(outcome_of(http, post(seen.port, timeout_seconds=2.0)))
        await eventually(lambda: seen.requests == 1)
        second = await outcome_of(http, post(seen.port, timeout_seconds=0.4))
        assert isinstance(second, NotSent)
        assert second.reason == "connect_timeout"
        assert isinstance(await first, InDoubt)
        assert seen.requests == 1


async def test_the_name_does_not_resolve(new_port: NewPort) -> None:
    request = HttpRequest("POST", "http://sms.example/x", {}, b"x", 2.0)
    outcome = await outcome_of(new_port(resolve=no_such_name), request)
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "dns"


async def test_a_certificate_nobody_signed(new_port: NewPort) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server_side)
    async with misbehaving.serving(misbehaving.answer, tls=server_side) as seen:
        outcome = await outcome_of(new_port(), post(seen.port, scheme="https"))
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "tls"
        assert seen.begun == 0


async def test_a_certificate_of_another_name(new_port: NewPort) -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    async with misbehaving.serving(misbehaving.answer, tls=server_side) as seen:
        outcome = await outcome_of(new_port(ssl_context=client_side), post(seen.port, scheme="https"))
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "tls"
        assert seen.begun == 0


async def test_a_good_certificate(new_port: NewPort) -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    async with misbehaving.serving(misbehaving.answer, tls=server_side) as seen:
        response = await new_port(ssl_context=client_side).send(post(seen.port, scheme="https"))
        assert response.status == 201


async def test_the_name_is_asked_for_at_the_address_that_was_checked(new_port: NewPort) -> None:
    """TLS: name indication and certificate are of the host in the URL, the connection is to the checked address."""
    named: list[str | None] = []

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("sms.example").configure_cert(server_side)
    server_side.sni_callback = lambda _, name, __: named.append(name)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    async with misbehaving.serving(misbehaving.answer, tls=server_side) as seen:
        request = HttpRequest("POST", f"https://sms.example:{seen.port}/", {}, b"x", 2.0)
        assert (await new_port(ssl_context=client_side, resolve=resolve).send(request)).status == 201
        assert named == ["sms.example"]
        assert f"Host: sms.example:{seen.port}".encode() in seen.heads[0]


@pytest.mark.parametrize("behaviour", [misbehaving.answer, misbehaving.close_at_once])
async def test_a_server_that_does_not_speak_tls(new_port: NewPort, behaviour: misbehaving.Behaviour) -> None:
    async with misbehaving.serving(behaviour) as seen:
        outcome = await outcome_of(new_port(), post(seen.port, scheme="https", timeout_seconds=1.0))
        assert isinstance(outcome, NotSent)
        assert seen.begun == 0


async def test_proxy_variables_are_ignored(new_port: NewPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{misbehaving.refusing_port()}")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{misbehaving.refusing_port()}")
    async with misbehaving.serving(misbehaving.answer) as seen:
        assert (await new_port().send(post(seen.port))).status == 201


async def test_cookies_are_not_kept(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.cookie) as seen:
        http = new_port()
        await http.send(post(seen.port))
        await http.send(post(seen.port))
        assert not any(b"cookie:" in head.lower() for head in seen.heads)


async def test_a_compressed_reply_is_not_inflated(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.compressed_bomb) as seen:
        response = await new_port().send(post(seen.port))
        assert len(response.body) < 10_000
        assert b"accept-encoding" not in seen.heads[0].lower()


async def test_a_header_value_cannot_start_a_header(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        framing = [{"Content-Length": "1"}, {"transfer-encoding": "chunked"}, {"Connection": "Upgrade"}]
        for headers in ({"X-Name": "a\r\nX-Evil: b"}, {"X-Na\nme": "a"}, {"X Name": "a"}, *framing):
            request = HttpRequest("POST", f"http://127.0.0.1:{seen.port}/", headers, b"x", 2.0)
            outcome = await outcome_of(new_port(), request)
            assert isinstance(outcome, NotSent)
            assert outcome.reason == "invalid_request"
        assert seen.begun == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "no", "http://127.0.0.1:99999/", "http://127.1/"])
async def test_a_url_that_is_none(new_port: NewPort, url: str) -> None:
    outcome = await outcome_of(new_port(), HttpRequest("POST", url, {}, b"x", 2.0))
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "invalid_request"


DISGUISES = [
    "2130706433", "0x7f000001", "0x7f00000a", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "127.0.0.1..", "0",
    "1.0x7f", "[::1%25lo]", "[fe80::1%25eth0]", "[::1%25]", "[v1.fe80::a]", "127.0.0.1%00.example", "0x7f.0x0.0x0.0x1",
]  # fmt: skip


@pytest.mark.parametrize("host", DISGUISES)
async def test_an_address_in_disguise_is_asked_of_nobody(new_port: NewPort, host: str) -> None:
    """What the resolver or the socket would read as 127.0.0.1, with private addresses refused or allowed."""

    async def never(host: str, port: int) -> list[str]:
        raise AssertionError("resolved")

    async with misbehaving.serving(misbehaving.answer) as seen:
        for policy in (AddressPolicy(), LOOPBACK):
            request = HttpRequest("POST", f"http://{host}:{seen.port}/", {}, b"x", 2.0)
            outcome = await outcome_of(new_port(policy=policy, resolve=never), request)
            assert isinstance(outcome, NotSent)
            assert outcome.reason in ("invalid_request", "address_not_allowed")
        assert seen.connections == 0


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "127。0。0。1"])
async def test_an_international_spelling_of_an_address_is_that_address(new_port: NewPort, host: str) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        request = HttpRequest("POST", f"http://{host}:{seen.port}/", {}, b"x", 2.0)
        outcome = await outcome_of(new_port(policy=AddressPolicy()), request)
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "address_not_allowed"
        assert seen.connections == 0


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "ⓛocalhost", "metadata.google.internal", "xn--bcher-kva.example"]
)
@pytest.mark.parametrize(
    "answer", ["127.0.0.1", "169.254.169.254", "fd00:ec2::254", "::ffff:7f00:1", "2130706433", "fe80::1%lo"]
)
async def test_a_name_that_answers_with_a_private_address(new_port: NewPort, host: str, answer: str) -> None:
    async def hostile(host: str, port: int) -> list[str]:
        return [answer]

    async with misbehaving.serving(misbehaving.answer) as seen:
        request = HttpRequest("POST", f"http://{host}:{seen.port}/", {}, b"x", 2.0)
        outcome = await outcome_of(new_port(policy=AddressPolicy(), resolve=hostile), request)
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "address_not_allowed"
        assert seen.connections == 0


async def test_a_name_server_that_never_answers(new_port: NewPort) -> None:
    async def slow(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    outcome = await outcome_of(new_port(resolve=slow), HttpRequest("POST", "http://sms.example/", {}, b"x", 0.4))
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "connect_timeout"


async def test_a_name_that_moves_to_a_private_address_between_two_pools(new_port: NewPort) -> None:
    """Rebinding: each resolution is checked, the one after the good one too."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    policy = AddressPolicy.of(["127.0.0.1"])
    async with misbehaving.serving(misbehaving.answer) as seen:
        request = HttpRequest("POST", f"http://sms.example:{seen.port}/", {}, b"x", 2.0)
        assert isinstance(await outcome_of(new_port(policy=policy, resolve=rebinding), request), HttpResponse)
        second = await outcome_of(new_port(policy=policy, resolve=rebinding), request)
        assert isinstance(second, NotSent)
        assert second.reason == "address_not_allowed"
        assert seen.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"])
async def test_a_literal_private_address_is_not_connected_to(new_port: NewPort, host: str) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        request = HttpRequest("POST", f"http://{host}:{seen.port}/", {}, b"x", 2.0)
        outcome = await outcome_of(new_port(policy=AddressPolicy()), request)
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "address_not_allowed"
        assert seen.connections == 0


async def test_a_name_with_one_private_address_is_not_connected_to(new_port: NewPort) -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    async with misbehaving.serving(misbehaving.answer) as seen:
        request = HttpRequest("POST", f"http://sms.example:{seen.port}/", {}, b"x", 2.0)
        outcome = await outcome_of(new_port(policy=AddressPolicy(), resolve=mixed), request)
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "address_not_allowed"
        assert seen.connections == 0


async def test_the_checked_address_is_the_one_connected_to(new_port: NewPort) -> None:
    """A second answer of the name server (rebinding) is never asked for."""
    answers = [["127.0.0.1"], ["203.0.113.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    async with misbehaving.serving(misbehaving.answer) as seen:
        request = HttpRequest("POST", f"http://sms.example:{seen.port}/", {}, b"x", 2.0)
        assert (await new_port(resolve=rebinding).send(request)).status == 201
        assert b"sms.example" in seen.heads[0]
    assert len(answers) == 1


async def test_after_close_nothing_is_sent(new_port: NewPort) -> None:
    async with misbehaving.serving(misbehaving.answer) as seen:
        http = new_port()
        await http.close()
        outcome = await outcome_of(http, post(seen.port))
        assert isinstance(outcome, NotSent)
        assert seen.connections == 0

"""Access tokens: kept, renewed before their end, by one at a time, with a back-off; and what a text becomes without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import CalledOff, HttpFailure, HttpRequest, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import OutgoingText
from dispatcher.providers.generic import GenericAdapter
from dispatcher.providers.oauth import NoToken, TokenSource
from postrider.contracts.provider_fields import check_provider, with_defaults

URL = "https://login.example/token"
TEXT = OutgoingText("m1", 1, "m1.1", "+15005550006", "Hi", "GSM-7", 1)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Answers token requests with `tokens`, one after the other, when it is let; every other call with `api`."""

    connection_limit = 8

    def __init__(self, *tokens: HttpResponse | HttpFailure) -> None:
        self.tokens = list(tokens)
        self.api: list[HttpResponse] = []
        self.asked: list[HttpRequest] = []
        self.called: list[HttpRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: HttpRequest) -> HttpResponse:
        if not request.may_begin():
            raise CalledOff
        if request.url != URL:
            self.called.append(request)
            return self.api.pop(0) if self.api else HttpResponse(200, {}, b"")
        self.asked.append(request)
        await self.gate.wait()
        step = self.tokens.pop(0)
        if isinstance(step, HttpFailure):
            raise step
        return step

    async def close(self) -> None:
        """Nothing to close."""


def token(value: str, expires_in: object = 600, **more: object) -> HttpResponse:
    body = {"access_token": value, "token_type": "Bearer", "expires_in": expires_in, **more}
    return HttpResponse(200, {}, json.dumps(body).encode())


@pytest.fixture
async def sources() -> AsyncIterator[list[TokenSource]]:
    made: list[TokenSource] = []
    yield made
    for source in made:
        await source.close()


def source(server: Server, clock: Clock, made: list[TokenSource], **more: Any) -> TokenSource:
    options = {"in_body": False, "extra": {}, **more}
    made.append(TokenSource(server, URL, "id:1", "s&cret", monotonic=clock, **options))
    return made[-1]


async def test_kept_until_shortly_before_its_end(sources: list[TokenSource]) -> None:
    server, clock = Server(token("a"), token("b")), Clock()
    tokens = source(server, clock, sources)
    assert await tokens.token(5) == "a"
    clock.now += 530
    assert await tokens.token(5) == "a"
    assert len(server.asked) == 1
    clock.now += 20  # the last minute: renewed behind the back of those who go on with the old one
    assert await tokens.token(5) == "a"
    await asyncio.sleep(0)
    assert await tokens.token(5) == "b"
    assert len(server.asked) == 2


async def test_a_short_lived_token_is_renewed_in_the_last_fifth_of_its_life(sources: list[TokenSource]) -> None:
    server, clock = Server(token("a", "10"), token("b", 10)), Clock()
    tokens = source(server, clock, sources)
    await tokens.token(5)
    clock.now += 7.9
    await tokens.token(5)
    assert len(server.asked) == 1
    clock.now += 3  # over: nobody goes on with it
    assert await tokens.token(5) == "b"


async def test_one_asks_and_all_wait_for_it(sources: list[TokenSource]) -> None:
    server, clock = Server(token("a")), Clock()
    server.gate.clear()
    tokens = source(server, clock, sources)
    waiting = [asyncio.create_task(tokens.token(5)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # whoever asked first gives up: the others get it all the same
    await asyncio.sleep(0)
    server.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["a"] * 19
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (NotSent("refused"), "refused"),
        (InDoubt("timeout"), "timeout"),
        (HttpResponse(401, {}, b'{"error": "invalid_client"}'), "invalid_client"),
        (HttpResponse(400, {}, b'{"error": "no such <client> s&cret"}'), "http_400"),
        (HttpResponse(500, {}, b""), "http_500"),
        (HttpResponse(302, {"location": "http://169.254.169.254/"}, b""), "http_302"),
        (HttpResponse(200, {}, b"<html>"), "no_access_token"),
        (HttpResponse(200, {}, b'{"access_token": "a b\\r\\nX: y"}'), "no_access_token"),
        (HttpResponse(200, {}, b'{"access_token": ["a"]}'), "no_access_token"),
        (HttpResponse(200, {}, b'{"access_token": "a", "token_type": "mac"}'), "token_type"),
    ],
)
async def test_none_to_be_had(sources: list[TokenSource], step: HttpResponse | HttpFailure, reason: str) -> None:
    tokens = source(Server(step), Clock(), sources)
    with pytest.raises(NoToken) as raised:
        await tokens.token(5)
    assert raised.value.reason == reason


async def test_asked_again_only_after_the_back_off(sources: list[TokenSource]) -> None:
    server, clock = Server(*[NotSent("refused")] * 3, token("a"), NotSent("refused"), token("b")), Clock()
    tokens = source(server, clock, sources)
    for failures, wait in enumerate([1, 2, 4], 1):
        for _ in range(5):
            with pytest.raises(NoToken):
                await tokens.token(5)
        clock.now += wait - 0.01
        with pytest.raises(NoToken):
            await tokens.token(5)
        assert len(server.asked) == failures
        clock.now += 0.01
    assert await tokens.token(5) == "a"
    clock.now += 700
    with pytest.raises(NoToken):
        await tokens.token(5)
    clock.now += 1  # the success in between has reset it
    assert await tokens.token(5) == "b"


async def test_retry_after_is_honoured_up_to_a_bound(sources: list[TokenSource]) -> None:
    server, clock = Server(HttpResponse(429, {"retry-after": "60"}, b""), token("a")), Clock()
    tokens = source(server, clock, sources)
    with pytest.raises(NoToken):
        await tokens.token(5)
    clock.now += 59
    with pytest.raises(NoToken):
        await tokens.token(5)
    clock.now += 1
    assert await tokens.token(5) == "a"


async def test_a_renewal_that_fails_costs_nothing_while_the_old_one_is_good(sources: list[TokenSource]) -> None:
    server, clock = Server(token("a"), NotSent("refused"), token("b")), Clock()
    tokens = source(server, clock, sources)
    await tokens.token(5)
    clock.now += 550
    for _ in range(3):
        assert await tokens.token(5) == "a"
        await asyncio.sleep(0)
    assert len(server.asked) == 2
    clock.now += 55
    assert await tokens.token(5) == "b"


async def test_a_server_that_hangs_delays_a_call_no_longer_than_told(sources: list[TokenSource]) -> None:
    server = Server(token("a"))
    server.gate.clear()
    with pytest.raises(NoToken) as raised:
        await source(server, Clock(), sources).token(0.02)
    assert raised.value.reason == "timeout"


async def test_a_refused_token_is_asked_for_once_and_then_with_the_back_off(sources: list[TokenSource]) -> None:
    server, clock = Server(token("a"), token("b"), token("c"), token("d")), Clock()
    tokens = source(server, clock, sources)
    tokens.refused(await tokens.token(5))
    tokens.refused("a")  # by another call that had it, too
    assert await tokens.token(5) == "b"
    tokens.refused("a")  # by a slow one
    assert await tokens.token(5) == "b"
    tokens.refused("b")
    with pytest.raises(NoToken) as raised:
        await tokens.token(5)
    assert raised.value.reason == "token_refused"
    clock.now += 1
    assert await tokens.token(5) == "c"
    tokens.worked()
    tokens.refused("c")
    assert await tokens.token(5) == "d"


async def test_the_client_is_named_in_the_header_or_in_the_body(sources: list[TokenSource]) -> None:
    server = Server(token("a"), token("a"))
    await source(server, Clock(), sources, extra={"scope": "sms & more"}).token(5)
    await source(server, Clock(), sources, in_body=True).token(5)
    basic, body = server.asked
    assert basic.headers["Authorization"] == "Basic aWQlM0ExOnMlMjZjcmV0"  # id%3A1:s%26cret, as RFC 6749 §2.3.1 has it
    assert parse_qsl(basic.body.decode()) == [("grant_type", "client_credentials"), ("scope", "sms & more")]
    assert "Authorization" not in body.headers
    assert parse_qsl(body.body.decode()) == [
        ("grant_type", "client_credentials"),
        ("client_id", "id:1"),
        ("client_secret", "s&cret"),
    ]


SETTINGS = {
    "url": "https://gw.example/send",
    "form": {"to": "$$To", "text": "$$Body"},
    "auth": {"type": "oauth2", "token_url": URL, "client_id": "id", "extra": {"audience": "$$aud"}},
    "secrets": ["aud"],
}


def adapter(server: Server, clock: Clock) -> GenericAdapter:
    credentials = {"client_secret": "s&cret", "secrets": {"aud": "hush"}}
    assert check_provider("generic", SETTINGS, credentials) == []
    return GenericAdapter("prv_1", with_defaults("generic", SETTINGS), credentials, server, monotonic=clock)


async def test_without_a_token_nothing_was_sent() -> None:
    server, clock = Server(HttpResponse(401, {}, b'{"error": "invalid_client"}')), Clock()
    provider = adapter(server, clock)
    result = await provider.submit(TEXT)
    assert (result.outcome, result.code) == (Outcome.REJECTED_PROVIDER, "token_invalid_client")
    assert result.not_begun and result.counts_for_breaker
    assert server.called == []
    await provider.close()


async def test_a_401_counts_for_this_call_and_renews_for_the_next() -> None:
    server, clock = Server(token("a"), token("b")), Clock()
    server.api = [HttpResponse(401, {}, b""), HttpResponse(200, {}, b"")]
    provider = adapter(server, clock)
    first = await provider.submit(TEXT)
    assert (first.outcome, first.code, first.not_begun) == (Outcome.REJECTED_PROVIDER, "http_401", False)
    assert (await provider.submit(TEXT)).is_accepted
    assert [call.headers["Authorization"] for call in server.called] == ["Bearer a", "Bearer b"]
    assert ("audience", "hush") in parse_qsl(server.asked[0].body.decode())
    await provider.close()


async def test_a_token_leaves_the_call_what_is_left_of_the_timeout() -> None:
    server, clock = Server(token("a")), Clock()
    server.gate.clear()
    provider = adapter(server, clock)
    call = asyncio.create_task(provider.submit(TEXT))
    await asyncio.sleep(0.01)
    clock.now += 4
    server.gate.set()
    assert (await call).is_accepted
    assert server.asked[0].timeout_seconds == 5
    assert server.called[0].timeout_seconds == 6
    await provider.close()


async def test_a_stop_while_a_token_is_asked_for_lets_nothing_out() -> None:
    server, clock = Server(token("a")), Clock()
    provider = adapter(server, clock)
    with pytest.raises(CalledOff):
        await provider.submit(replace(TEXT, may_begin=lambda: not server.asked))
    assert len(server.asked) == 1 and server.called == [], "the token is everybody's"
    await provider.close()


async def test_verify_asks_for_a_token() -> None:
    good = adapter(Server(token("a")), Clock())
    bad = adapter(Server(NotSent("dns")), Clock())
    assert (await good.verify()).ok
    assert (await bad.verify()).reason == "token_dns"
    await good.close()
    await bad.close()

"""Internal HTTP: bodies are bounded before anybody reads them, and every error is a problem document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from postrider import http_manners


class Body(BaseModel):
    number: int


def make_app(body_seconds: float = 5.0) -> tuple[FastAPI, list[str]]:
    app, reached = FastAPI(), list[str]()
    http_manners.install(app, max_body_bytes=1_000, body_seconds=body_seconds, streamed=("/internal/streams/",))

    @app.post("/internal/echo")
    async def echo(body: Body) -> Body:
        reached.append("echo")
        return body

    @app.put("/internal/streams/{id}")
    async def stream(id: str, request: Request) -> int:
        reached.append(id)
        try:
            return sum([len(chunk) async for chunk in request.stream()])
        except ClientDisconnect:
            return -1

    @app.get("/internal/refused")
    async def refused() -> None:
        raise HTTPException(401, "the service token is missing or wrong")

    @app.get("/internal/broken")
    async def broken() -> None:
        raise RuntimeError("+1 202 555 0142")

    return app, reached


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(
        transport=transport, base_url="http://internal", headers={"Content-Type": "application/json"}
    )


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * 100


async def test_a_body_within_the_bounds_arrives_whole() -> None:
    app, reached = make_app()
    async with client_of(app) as client:
        answer = await client.post("/internal/echo", content=b'{"number": 7}' + b" " * 900)
    assert (answer.status_code, answer.json(), reached) == (200, {"number": 7}, ["echo"])


async def test_a_body_without_end_is_cut_off_where_the_limit_is() -> None:
    app, reached = make_app()
    async with client_of(app) as client:
        answer = await client.post("/internal/echo", content=chunks(1_000_000))
    assert (answer.status_code, reached) == (413, [])
    assert answer.json()["detail"] == "the body is larger than 1000 bytes"


async def test_a_body_that_never_comes_ends_the_call() -> None:
    app, reached = make_app(body_seconds=0.01)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with client_of(app) as client:
        answer = await client.post("/internal/echo", content=never())
    assert (answer.status_code, reached) == (408, [])


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "pointer"),
    [
        ("POST", "/internal/echo", b"{", 422, None),
        ("POST", "/internal/echo", b'{"number": "x"}', 422, "/number"),
        ("GET", "/internal/echo", None, 405, None),
        ("GET", "/nowhere", None, 404, None),
        ("GET", "/internal/refused", None, 401, None),
        ("GET", "/internal/broken", None, 500, None),
    ],
)
async def test_every_error_is_a_problem_document(
    method: str, path: str, content: bytes | None, status: int, pointer: str | None
) -> None:
    app, _ = make_app()
    async with client_of(app) as client:
        answer = await client.request(method, path, content=content)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    document = answer.json()
    assert {"type", "title", "status", "detail", "errors"} == document.keys()
    assert document["status"] == status
    assert "555" not in answer.text
    if pointer is not None:
        assert [each["pointer"] for each in document["errors"]] == [pointer]


async def test_a_route_that_streams_gets_its_body_as_it_comes_however_large() -> None:
    app, reached = make_app()

    async def body() -> AsyncIterator[bytes]:
        for n in range(50):
            if n == 1:
                assert reached == ["x"]  # the route has begun
            yield b"x" * 1_000
            await asyncio.sleep(0)

    async with client_of(app) as http:
        answer = await http.put("/internal/streams/x", content=body())
    assert (answer.status_code, answer.json()) == (200, 50_000)


async def test_a_stream_that_stands_still_is_cut_off() -> None:
    app, _ = make_app(body_seconds=0.05)
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async with client_of(app) as http:
        assert (await http.put("/internal/streams/x", content=body())).json() == -1

"""The OpenAPI document against the service: whatever schemathesis makes of it, no 5xx and no undocumented reply."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import Request

from tests.support.campaign_api import (
    KEY,
    PROFILE,
    REACH,
    SEEN_ATTRIBUTES,
    SEEN_EVENTS,
    TRIED,
    VERIFIED,
    Running,
    running,
)
from tests.support.eventually import eventually
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration

EXAMPLES = 4
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "ignored_auth,use_after_free"
)


@pytest.fixture(scope="module")
async def url(kafka: str, database: str) -> AsyncIterator[str]:
    """The service behind a real socket."""
    database_url = await create_database(database)
    async with running(kafka, database_url, topic_prefix()) as api:
        answer_internal_calls(api)
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            server = Server(uvicorn.Config(api.service.app, log_config=None, access_log=False, lifespan="off"))
            serving = asyncio.create_task(server.serve([bound]))
            await eventually(lambda: server.started)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
            server.should_exit = True
            await serving
    await drop_database(database_url)


class Server(uvicorn.Server):
    """Signals are pytest's."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def answer_internal_calls(api: Running) -> None:
    page: dict[str, object] = {"items": [], "next_cursor": None}

    async def fill_list(request: Request) -> dict[str, int]:
        lines = (await request.body()).splitlines()
        return {"members": int(lines[-1]) if lines else 0}

    api.elsewhere.answers |= {
        "/internal/estimate": lambda _: REACH,
        "/internal/profile": lambda request: None if request.method == "DELETE" else PROFILE,
        "/internal/catalog/events": lambda _: SEEN_EVENTS,
        "/internal/catalog/attributes": lambda _: SEEN_ATTRIBUTES,
        "/internal/messages": lambda _: page,
        "/internal/sandbox/inbox": lambda _: page,
        "/internal/test-sends": lambda _: TRIED,
        "/internal/providers/*": lambda _: VERIFIED,
        "/internal/user-lists/*": fill_list,
        "/internal/suppressions": lambda request: page if request.method == "GET" else {},
    }


async def test_every_operation_keeps_to_its_document(url: str, tmp_path: Path) -> None:
    program = (
        "import schemathesis as s; s.serializer.alias('application/x-ndjson', 'text/plain');"
        "from schemathesis.cli import schemathesis; schemathesis()"
    )
    arguments = [
        "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {KEY}", "--checks", CHECKS,
        "--max-examples", str(EXAMPLES), "--seed", "1", "--phases", "examples,fuzzing", "--no-color",
        "--continue-on-failure", "--generation-database", "none",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-8_000:]

"""Nothing secret in the open: every kind of provider is set up with secrets that can be told again, used, refused,
changed and called back; then logs, topics, tables and the API's answers are searched for them, in every spelling they
are sent in.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from postrider.kafka.clients import KafkaConfig, make_admin
from postrider.local.home import load_secrets
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY, DISPATCHER
from postrider.local.suite import Suite
from postrider.postgres.database import open_database
from tests.support.eventually import eventually
from tests.support.topic_log import TopicLog

pytestmark = pytest.mark.e2e

ACCOUNT = "AC" + "0" * 32


@dataclass
class Secrets:
    """Made up here, each by its name; `of` makes one."""

    values: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        self.values[name] = f"mark-{uuid.uuid4().hex}"
        return self.values[name]

    def spellings(self) -> Iterator[tuple[str, bytes]]:
        """As they are, and as requests, rows and dumps may have them."""
        users = ("", ACCOUNT, "user", "acme1", "abcd1234")
        for name, value in self.values.items():
            raw = value.encode()
            yield name, raw
            yield name, raw.hex().encode()
            yield name, base64.b64encode(raw).rstrip(b"=")[:-1]
            for user in users:
                yield name, base64.b64encode(f"{user}:{value}".encode()).rstrip(b"=")[:-1]

    def found_in(self, haystack: bytes) -> list[str]:
        return sorted({name for name, spelling in self.spellings() if spelling in haystack})


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[str]:
    """A vendor that refuses everything and sends the request back, credentials and all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.splitlines() if line.lower().startswith(b"content-length:")), 0
            )
            body = b"cannot take " + head + await reader.readexactly(length)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def providers(url: str, secret: Secrets) -> dict[str, dict[str, Any]]:
    """One of each kind, and of each way to say who one is."""
    generic = {"url": f"{url}/send?key=$$query_key&to=$$To&text=$$Body", "method": "GET",
               "headers": {"X-Key": "$$header_key"}, "secrets": ["query_key", "header_key"]}  # fmt: skip

    def keys() -> dict[str, str]:
        return {"query_key": secret.of("generic query"), "header_key": secret.of("generic header")}

    oauth = {"type": "oauth2", "token_url": f"{url}/token", "client_id": "user"}
    return {
        "twilio": {"settings": {"account_sid": ACCOUNT, "from": "+12025550100", "base_url": url},
                   "credentials": {"auth_token": secret.of("twilio auth_token")}},
        "vonage": {"settings": {"api_key": "abcd1234", "from": "Acme", "base_url": url, "signature_method": "sha256"},
                   "credentials": {"api_secret": secret.of("vonage api_secret"),
                                   "signature_secret": secret.of("vonage signature_secret")}},
        "msg91": {"settings": {"base_url": url}, "credentials": {"auth_key": secret.of("msg91 auth_key")}},
        "exotel": {"settings": {"account_sid": "acme1", "sender_id": "ACMESH", "base_url": url},
                   "credentials": {"api_key": secret.of("exotel api_key"), "api_token": secret.of("exotel api_token")}},
        "netcore": {"settings": {"feed_id": "390000", "base_url": url},
                    "credentials": {"username": secret.of("netcore username"),
                                    "password": secret.of("netcore password")}},
        "generic": {"settings": generic | {"auth": {"type": "basic", "username": "user"}},
                    "credentials": {"password": secret.of("generic password"), "secrets": keys()}},
        "generic oauth": {"settings": generic | {"auth": oauth},
                          "credentials": {"client_secret": secret.of("generic client_secret"), "secrets": keys()}},
    }  # fmt: skip


class Caller:
    """The API, with all that it ever answered."""

    def __init__(self, url: str) -> None:
        self.answers = bytearray()
        headers = {"Authorization": f"Bearer {DEVELOPMENT_KEY}"}
        self.http = httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.request(method, path, json=body, headers=sent)
        self.answers += answer.content + str(answer.headers).encode()
        return answer

    async def made(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        answer = await self.call("POST", path, body, **headers)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found


async def texted(caller: Caller, name: str, provider: dict[str, Any]) -> None:
    """One person is given to the provider, which refuses in the end or leaves a doubt."""
    tag = uuid.uuid4().hex[:10]
    traits = {"phone": f"+1202555{uuid.uuid4().int % 10_000:04}", "tag": tag}
    await caller.made("/v1/batch", {"batch": [{"type": "identify", "userId": tag, "messageId": tag, "traits": traits}]})
    content = {"template_id": "t-1"} if provider["kind"] == "msg91" else {"body": "Hello"}
    campaign = await caller.made(
        "/v1/campaigns",
        {
            "name": name, "kind": "one_time", "message_class": "transactional",
            "when": {"at": "now", "time_zone": "account"},
            "who": {"rule": {"all": [{"attribute": {"name": "tag", "op": "eq", "value": tag}}]}},
            "what": {"provider_id": provider["id"], **content},
        },
    )  # fmt: skip
    await caller.made(f"/v1/campaigns/{campaign['id']}/schedule", None)

    async def tried() -> bool:
        items = (await caller.call("GET", f"/v1/campaigns/{campaign['id']}/messages")).json()["items"]
        assert len(items) == 1 and items[0]["attempts"], items
        return True

    await eventually(tried, 60)
    await caller.call("GET", f"/v1/campaigns/{campaign['id']}/report")
    await caller.call("POST", f"/v1/campaigns/{campaign['id']}/stop")  # those who wait for another try


async def refused(caller: Caller, secret: Secrets, known: dict[str, Any]) -> None:
    """Whoever makes a mistake with a secret is not told the secret, nor is it logged (more of them: a unit test)."""
    wrong = secret.of("in the wrong place")
    twilio = {"name": "W", "kind": "twilio", "settings": {"account_sid": ACCOUNT, "from": "+12025550100"}}
    bodies: list[Any] = [
        twilio | {"credentials": {"auth_token": f"{wrong} with a blank"}},
        twilio | {"credentials": wrong},
        twilio | {"settings": {"account_sid": ACCOUNT, "from": wrong, "auth_token": wrong}},
        wrong,
    ]
    for body in bodies:
        assert (await caller.call("POST", "/v1/providers", body)).status_code == 422, body
    path = f"/v1/providers/{known['id']}"
    assert (
        await caller.call("PUT", path, twilio | {"credentials": {"auth_token": wrong}}, If_Match="*")
    ).status_code == 422
    assert (await caller.call("GET", "/v1/providers", Authorization=f"Bearer {wrong}")).status_code == 401
    answer = await caller.http.post("/v1/providers", content=b'{"credentials": {"auth_token": "%s"' % wrong.encode(),
                                    headers={"Content-Type": "application/json"})  # fmt: skip
    caller.answers += answer.content
    assert answer.status_code in (400, 422)


async def called_back(suite: Suite, secret: Secrets, made: dict[str, dict[str, Any]]) -> None:
    async with httpx.AsyncClient(base_url=suite.url(DISPATCHER), trust_env=False) as vendor:
        for name, provider in made.items():
            for which in ("callback_url", "inbound_url"):
                url = provider[which]
                secret.values[f"{name} {which}"] = url.rpartition("/")[2]
                await vendor.post(url, data={"MessageSid": "SM1", "Body": "STOP"})
                await vendor.get(f"{url}?sig=x")
                await vendor.post(url, content=b"\xff")
                await vendor.put(url)
                wrong = f"{url.rpartition('/')[0]}/{secret.of(f'{name} wrong {which}')}"
                assert (await vendor.post(wrong, json={})).status_code == 403


async def rows_of(suite: Suite, tables: dict[str, bytes]) -> None:
    """schema.table → all its rows as text."""
    assert suite.addresses is not None
    database = open_database(suite.addresses.database_url, "public", 2)
    try:
        async with database.begin() as tx:
            named = await tx.execute(
                text("SELECT schemaname || '.' || quote_ident(tablename) FROM pg_tables"
                     " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
            )  # fmt: skip
            for (name,) in named.all():
                rows = await tx.execute(text(f"SELECT CAST(t AS text) FROM {name} t"))
                tables[name] = "\n".join(str(row[0]) for row in rows).encode()
    finally:
        await database.close()


async def records_of(suite: Suite, topics: dict[str, bytes]) -> None:
    """topic → keys, values and headers of all its records."""
    assert suite.addresses is not None
    config = KafkaConfig(suite.addresses.bootstrap_servers)
    admin, log = make_admin(config), TopicLog(config)
    await admin.start()
    try:
        for name in await admin.list_topics():
            if not name.startswith("__"):
                records = await log.read(name)
                topics[name] = b"\n".join(
                    b" ".join((record.key or b"", record.value or b"", *(value for _, value in record.headers)))
                    for record in records
                )
    finally:
        await log.close()
        await admin.close()


KEEP_CALLBACK_TOKENS = frozenset(
    {"postrider.provider-definitions.v1", "campaign_api.resources", "campaign_api.idempotency"}
)
"""Part of addresses that the API shows to whoever may read providers, and that vendors write to."""


async def test_nothing_secret_is_in_the_open(suite: Suite) -> None:
    secret, caller = Secrets(), Caller(suite.url(CAMPAIGN_API))
    async with echo() as url, caller.http:
        made: dict[str, dict[str, Any]] = {}
        for name, body in providers(url, secret).items():
            whole = {"name": name, "kind": name.partition(" ")[0], **body}
            made[name] = await caller.made("/v1/providers", whole, Idempotency_Key=uuid.uuid4().hex)
            kept = {**whole, "name": f"{name} again"}
            path = f"/v1/providers/{made[name]['id']}"
            assert (await caller.call("PUT", path, kept, If_Match="*")).status_code == 200
            await caller.call("POST", f"{path}/verify")
        await asyncio.gather(*(texted(caller, name, provider) for name, provider in made.items()))
        await refused(caller, secret, made["generic"])
        answers = bytes(caller.answers)
        found = {"answers": secret.found_in(answers)}
        await called_back(suite, secret, made)
        key = (await caller.http.post("/v1/api-keys", json={"name": "k", "scopes": ["admin"]})).json()
        secret.values["api key"] = key["key"]
        for path in ("/v1/audit-log", "/v1/providers", "/v1/api-keys"):
            await caller.call("GET", path, Authorization=f"Bearer {key['key']}")
    callbacks = {
        name for name in secret.values if name.endswith(("callback_url", "inbound_url")) and "wrong" not in name
    }
    ours = load_secrets(suite.home)
    secret.values |= {name: ours[name] for name in ours if name != "POSTRIDER_SEALING_PUBLIC_KEY"}
    for log in suite.home.logs.rglob("*"):
        if log.is_file():
            found[log.name] = secret.found_in(log.read_bytes())
    tables: dict[str, bytes] = {}
    topics: dict[str, bytes] = {}
    await rows_of(suite, tables)
    await records_of(suite, topics)
    assert len(tables) > 20 and len(topics) > 8 and len(found) > 4
    found |= {name: secret.found_in(dump) for name, dump in (tables | topics).items()}
    for name in KEEP_CALLBACK_TOKENS:
        found[name] = [each for each in found.get(name, ()) if each not in callbacks]
    assert {where: what for where, what in found.items() if what} == {}

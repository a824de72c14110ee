"""Refusals over HTTP, before any database is asked: authentication, bodies, unknown and unbuilt fields."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, MutableMapping, Sequence
from typing import Any

import httpx
import nacl.public
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from campaign_api.api.application import create_application
from campaign_api.api.services import Services
from campaign_api.definitions import DefinitionPublisher
from campaign_api.sealing import Sealer
from campaign_api.settings import CampaignApiSettings
from campaign_api.upstream import Part
from postrider.clock import SystemClock
from postrider.contracts.envelope import Outgoing
from postrider.contracts.provider_fields import check_provider
from postrider.health import Health
from postrider.postgres.database import open_database
from postrider.postgres.outbox import Outbox, PublishFailed

KEY = "unit-test-admin-key"
SEALING_KEY = bytes(nacl.public.PrivateKey.generate().public_key)


class Broker:
    """Takes what it is given, or nothing."""

    def __init__(self) -> None:
        self.away = False
        self.silent = False
        self.records: list[Outgoing] = []

    async def start(self) -> None:
        """Connected from the beginning."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise PublishFailed("away")
        if self.silent:
            await asyncio.Event().wait()
        self.records += records


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def app(broker: Broker) -> AsyncIterator[FastAPI]:
    """The application on a database that cannot be reached."""
    database = open_database("postgresql://nobody@127.0.0.1:1/none", "campaign_api")
    health = Health()
    definitions = DefinitionPublisher(
        database, broker, Outbox(database, broker, "campaign-api", "t."), health.check("definitions")
    )
    part = Part("segment-engine", "http://nowhere", "token")
    services = Services(
        database=database,
        definitions=definitions,
        publisher=broker,
        sealer=Sealer(SEALING_KEY),
        segment_engine=part,
        dispatcher=part,
        scheduler=part,
        clock=SystemClock(),
        public_url="http://public",
        user_events_topic="t.user-events.v1",
        bootstrap_key=KEY,
        ingestion_wait_seconds=0.05,
        known_callers={},
    )
    yield create_application(services, health, ["https://desk.example.com"])
    await part.close()
    await database.close()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api", headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        yield client


def campaign(**more: Any) -> dict[str, Any]:
    body = {"name": "n", "kind": "one_time", "when": {"at": "now"}, "who": {"rule": {"all": []}}, "what": {"body": "x"}}
    return body | more


def problem(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert set(document) >= {"type", "title", "status", "detail", "errors"}
    return {error["pointer"]: error["message"] for error in document["errors"]}


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {base64.b64encode(KEY.encode()).decode()}", "\xe9 x"]
)
async def test_without_a_key_there_is_nothing_to_see(client: httpx.AsyncClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    del client.headers["Authorization"]
    answer = await client.get("/v1/campaigns", headers=headers)
    problem(answer, 401)
    assert answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/segments"),
        ("PUT", "/v1/segments/seg_1"),
        ("PUT", "/v1/settings"),
        ("GET", "/v1/campaigns/cmp_1"),
        ("GET", "/v1/campaigns?limit=0"),
        ("POST", "/v1/campaigns/cmp_1/pause"),
    ],
)
async def test_without_a_key_nothing_else_is_looked_at(client: httpx.AsyncClient, method: str, path: str) -> None:
    headers = {"Authorization": "Bearer wrong", "If-Match": "no tag", "Content-Type": "application/json"}
    problem(await client.request(method, path, content=b"{", headers=headers), 401)


async def test_ingestion_takes_the_key_as_basic_user_name(client: httpx.AsyncClient, broker: Broker) -> None:
    basic = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    body = gzip.compress(json.dumps({"batch": [{"type": "identify", "userId": "u"}]}).encode())
    answer = await client.post("/v1/batch", content=body, headers={"Authorization": basic, "Content-Type": "x"})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "ignored": 0, "errors": []})
    (record,) = broker.records
    assert (record.topic, record.key) == ("t.user-events.v1", b"u")


@pytest.mark.parametrize("how", ["away", "silent"])
async def test_ingestion_without_a_broker_is_503_and_says_when_to_come_back(
    client: httpx.AsyncClient, broker: Broker, how: str
) -> None:
    setattr(broker, how, True)
    answer = await client.post("/v1/track", json={"userId": "u", "event": "E"})
    problem(answer, 503)
    assert answer.headers["retry-after"]
    assert answer.json()["code"] and answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/batch", b"{"),
        ("/v1/batch", b'{"batch":1}'),
        ("/v1/track", b'{"event":"E"}'),
        ("/v1/identify", b"[" * 100_000),
        ("/v1/batch", b"\x1f\x8bnot gzip"),
        ("/v1/batch", gzip.compress(b"{}")[:-4]),
        ("/v1/batch", gzip.compress(b" " * (5 * 1024 * 1024))),
        ("/v1/batch", gzip.compress(b"") * 150 + gzip.compress(b'{"batch":[]}')),
        ("/v1/batch", b'{"batch":[' + b"[" * 100_000),
        ("/v1/batch", b" " * (4 * 1024 * 1024 + 1)),
    ],
)
async def test_a_bad_ingestion_body_is_400_with_code_and_message(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    answer = await client.post(path, content=body)
    problem(answer, 400)
    assert answer.json()["code"] and answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/batch", "POST"),
        ("/v1/campaigns", "GET, POST"),
        ("/v1/campaigns/cmp_1", "GET, PUT, DELETE"),
        ("/v1/settings", "GET, PUT"),
        ("/v1/campaigns/cmp_1/pause", "POST"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
async def test_another_method_is_told_all_that_the_path_takes(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    answer = await client.patch(path)
    problem(answer, 405)
    assert answer.headers["allow"] == allowed


async def test_other_paths_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/nothing"), 404)
    problem(await client.get("/v1/campaigns/"), 404)
    problem(await client.get(f"/v1/campaigns/{'a' * 5_000}"), 404)
    problem(await client.get("/v1/campaigns/%00"), 404)
    problem(await client.get("/v1/campaigns/cmp_1"), 404)
    problem(await client.post("/v1/campaigns/cmp_00000000000000000000000000/test-send"), 422)
    problem(await client.get("/v1/campaigns?limit=0"), 422)


async def test_a_page_of_a_named_origin_may_call_and_read_what_it_needs(client: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://desk.example.com"}
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,if-match"}
    answer = await client.options("/v1/campaigns/cmp_1", headers=origin | asked)
    assert answer.status_code == 200
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "If-Match" in answer.headers["access-control-allow-headers"]
    refused = await client.post("/v1/campaigns", json={}, headers=origin)
    problem(refused, 422)
    assert refused.headers["access-control-allow-origin"] == origin["Origin"]
    assert "ETag" in refused.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in refused.headers
    other = await client.get("/v1/nothing", headers={"Origin": "https://elsewhere.example.com"})
    assert "access-control-allow-origin" not in other.headers


async def call(app: FastAPI, path: str, headers: dict[str, str], *messages: dict[str, Any]) -> list[Any]:
    """What is sent for a POST whose client says `messages`, and not a word more."""
    given = iter(messages)
    sent: list[Any] = []
    raw = [(name.encode(), value.encode()) for name, value in {"authorization": f"Bearer {KEY}", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": raw, "http_version": "1.1", "scheme": "http", "server": ("api", 80)}  # fmt: skip

    async def receive() -> dict[str, Any]:
        return next(given)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_a_client_that_goes_away_in_mid_body_is_no_defect_of_ours(app: FastAPI) -> None:
    begun = {"type": "http.request", "body": b'{"batch":[', "more_body": True}
    sent = await call(app, "/v1/batch", {}, begun, {"type": "http.disconnect"})
    assert not any(message.get("status") == 500 for message in sent)


@pytest.mark.parametrize(("path", "status"), [("/v1/batch", 400), ("/v1/segments", 413)])
async def test_a_body_that_says_it_is_too_large_is_not_asked_for(app: FastAPI, path: str, status: int) -> None:
    headers = {"content-length": "9" * 30, "content-type": "application/json", "expect": "100-continue"}
    sent = await call(app, path, headers)
    assert sent[0]["status"] == status


@pytest.mark.parametrize(("path", "status"), [("/v1/batch", 400), ("/v1/segments", 413)])
@pytest.mark.parametrize("announced", ["", "99999999"])
async def test_what_is_under_way_of_a_body_that_is_too_large_is_read_up_to_a_limit(
    app: FastAPI, path: str, status: int, announced: str
) -> None:
    """A connection that is closed on unread bytes is reset, and the client never sees the answer."""
    headers = {"content-type": "application/json"} | ({"content-length": announced} if announced else {})
    piece = {"type": "http.request", "body": b" " * 1024 * 1024, "more_body": True}
    last = {"type": "http.request", "body": b"", "more_body": False}
    sent = await call(app, path, headers, *[piece] * 9, last)
    assert sent[0]["status"] == status
    sent = await call(app, path, headers, *[piece] * 23)
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{}", None, 415),
        (b"{", "application/json", 400),
        (b'"\xff"', "application/json", 400),
        (b'{"name":"\\ud800"}', "application/json", 400),
        (b"NaN", "application/json", 400),
        (b'{"name":"a\\u0000"}', "application/json", 422),
        (b'{"a\\u0000":1}', "application/json", 422),
        (b'{"n":1e999}', "application/json", 422),
        (b'{"n":' + b"9" * 400 + b"}", "application/json", 422),
        (b'{"n":99999999999999999999}', "application/json", 422),
        (b'{"n":' + b"[" * 300 + b"]" * 300 + b"}", "application/json", 422),
        (b'{"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b"", "application/json", 422),
        (b" " * 300_000, "application/json", 413),
    ],
)
async def test_bodies_that_cannot_be_read(
    client: httpx.AsyncClient, content: bytes, content_type: str | None, status: int
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for path in ("/v1/campaigns", "/v1/segments"):
        problem(await client.post(path, content=content, headers=headers), status)


KINDS = '"one_time", "multiple_dates", "recurring", "live_action", "live_inaction", "live_date"'


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, {"/kind": "is required"}),
        (
            campaign(kind="nonsense"),
            {"/kind": f"must be one of {KINDS}"},
        ),
        (campaign(colour="red"), {"/colour": "unknown field"}),
        (campaign(when={}), {"/when/at": "is required"}),
        (campaign(when={"at": "now", "quiet_hours": {}}), {"/when/quiet_hours/windows": "is required"}),
        (campaign(when={"at": ["2030-01-01T09:00:00"]}), {"/when/at": "must be text"}),
        (campaign(when="now"), {"/when": "must be an object"}),
        (campaign(kind="multiple_dates", when={"at": "now"}), {"/when/at": "must be a list"}),
        (
            campaign(kind="multiple_dates", when={"at": []}),
            {"/when/at": "List should have at least 1 item after validation, not 0"},
        ),
        (
            campaign(kind="recurring", when={"times": ["9:00"]}),
            {"/when/recurrence": "is required", "/when/times/0": 'must be a time of a 24-hour clock, such as "09:00"'},
        ),
        (
            campaign(who={"rule": {"all": []}, "reach_percent": 0}),
            {"/who/reach_percent": "Input should be greater than 0"},
        ),
        (
            campaign(who={"rule": {"all": []}, "control_percent": False}),
            {"/who/control_percent": "Input should be a valid number"},
        ),
        (
            campaign(who={"rule": {"all": []}, "limits": {"run": 0}}),
            {"/who/limits/run": "Input should be greater than or equal to 1"},
        ),
        (campaign(who={"rule": {"all": []}, "limits": {"runs": None}}), {"/who/limits/runs": "unknown field"}),
        (campaign(what={"body": "x", "variants": [{"name": "a"}]}), {"/what/variants": "not built yet"}),
        (campaign(conversion={"event": "E"}), {"/conversion": "not built yet"}),
        (
            campaign(kind="live_action", when={}, who={"trigger": {"event": "E", "within": "PT5M"}}),
            {"/who/trigger/within": "unknown field"},
        ),
        (
            campaign(kind="live_inaction", when={}, who={"trigger": {"event": "E"}}),
            {"/who/trigger/unless": "is required", "/who/trigger/within": "is required"},
        ),
        (
            campaign(kind="live_date", when={}, who={"trigger": {"date_attribute": "b", "repeat": "keep"}}),
            {"/who/trigger/repeat": "unknown field"},
        ),
    ],
)
async def test_a_wrong_campaign_names_its_fields(
    client: httpx.AsyncClient, body: dict[str, Any], found: dict[str, str]
) -> None:
    assert problem(await client.post("/v1/campaigns", json=body), 422) == found


async def test_a_form_for_all_kinds_of_triggers_may_send_what_is_empty(client: httpx.AsyncClient) -> None:
    """They get as far as the database, which is away."""
    empty = dict.fromkeys(("unless", "within", "same_property", "repeat", "date_property", "date_attribute", "offset"))
    for yearly in (None, False):
        trigger: dict[str, Any] = {"event": "E", "where": [], **empty, "at_local_time": None, "yearly": yearly}
        body = campaign(kind="live_action", when={}, who={"trigger": trigger, "filter": None})
        assert (await client.post("/v1/campaigns", json=body)).status_code == 503


async def test_the_values_that_mean_without_are_taken(client: httpx.AsyncClient) -> None:
    """They get as far as the database, which is away."""
    for limits in ({"total": None, "daily": None, "run": None}, {"run": None}, {}, None):
        body = campaign(
            who={
                "rule": {"all": []}, "reach_percent": 100, "control_percent": 0, "safety_limit": None,
                "limits": limits, "ignore_frequency_caps": False,
            },
            what={"body": "x", "variants": [], "shorten_links": False},
            conversion=None,
        )  # fmt: skip
        answer = await client.post("/v1/campaigns", json=body)
        problem(answer, 503)
        assert answer.headers["retry-after"]


async def test_the_document_describes_every_field_and_every_error(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(document)
    for name, schema in schemas.items():
        for field, described in schema.get("properties", {}).items():
            assert name == "Rule" or described.get("description"), f"{name}.{field}"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert {"401", "403", "503"} <= set(operation["responses"]), (method, path)
            assert operation["description"], (method, path)


def settings(**more: str) -> CampaignApiSettings:
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
        "DATABASE_URL": "postgresql://localhost/x",
        "POSTRIDER_SERVICE_TOKEN": "0123456789abcdef",
        "POSTRIDER_BOOTSTRAP_KEY": "a-key-of-my-own",
        "POSTRIDER_SEALING_PUBLIC_KEY": base64.b64encode(SEALING_KEY).decode(),
    }
    return CampaignApiSettings(**given | more)  # type: ignore[arg-type]


def test_the_development_key_is_for_development() -> None:
    with pytest.raises(ValueError, match="POSTRIDER_BOOTSTRAP_KEY"):
        settings(POSTRIDER_BOOTSTRAP_KEY="dev-admin-key")
    assert settings(POSTRIDER_BOOTSTRAP_KEY="dev-admin-key", POSTRIDER_DEVELOPMENT="1").development


def test_origins_are_a_list_of_origins() -> None:
    given = "https://desk.example.com, http://localhost:3000,http://[::1]:5173"
    assert settings(POSTRIDER_CORS_ORIGINS=given).cors_origins == given.replace(" ", "").split(",")
    assert settings(POSTRIDER_CORS_ORIGINS="*").cors_origins == ["*"]
    assert settings().cors_origins == []


@pytest.mark.parametrize("given", ["desk.example.com", "https://desk.example.com/", "https://*.example.com", "null"])
def test_what_is_no_origin_stops_the_start(given: str) -> None:
    with pytest.raises(ValueError, match="POSTRIDER_CORS_ORIGINS"):
        settings(POSTRIDER_CORS_ORIGINS=given)


@pytest.mark.parametrize("key", ["", "short", "*" * 44, base64.b64encode(b"x" * 31).decode()])
def test_a_sealing_key_that_is_none_stops_the_start(key: str) -> None:
    with pytest.raises(ValueError, match="POSTRIDER_SEALING_PUBLIC_KEY"):
        settings(POSTRIDER_SEALING_PUBLIC_KEY=key)


def test_metrics_carry_the_services_name() -> None:
    names = {metric.name for metric in REGISTRY.collect()}
    assert "postrider_campaign_api_events_accepted" in names


SECRET = "mark-of-a-secret-0815"
TWILIO: dict[str, Any] = {"name": "W", "kind": "twilio", "settings": {"account_sid": "AC01", "from": "+12025550100"}}
GENERIC: dict[str, Any] = {"name": "W", "kind": "generic", "settings": {"url": "https://a.example/?to=$$To&b=$$Body"}}


SHAPED: list[Any] = [
    TWILIO | {"credentials": {"auth_token": f"{SECRET} with a blank"}},
    TWILIO | {"credentials": {"token": SECRET}},
    TWILIO | {"credentials": {"auth_token": {"value": SECRET}}},
    TWILIO | {"settings": {"account_sid": "AC01", "from": SECRET, "auth_token": SECRET}},
    TWILIO | {"settings": TWILIO["settings"] | {"base_url": f"https://user:{SECRET}@a.example"}},
    GENERIC | {"settings": GENERIC["settings"] | {"auth": {"type": SECRET}}},
    GENERIC | {"settings": GENERIC["settings"] | {"auth": {"type": "basic", "username": "u", "password": SECRET}}},
    GENERIC | {"settings": GENERIC["settings"] | {"headers": {"X-Key": f"{SECRET}\n"}}},
    GENERIC | {"credentials": {"secrets": {"a": SECRET}}},
    GENERIC | {"credentials": {"client_secret": SECRET}},
]
UNSHAPED: list[Any] = [
    TWILIO | {"credentials": SECRET},
    TWILIO | {"credentials": [SECRET]},
    TWILIO | {"auth_token": SECRET},
    TWILIO | {"kind": SECRET},
    SECRET,
    [SECRET],
]


@pytest.mark.parametrize("body", UNSHAPED, ids=lambda body: str(body)[-60:])
async def test_what_is_refused_does_not_repeat_a_secret(client: httpx.AsyncClient, body: Any) -> None:
    """Somebody put it in the wrong place: the answer goes to logs of proxies and screens of others."""
    answer = await client.post("/v1/providers", json=body)
    assert answer.status_code == 422, answer.text
    assert SECRET not in answer.text


@pytest.mark.parametrize("body", SHAPED, ids=lambda body: str(body)[-60:])
def test_nor_does_what_is_wrong_with_a_provider(body: dict[str, Any]) -> None:
    problems = check_provider(body["kind"], body["settings"], body.get("credentials", {}))
    assert problems and SECRET not in str(problems)

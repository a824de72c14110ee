"""The campaign-api in this process, on real Kafka and Postgres, spoken to over ASGI; the other services by scripts."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import nacl.public
from fastapi import FastAPI, Request, Response

from campaign_api.api.services import Services
from campaign_api.app import SERVICE, build
from campaign_api.settings import CampaignApiSettings
from postrider.contracts.topics import Topic
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.topics import create_topics
from postrider.postgres.migrate import migrate
from postrider.runtime import Service
from tests.support.eventually import eventually
from tests.support.topic_log import TopicLog

KEY = "integration-admin-key"
TOKEN = "integration-service-token"
PRIVATE_KEY = nacl.public.PrivateKey.generate()
REACH: dict[str, Any] = {
    "qualified": 7,
    "reachable": 5,
    "unreachable": 1,
    "suppressed": 1,
    "duplicate_phone": 0,
    "control": 0,
    "not_in_reach": 0,
    "zones": {"UTC": 7},
    "people": [],
    "by_reason": [
        {"status": "suppressed", "reason": None, "n": 1},
        {"status": "unreachable", "reason": "no_consent", "n": 1},
    ],
    "by_zone": [{"zone": "UTC", "qualified": 7, "reachable": 5}],
    "by_country": [{"country": None, "qualified": 7, "reachable": 5}],
    "sample": None,
    "activity": None,
}
"""An estimate as the segment-engine answers it."""
PROFILE: dict[str, Any] = {
    "user_id": "u/1",
    "version": 3,
    "phone": "+919876500007",
    "phone_country": "IN",
    "country": None,
    "time_zone": None,
    "sms_consent": None,
    "suppressed": "opted_out",
    "traits": {"phone": "+919876500007", "city": "Pune"},
    "created_at": "2026-03-05T12:00:00Z",
    "updated_at": "2026-03-05T12:00:00Z",
}
TRIED: dict[str, Any] = {
    "id": "0" * 32, "campaign_id": "", "run_id": "test", "occurrence": "test", "user_id": "", "phone": "+12025550142",
    "status": "delivered", "reason": None, "variant": None, "body": "Hi", "parts": 1, "provider_id": "prv_x",
    "attempts": [
        {
            "attempt": 1, "provider_id": "prv_x", "outcome": "accepted", "code": None,
            "started_at": "2026-03-05T12:00:00Z", "ended_at": "2026-03-05T12:00:01Z",
        }
    ],
    "due_at": "2026-03-05T12:00:00Z", "updated_at": "2026-03-05T12:00:02Z", "test": True,
}  # fmt: skip
"""A test send as the dispatcher answers it."""
VERIFIED: dict[str, Any] = {
    "ok": True, "checked": True, "reason": None, "detail": "the account is right", "checked_at": "2026-03-05T12:00:00Z",
}  # fmt: skip
SEEN: dict[str, Any] = {
    "name": "amount", "types": ["number"], "examples": [59.9], "count": 3, "last_seen_at": "2026-03-05T12:00:00Z",
}  # fmt: skip
SEEN_ATTRIBUTES: dict[str, Any] = {"items": [SEEN], "more": True, "left_out": 0}
SEEN_EVENTS: dict[str, Any] = {
    "items": [
        {
            "name": "Bought", "count": 3, "last_seen_at": "2026-03-05T12:00:00Z", "properties": [SEEN],
            "properties_left_out": 0,
        }
    ],
    "more": False,
    "left_out": 0,
}  # fmt: skip


@dataclass
class Elsewhere:
    """The segment-engine and the dispatcher, as far as this service asks them: `answers` by path, or by "…/*", whatever
    stands for the rest of it."""

    answers: dict[str, Callable[[Request], Any]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def application(self) -> FastAPI:
        app = FastAPI()

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
        async def answer(path: str, request: Request) -> Response:
            self.asked.append((path, str(request.query_params)))
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            parents = [f"/{'/'.join(path.split('/')[:n])}/*" for n in range(path.count("/"), 0, -1)]
            made = self.answers[next(each for each in ("/" + path, *parents) if each in self.answers)](request)
            if asyncio.iscoroutine(made):
                made = await made
            if isinstance(made, Response):
                return made
            return Response(msgspec.json.encode(made), media_type="application/json")

        return app


@dataclass
class Running:
    client: httpx.AsyncClient
    service: Service
    elsewhere: Elsewhere
    kafka: str
    prefix: str
    log: TopicLog

    @property
    def services(self) -> Services:
        services: Services = self.service.app.state.services
        return services

    async def read_topic(self, topic: Topic) -> list[Any]:
        """Every record of a topic now, in the order of each partition."""
        return await self.log.read(topic.full_name(self.prefix))


def settings_of(kafka: str, database_url: str, prefix: str, **more: Any) -> CampaignApiSettings:
    return CampaignApiSettings(
        **{
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "DATABASE_URL": database_url,
            "POSTRIDER_TOPIC_PREFIX": f"{prefix}.",
            "POSTRIDER_SERVICE_TOKEN": TOKEN,
            "POSTRIDER_BOOTSTRAP_KEY": KEY,
            "POSTRIDER_SEALING_PUBLIC_KEY": base64.b64encode(bytes(PRIVATE_KEY.public_key)).decode(),
            "POSTRIDER_PUBLIC_URL": "https://texts.example",
            **more,
        }
    )


@asynccontextmanager
async def running(
    kafka: str, database_url: str, prefix: str, transport: httpx.AsyncBaseTransport | None = None, **more: Any
) -> AsyncIterator[Running]:
    """Migrated, topics created, components running; all stopped at the end. `transport`: to real services, in place of
    `elsewhere`."""
    settings = settings_of(kafka, database_url, prefix, **more)
    await migrate(database_url, SERVICE, "campaign_api")
    await create_topics(KafkaConfig(kafka, f"{prefix}."))
    elsewhere = Elsewhere()
    stop = asyncio.Event()
    transport = transport or httpx.ASGITransport(elsewhere.application())
    async with build(settings, internal_transport=transport) as service:
        tasks = [asyncio.ensure_future(component.run(stop)) for component in service.components]
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app, raise_app_exceptions=False),
            base_url="http://api",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=30,
        )
        log = TopicLog(KafkaConfig(kafka, f"{prefix}."))
        try:
            await eventually(lambda: service.health.ready, 30)
            yield Running(client, service, elsewhere, kafka, f"{prefix}.", log)
        finally:
            await log.close()
            stop.set()
            await asyncio.gather(*tasks)
            await client.aclose()

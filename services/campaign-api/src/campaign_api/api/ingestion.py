"""POST /v1/track, /v1/identify, /v1/batch: 200 only after the broker has the events (semantics.md §1).

The existing Segment and RudderStack SDKs decide what these paths look like: any Content-Type, gzip, Basic.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from campaign_api import metrics
from campaign_api.api import answers
from campaign_api.api.auth import EventWriter
from campaign_api.api.problems import RETRY_AFTER_SECONDS, Problem, documented
from campaign_api.api.requests import read_bounded
from campaign_api.api.services import FromServices, Services
from campaign_api.domain.ingestion import MAX_BODY_BYTES, BadBody, Intake, read_batch, read_single
from postrider.contracts.envelope import Outgoing
from postrider.postgres.outbox import PublishFailed

router = APIRouter(prefix="/v1", tags=["ingestion"])

_GZIP = b"\x1f\x8b"
MAX_GZIP_MEMBERS = 100
"""SDKs write one. Each member costs a copy of what follows it."""
INLINE_BYTES = 64 * 1024
"""Larger bodies are read in a thread: four megabytes made to be slow must not hold up everybody else."""


def _documented(example: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def _text(description: str, *or_types: str) -> dict[str, Any]:
    return {"type": ["string", *or_types] if or_types else "string", "description": description}


_MESSAGE: dict[str, Any] = {
    "type": "object",
    "description": "A message of the Segment tracking spec. Unknown fields are ignored. At most 32 KB.",
    "properties": {
        "type": _text("track or identify; the path says it where there is one. page, screen, group, alias: ignored."),
        "messageId": _text("The key for deduplication, at most 256 characters; made when absent.", "null"),
        "userId": _text("The person, at most 256 characters. Without one, an anonymousId makes it ignored.", "null"),
        "anonymousId": _text("Somebody without a userId: ignored and counted.", "null"),
        "event": _text("track: name of the event, at most 512 characters.", "null"),
        "properties": {"type": ["object", "null"], "description": "track: values of the event, at most 256."},
        "traits": {
            "type": ["object", "null"],
            "description": "identify: values of the profile, at most 256; null deletes. context.traits counts too.",
        },
        "timestamp": _text("When it happened, RFC 3339; absent: now. Wins over originalTimestamp.", "null"),
        "originalTimestamp": _text("When it happened, as SDKs call it.", "null"),
        "historic": {"type": "boolean", "description": "Counts for segments, triggers nothing."},
    },
}
_TRACK = {
    "messageId": "m-1",
    "userId": "u-42",
    "event": "Added to Cart",
    "timestamp": "2026-12-01T08:00:00Z",
    "properties": {"cart_id": "c-9", "amount": 59.9},
}
_IDENTIFY = {"userId": "u-42", "traits": {"first_name": "Ada", "phone": "+15550100123", "timezone": "America/New_York"}}
_BATCH = {
    "type": "object",
    "required": ["batch"],
    "properties": {
        "batch": {"type": "array", "maxItems": 1_000, "items": _MESSAGE, "description": "Up to 1,000 messages."},
        "historic": {"type": "boolean", "description": "An import: counts for segments, triggers nothing."},
    },
}
_RESULT = {
    200: {
        "description": "The broker has what was accepted.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["accepted", "ignored", "errors"],
                    "properties": {
                        "accepted": {"type": "integer", "description": "Messages the broker has."},
                        "ignored": {"type": "integer", "description": "Of no use here: page, screen, anonymous, …"},
                        "errors": {
                            "type": "array",
                            "description": "One per message that is wrong; the others were accepted.",
                            "items": {"$ref": "#/components/schemas/ErrorItem"},
                        },
                    },
                }
            }
        },
    },
    **documented(400, 408),
}


@router.post("/track", responses=_RESULT, openapi_extra=_documented(_TRACK, _MESSAGE))
async def track(request: Request, services: FromServices, caller: EventWriter) -> Response:
    """One event."""
    return await _take_single(request, services, "track")


@router.post("/identify", responses=_RESULT, openapi_extra=_documented(_IDENTIFY, _MESSAGE))
async def identify(request: Request, services: FromServices, caller: EventWriter) -> Response:
    """Traits of one profile."""
    return await _take_single(request, services, "identify")


@router.post(
    "/batch",
    responses=_RESULT,
    openapi_extra=_documented({"batch": [{"type": "track", **_TRACK}, {"type": "identify", **_IDENTIFY}]}, _BATCH),
)
async def batch(request: Request, services: FromServices, caller: EventWriter) -> Response:
    """Up to 1,000 messages and 4 MB, gzip accepted. A bad message is listed in `errors` and fails nothing else."""
    return await _take(request, services, read_batch)


async def _take_single(request: Request, services: Services, type: str) -> Response:
    return await _take(request, services, partial(read_single, type=type))


async def _take(request: Request, services: Services, read: Callable[[bytes, datetime], Intake]) -> Response:
    data = await _body(request)
    received_at = services.clock.now()
    try:
        if len(data) > INLINE_BYTES:
            intake = await asyncio.to_thread(read, data, received_at)
        else:
            intake = read(data, received_at)
    except BadBody as error:
        raise Problem(400, f"{error.problem.pointer or '/'}: {error}", [error.problem]) from error
    return await _publish(services, intake)


async def _publish(services: Services, intake: Intake) -> Response:
    topic = services.user_events_topic
    if intake.records:
        records = [Outgoing(topic, user_id.encode(), value) for user_id, value in intake.records]
        try:
            async with asyncio.timeout(services.ingestion_wait_seconds):
                await services.publisher.publish(records)
        except (PublishFailed, TimeoutError) as error:
            metrics.INGESTION_FAILURES.inc()
            detail = "Kafka does not acknowledge: send the same messages again, with the same messageIds"
            raise Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}) from error
    metrics.EVENTS_ACCEPTED.inc(len(intake.records))
    for reason, n in intake.ignored_by.items():
        metrics.EVENTS_IGNORED.labels(reason).inc(n)
    metrics.EVENTS_REFUSED.inc(len(intake.errors))
    errors = [{"pointer": error.pointer, "message": error.message} for error in intake.errors]
    return answers.answer({"accepted": len(intake.records), "ignored": intake.ignored, "errors": errors})


async def _body(request: Request) -> bytes:
    """The body, unpacked. What it says it is does not matter: RudderStack's Node SDK gzips JSON as a form."""
    data = await read_bounded(request, MAX_BODY_BYTES, 400)
    return _unpack(data) if data.startswith(_GZIP) else data


def _unpack(data: bytes) -> bytes:
    """Never more than the limit in memory, whatever it unpacks to."""
    parts: list[bytes] = []
    size = 0
    while data:
        if len(parts) == MAX_GZIP_MEMBERS:
            raise Problem(400, f"the gzip body has more than {MAX_GZIP_MEMBERS} members")
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(data, MAX_BODY_BYTES - size + 1)
        except zlib.error as error:
            raise Problem(400, "the body is not gzip, although it begins like it") from error
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Problem(400, f"the body is larger than {MAX_BODY_BYTES} bytes unpacked")
        if not member.eof:
            raise Problem(400, "the gzip body is cut short")
        parts.append(part)
        data = member.unused_data
    return b"".join(parts)

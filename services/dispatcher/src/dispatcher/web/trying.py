"""Trying providers out, for the campaign-api: a harmless call, and test sends. Service token only.

Each answers for the definitions as they were in Kafka when it was asked, so that whoever has just saved a provider may
try it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request

from dispatcher.domain.verification import explain
from dispatcher.fleet import Fleet
from dispatcher.providers.base import Verification
from dispatcher.store.trials import Trial
from dispatcher.trials import Asked, Suppressed, Trials
from dispatcher.web.internal import internal_routes, rfc3339
from postrider.clock import Clock
from postrider.contracts.delivery_events import TEST_RUN, AttemptSummary
from postrider.kafka.definitions import DefinitionsReader
from postrider.logs import failure, log

READ_SECONDS = 3.0
VERIFY_SECONDS = 15.0
"""Whatever the provider's own timeout, somebody is looking at a page meanwhile."""

_ask = msgspec.json.Decoder(Asked)

Wait = Annotated[float, Query(ge=0, le=30)]
MessageId = Annotated[str, Query(pattern="^[0-9a-f]{32}$")]


def router(token: str, fleet: Fleet, trials: Trials, definitions: DefinitionsReader, clock: Clock) -> APIRouter:
    routes = internal_routes(token)

    async def read_up(provider_ids: Iterable[str]) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                await definitions.wait_until_confirmed()
                for id in provider_ids:
                    await fleet.built(id)
        except TimeoutError:
            raise _later("the definitions are being read") from None

    @routes.post("/providers/{provider_id}/verify")
    async def verify(provider_id: str) -> dict[str, Any]:
        """The adapter's harmless authenticated call, now."""
        await read_up([provider_id])
        definition = fleet.definition(provider_id)
        if definition is None:
            raise _later("the provider is not published yet")
        unusable, adapter = fleet.unusable(provider_id), fleet.adapter(provider_id)
        if unusable is not None or adapter is None:
            detail = f"the dispatcher cannot use it: {unusable}"
            return _verified(definition.kind, Verification(False, "unusable"), clock.now(), detail)
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                found = await adapter.verify()
        except TimeoutError:
            found = Verification(False, "timeout")
        except Exception as error:  # noqa: BLE001  # an adapter's bug is no answer, and none of a caller's business
            log.error("verify_failed", provider=provider_id, **failure(error))
            found = Verification(False, "failed")
        return _verified(definition.kind, found, clock.now())

    @routes.post("/test-sends")
    async def send(request: Request, wait_seconds: Wait = 5.0) -> dict[str, Any]:
        """Kept, and sent once, whoever asks how often; answered when something is known of it, or with what is known
        after `wait_seconds`."""
        try:
            asked = _ask.decode(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(422, "no test send") from error
        await read_up(())
        candidates = fleet.network.candidates(asked.what, asked.country)
        await read_up(candidates)
        if not any(fleet.network.is_active(id) for id in candidates):
            raise _later("no provider that could carry it is published yet")
        try:
            await trials.keep(asked)
        except Suppressed as refused:
            raise HTTPException(409, f"the phone is suppressed: {refused.reason}") from refused
        found = await trials.read(asked.message_id, wait_seconds)
        assert found is not None
        return shown(found)

    @routes.get("/test-sends")
    async def read(message_id: MessageId, wait_seconds: Wait = 0.0) -> dict[str, Any]:
        found = await trials.read(message_id, wait_seconds)
        if found is None:
            raise HTTPException(404, "there is no such test send")
        return shown(found)

    return routes


def shown(trial: Trial) -> dict[str, Any]:
    """As the message log shows it."""
    message = trial.message
    return {
        "id": message.message_id,
        "campaign_id": message.run_id,
        "run_id": TEST_RUN,
        "occurrence": message.occurrence,
        "user_id": message.user_id,
        "phone": message.phone,
        "status": message.status,
        "reason": message.reason or None,
        "variant": None,
        "body": message.body or None,
        "parts": message.parts or None,
        "provider_id": message.provider_id or None,
        "attempts": [_attempt(each) for each in trial.attempts],
        "due_at": rfc3339(message.due_at),
        "updated_at": rfc3339(trial.updated_at),
        "test": True,
    }


def _attempt(attempt: AttemptSummary) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "provider_id": attempt.provider_id,
        "outcome": attempt.outcome,
        "code": attempt.code or None,
        "started_at": rfc3339(attempt.at),
        "ended_at": None if attempt.ended_at is None else rfc3339(attempt.ended_at),
    }


def _verified(kind: str, found: Verification, at: datetime, detail: str = "") -> dict[str, Any]:
    if not found.is_checked:
        detail = f"not checkable: {found.proven}"
    elif found.ok:
        detail = found.proven
    return {
        "ok": found.ok if found.is_checked else None,
        "checked": found.is_checked,
        "reason": None if found.ok and found.is_checked else found.reason,
        "detail": detail or f"not verified: {explain(kind, found.reason or 'unexpected_reply')}",
        "checked_at": rfc3339(at),
    }


def _later(why: str) -> HTTPException:
    return HTTPException(503, why, {"Retry-After": "2"})

"""What other services ask of the dispatcher: the sandbox's inbox, suppressions, a played answer. Service token only."""

from __future__ import annotations

import base64
import binascii
import hmac
import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from dispatcher.fleet import Fleet
from dispatcher.opt_out import OptOut
from dispatcher.providers.base import BadWebhook, WebhookRequest
from dispatcher.sealed import Keys, Unsealable
from dispatcher.store import suppressions
from dispatcher.store.sandbox import PostgresInbox
from postrider.logs import failure, log
from postrider.phones import normalise
from postrider.postgres.database import Database, is_outage

Limit = Annotated[int, Query(ge=1, le=1_000)]
Phone = Annotated[str | None, Query(max_length=64, pattern=r"^\+?[0-9 ().-]*$")]


class WaitingRoute(APIRoute):
    """503 while Postgres is away: the caller asks again. The error's own words may hold a phone and go nowhere."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def patiently(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("internal_call_failed", path=request.url.path, **failure(error))
                raise HTTPException(503, "the database is away", {"Retry-After": "5"}) from None

        return patiently


class SuppressionIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    phone: str = Field(max_length=64, description="E.164.")
    reason: Literal["opted_out", "provider_opt_out", "blocked", "complaint"]
    source: str = Field("api", max_length=200, pattern=r"^[^\x00]*$")


class ReplyIn(BaseModel):
    """A person answers a text: to a sandbox provider, named by its id (or the only one there is)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from", max_length=64, description="E.164.")
    to: str = Field("SANDBOX", max_length=64)
    provider_id: str = Field(max_length=64)
    body: str = Field(max_length=1_600)


class SealedIn(BaseModel):
    """Credentials that are sealed to the key of this dispatcher, or to the one before it."""

    model_config = ConfigDict(extra="forbid")

    sealed: str = Field(max_length=200_000)


def internal_routes(token: str) -> APIRouter:
    """Without the service token nothing is answered."""

    async def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the service token is missing or wrong")

    return APIRouter(prefix="/internal", tags=["internal"], dependencies=[Depends(authorised)],
                     route_class=WaitingRoute)  # fmt: skip


def router(
    token: str, database: Database, inbox: PostgresInbox, opt_out: OptOut, fleet: Fleet, keys: Keys
) -> APIRouter:
    routes = internal_routes(token)

    @routes.get("/sandbox/inbox")
    async def read_inbox(
        phone: Phone = None,
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=40)] = None,
    ) -> dict[str, Any]:
        """Texts that sandbox providers "delivered", newest first."""
        before = None if cursor is None else _number(cursor)
        texts = await inbox.listing(phone, before, limit + 1)
        items = [
            {
                "to": each.to, "from": each.from_, "body": each.body, "campaign_id": each.campaign_id,
                "user_id": each.user_id, "provider_id": each.provider_id, "parts": each.parts,
                "at": rfc3339(each.at), "message_id": each.message_id,
            }
            for each in texts[:limit]
        ]  # fmt: skip
        return {"items": items, "next_cursor": str(texts[limit - 1].id) if len(texts) > limit else None}

    @routes.post("/sandbox/reply", status_code=200)
    async def play_reply(body: ReplyIn) -> dict[str, Any]:
        """Does what the provider's inbound callback would do with this text; returns after its commit."""
        adapter = fleet.adapter(body.provider_id)
        if adapter is None or adapter.kind != "sandbox":
            raise HTTPException(404, "no such sandbox provider")
        raw = msgspec.json.encode({"from": body.from_, "to": body.to, "body": body.body, "id": uuid.uuid4().hex})
        try:
            texts = adapter.parse_inbound(WebhookRequest("POST", "", {}, raw))
        except BadWebhook as error:
            raise HTTPException(422, str(error)) from error
        for text in texts:
            await opt_out.receive(body.provider_id, text)
        return {"keyword": texts[0].keyword if texts else None}

    @routes.post("/suppressions", status_code=201)
    async def add_suppression(body: SuppressionIn) -> dict[str, Any]:
        """From the answer on no call to this phone begins."""
        phone = normalise(body.phone).e164
        if phone is None:
            raise HTTPException(422, "phone is not E.164")
        await opt_out.suppress(phone, body.reason, body.source)
        return {"phone": phone, "reason": body.reason, "source": body.source}

    @routes.post("/reseal")
    async def reseal(body: SealedIn) -> dict[str, str]:
        """The same credentials, sealed to the current key: nobody who asks can read either."""
        try:
            return {"sealed": keys.reseal(body.sealed), "sealed_to": keys.current}
        except Unsealable as error:
            raise HTTPException(422, str(error)) from None

    @routes.get("/suppressions")
    async def list_suppressions(
        phone: Phone = None,
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> dict[str, Any]:
        """Phones that must not be texted, newest first."""
        async with database.begin() as tx:
            found = await suppressions.listing(tx, phone, _position(cursor), limit + 1)
        items = [
            {"phone": number, "reason": reason, "source": source, "at": rfc3339(at)}
            for number, reason, source, at, _ in found[:limit]
        ]
        last = found[limit - 1] if len(found) > limit else None
        return {"items": items, "next_cursor": None if last is None else _cursor(last[3], last[4])}

    return routes


def rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _number(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise HTTPException(422, "cursor is not one of ours")
    return int(cursor)


def _cursor(at: datetime, phone_hash: bytes) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{phone_hash.hex()}".encode()).decode()


def _position(cursor: str | None) -> tuple[datetime, bytes] | None:
    if cursor is None:
        return None
    try:
        at, _, hashed = base64.urlsafe_b64decode(cursor).decode().partition("|")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return moment, bytes.fromhex(hashed)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, "cursor is not one of ours") from error

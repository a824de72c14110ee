"""Trying providers and campaigns out: `/verify`, `/test-send`, and where a test send is seen again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.api import answers
from campaign_api.api.auth import CampaignWriter, ProviderWriter, Reader
from campaign_api.api.models.reports import MessagePage
from campaign_api.api.models.trying import CampaignTestIn, ProviderTestIn, TestSend, Verification
from campaign_api.api.problems import BODY_ERRORS, Problem, documented
from campaign_api.api.providers import phone_of
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices, Services
from campaign_api.domain.errors import Conflict, FieldProblem, Invalid, NotFound
from campaign_api.domain.keys import Caller
from campaign_api.handlers import common, trying
from campaign_api.store import idempotency, resources
from campaign_api.upstream import RefusedByPart
from postrider.contracts import codec
from postrider.contracts.delivery_events import OPEN_STATUSES, STATUSES, TEST_RUN
from postrider.phones import normalise

router = APIRouter(prefix="/v1", route_class=StrictRoute)

VERIFY_SECONDS: Final = 25.0
"""Longer than the dispatcher takes at most."""
WAIT_SECONDS: Final = 8.0
"""How long a test send is waited for before the answer is 202."""
PATH: Final = "/v1/test-sends"
_ID = re.compile(r"[0-9a-f]{32}")
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    **documented(*BODY_ERRORS, 404, 409),
    202: {"model": TestSend, "description": "On its way, or in doubt: `Location` says where to look."},
}


@router.post("/providers/{id}/verify", tags=["providers"], response_model=Verification, responses=documented(404, 409))
async def verify_provider(services: FromServices, id: answers.ProviderId, caller: ProviderWriter) -> Response:
    """Make a harmless authenticated call at the vendor, now, and say what it showed. Wrong credentials, a host that is
    not there, a vendor that hangs: 200 with `ok` false and why. Where a kind has no such call `ok` is null. At most
    half a minute; 503: the dispatcher is away, or has not read the provider yet."""
    async with services.database.begin() as tx:
        await common.get(tx, "provider", id)
    return answers.answer(await services.dispatcher.post(f"/internal/providers/{id}/verify", {}, VERIFY_SECONDS))


@router.post("/providers/{id}/test-send", tags=["providers"], status_code=201, response_model=TestSend,
             responses=_ANSWERS)  # fmt: skip
async def test_send_by_provider(
    body: ProviderTestIn,
    request: Request,
    services: FromServices,
    id: answers.ProviderId,
    caller: ProviderWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Send one text by this provider, outside of all campaigns. 201: the provider has answered, and `status` says how;
    202: nothing is known yet, look at `Location`. A refusal is not tried again, a doubt neither. An `Idempotency-Key`
    that comes again never texts twice. 409: the phone is suppressed, or the provider archived."""

    async def ask(tx: AsyncConnection) -> dict[str, Any]:
        return await trying.of_provider(tx, id, body.model_dump(mode="json"))

    return await _send(services, request, caller, key, body, ask)


@router.post("/campaigns/{id}/test-send", tags=["campaigns"], status_code=201, response_model=TestSend,
             responses=_ANSWERS)  # fmt: skip
async def test_send_of_campaign(
    body: CampaignTestIn,
    request: Request,
    services: FromServices,
    id: answers.CampaignId,
    caller: CampaignWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Send the campaign's text to one phone, in any state of the campaign, with a person's values or those given here.
    It counts nowhere, and obeys suppressions only. 201: the provider has answered, and `status` says how; 202: nothing
    is known yet, look at `Location`. An `Idempotency-Key` that comes again never texts twice."""

    async def ask(tx: AsyncConnection) -> dict[str, Any]:
        return await trying.of_campaign(tx, id, body.model_dump(mode="json"))

    return await _send(services, request, caller, key, body, ask)


@router.get("/test-sends", tags=["reports"], response_model=MessagePage, responses=documented(422))
async def list_test_sends(
    services: FromServices,
    caller: Reader,
    campaign_id: str | None = Query(None, max_length=64, description="Of one campaign."),
    status: str | None = Query(None, max_length=40, description="Message status."),
    limit: answers.Limit = 50,
    cursor: str | None = Query(None, max_length=1_000, description="`next_cursor` of the page before."),
) -> Response:
    """Test sends in the message log, those of providers too. One shows about a second after it was sent."""
    if status is not None and status not in STATUSES:
        raise Invalid([FieldProblem("/query/status", f"must be one of {', '.join(STATUSES)}")])
    filters = {"run_id": TEST_RUN, "campaign_id": campaign_id, "status": status, "limit": limit, "cursor": cursor}
    return answers.answer(await answers.page_of(services.segment_engine, "/internal/messages", filters))


@router.get("/test-sends/{id}", tags=["reports"], response_model=TestSend, responses=documented(404))
async def read_test_send(
    services: FromServices, id: Annotated[str, Path(description="Id of the message.")], caller: Reader
) -> Response:
    """One test send as it is now, for as long as the dispatcher's ledger remembers it (30 days)."""
    if not _ID.fullmatch(id):
        raise NotFound("there is no such test send")
    return answers.answer(await services.dispatcher.get("/internal/test-sends", {"message_id": id}))


async def _send(
    services: Services,
    request: Request,
    caller: Caller,
    key: str | None,
    body: CampaignTestIn | ProviderTestIn,
    ask: Callable[[AsyncConnection], Awaitable[dict[str, Any]]],
) -> Response:
    """The key is kept before the dispatcher is asked: who repeats it meets the same text, whatever became of the first
    request and whatever has been edited since."""
    id = trying.message_id_of(caller.key_id, key)
    if key is not None and await _is_known_key(services, request, caller, key, body):
        with contextlib.suppress(RefusedByPart):  # it never came that far
            named: dict[str, str | int | None] = {"message_id": id, "wait_seconds": int(WAIT_SECONDS)}
            return _shown(id, await services.dispatcher.get("/internal/test-sends", named))
    async with services.database.begin() as tx:
        asked = await ask(tx)
    to = await phone_of(services, body.to, "/to")
    refers_to = asked["what"]["references"]
    asked |= {"message_id": id, "phone": to, "country": normalise(to).country, "user_id": body.user_id or ""}
    asked["profile"] = _only(refers_to["profile"], await _traits(services, body.user_id) | body.profile)
    asked["event"] = _only(refers_to["event"], body.event)
    if key is not None:
        await _keep_key(services, request, caller, key, body, id)
    try:
        path = f"/internal/test-sends?wait_seconds={WAIT_SECONDS:g}"
        return _shown(id, await services.dispatcher.post(path, asked, WAIT_SECONDS + 10))
    except RefusedByPart as refused:
        if key is not None:
            async with services.database.begin() as tx:
                await idempotency.forget(tx, caller.key_id, key)
        said = refused.body.get("detail") if isinstance(refused.body, dict) else None
        if refused.status == 409:
            raise Conflict(str(said), [FieldProblem("/to", str(said))]) from refused
        raise


def _shown(id: str, sent: Any) -> Response:
    is_known = sent["status"] not in OPEN_STATUSES
    return answers.answer(sent, 201 if is_known else 202, {"Location": f"{PATH}/{id}"})


async def _traits(services: Services, user_id: str | None) -> dict[str, Any]:
    if user_id is None:
        return {}
    try:
        found = await services.segment_engine.get("/internal/profile", {"user_id": user_id})
    except RefusedByPart as refused:
        raise Invalid([FieldProblem("/user_id", "there is no such profile")]) from refused
    traits: dict[str, Any] = found["traits"]
    return traits


def _only(names: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates refer to, as a text of the campaign would carry it."""
    return {name: values[name] for name in names if name in values}


async def _is_known_key(services: Services, request: Request, caller: Caller, key: str, body: BaseModel) -> bool:
    """Raises `Problem` when it was used for something else."""
    async with services.database.begin() as tx:
        former = await idempotency.find(tx, caller.key_id, key)
    if former is not None and former.fingerprint != answers.fingerprint(request, body):
        raise Problem(409, "this Idempotency-Key was used for another request")
    return former is not None


async def _keep_key(services: Services, request: Request, caller: Caller, key: str, body: BaseModel, id: str) -> None:
    async with services.database.begin() as tx:
        await resources.lock_configuration(tx)
        former = await idempotency.find(tx, caller.key_id, key)
        if former is None:
            reply = codec.encode({"id": id}).decode()
            print_ = answers.fingerprint(request, body)
            await idempotency.save(tx, caller.key_id, key, idempotency.Reply(print_, id, 202, reply, None))
        elif former.fingerprint != answers.fingerprint(request, body):
            raise Problem(409, "this Idempotency-Key was used for another request")

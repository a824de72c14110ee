"""Who asks, and whether they may: API keys as Bearer, on ingestion also as the user name of Basic.

A key that was seen valid is trusted for two seconds; deleting it here takes effect here at once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBasic, HTTPBearer

from campaign_api.api.problems import Problem
from campaign_api.api.services import Services, services_of
from campaign_api.domain.keys import Caller, all_scopes, is_valid, split_key
from campaign_api.store import api_keys

TRUST_SECONDS = 2.0
MAX_KNOWN_CALLERS = 10_000
BOOTSTRAP_ID = "bootstrap"

_CALLER = "postrider.caller"
"""Where the request's scope remembers who asks: a key is looked up once a request."""

_bearer = HTTPBearer(auto_error=False, description="An API key.", scheme_name="ApiKey")
_basic = HTTPBasic(auto_error=False, description="The API key as user name.", scheme_name="WriteKey")


def _checked(scope: str, *, allow_basic: bool) -> Callable[..., Coroutine[Any, Any, Caller]]:
    async def caller_with_bearer(request: Request, _: Annotated[object, Depends(_bearer)] = None) -> Caller:
        return await _authorised(request, scope, allow_basic=False)

    async def caller_with_either(
        request: Request, _: Annotated[object, Depends(_bearer)] = None, __: Annotated[object, Depends(_basic)] = None
    ) -> Caller:
        return await _authorised(request, scope, allow_basic=True)

    return caller_with_either if allow_basic else caller_with_bearer


Admin = Annotated[Caller, Security(_checked("admin", allow_basic=False))]
Reader = Annotated[Caller, Security(_checked("campaigns:read", allow_basic=False))]
CampaignWriter = Annotated[Caller, Security(_checked("campaigns:write", allow_basic=False))]
ProviderWriter = Annotated[Caller, Security(_checked("providers:write", allow_basic=False))]
EventWriter = Annotated[Caller, Security(_checked("events:write", allow_basic=True))]
"""The caller, when the key has the scope; otherwise 401 or 403."""


async def _authorised(request: Request, scope: str, *, allow_basic: bool) -> Caller:
    caller = await authenticate(request, allow_basic=allow_basic)
    if not caller.may(scope):
        raise Problem(403, f"the API key lacks the scope {scope}")
    return caller


async def authenticate(request: Request, *, allow_basic: bool = False) -> Caller:
    """Whose key it is, whatever it may do. Raises `Problem` (401)."""
    known: Caller | None = request.scope.get(_CALLER)
    if known is not None:
        return known
    presented = _presented(request.headers.get("authorization"), allow_basic=allow_basic)
    caller = await _identify(services_of(request), presented) if presented else None
    if caller is None:
        detail = "an API key is needed as Bearer token" if not presented else "the API key is unknown or expired"
        raise Problem(401, detail, headers={"WWW-Authenticate": "Basic" if allow_basic else "Bearer"})
    request.scope[_CALLER] = caller
    return caller


def _presented(header: str | None, *, allow_basic: bool) -> str | None:
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value or None
    if scheme.lower() == "basic" and allow_basic:
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


async def _identify(services: Services, presented: str) -> Caller | None:
    if hmac.compare_digest(presented.encode(), services.bootstrap_key.encode()):
        return Caller(BOOTSTRAP_ID, frozenset({"admin"}))
    split = split_key(presented)
    if split is None:
        return None
    key_id, secret_hash = split
    trusted = services.known_callers.get(presented)
    if trusted is not None and services.clock.monotonic() < trusted[0]:
        return trusted[1]
    async with services.database.begin() as tx:
        stored = await api_keys.find(tx, key_id)
    if stored is None or not is_valid(stored, secret_hash, services.clock.now()):
        services.known_callers.pop(presented, None)
        return None
    caller = Caller(key_id, all_scopes(stored.scopes))
    if len(services.known_callers) >= MAX_KNOWN_CALLERS:
        services.known_callers.clear()
    services.known_callers[presented] = (services.clock.monotonic() + TRUST_SECONDS, caller)
    return caller


def forget(services: Services, key_id: str) -> None:
    """A deleted key is worth nothing from now on."""
    for presented, (_, caller) in list(services.known_callers.items()):
        if caller.key_id == key_id:
            del services.known_callers[presented]

"""A generic HTTP provider: whatever API a configuration describes, one text a call or several.

What it may hold and means is in postrider/contracts/generic_provider.py and docs/providers.md; the outcome table's
defaults are in generic_reply.py, since codes are the configuration's. There is no look-up and no idempotency key: a
text in doubt is settled by a receipt that names our `$$MessageID`, or by the campaign's policy.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import CalledOff, HttpPort, HttpRequest, InDoubt, NotSent
from dispatcher.providers import clevertap_callback
from dispatcher.providers.base import (
    BadWebhook,
    Capabilities,
    InboundText,
    LookUp,
    LookUpResult,
    OutgoingText,
    Receipt,
    Unavailable,
    Verification,
    WebhookRequest,
    all_may_begin,
    origin_of,
)
from dispatcher.providers.generic_reply import classify
from dispatcher.providers.generic_request import Request, RequestTemplate
from dispatcher.providers.oauth import NoToken, TokenSource
from postrider.contracts.generic_provider import GenericConfig, read_generic
from postrider.contracts.placeholders import pieces

PROVIDER, CONTENT, DOUBT = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_CONTENT, Outcome.IN_DOUBT
LEAST_CALL_SECONDS = 0.25
"""What a token may leave of the timeout: with less, the call is not begun."""


class GenericAdapter:
    """One account, as configured. `settings` passed check_provider and with_defaults; owns `http`. A `BatchAdapter`,
    whose calls carry one text when the configuration has no batch. `monotonic` is for tests."""

    def __init__(
        self,
        provider_id: str,
        settings: Mapping[str, Any],
        credentials: Mapping[str, Any],
        http: HttpPort,
        *,
        kind: str = "generic",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.provider_id = provider_id
        config = read_generic(settings)
        secrets: Mapping[str, str] = credentials.get("secrets") or {}
        self._config = config
        self._http = http
        self._monotonic = monotonic
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._template = RequestTemplate(config, secrets)
        self._basic = _basic(config, credentials)
        self._tokens = _token_source(config, credentials, secrets, http, monotonic)
        receipts = config.receipts == "clevertap"
        self.capabilities = Capabilities(
            look_up=False,
            idempotent=False,
            receipts=receipts,
            batch_size=config.batch.size if config.batch is not None else 1,
            callback_reply=clevertap_callback.ACCEPTED_REPLY if receipts else b"",
        )
        self.origin = origin_of(f"{config.url} {config.auth.username} {config.auth.client_id}", "")

    def batch_key(self, text: OutgoingText) -> Hashable:
        """Outside the array's elements a call has one value for everything: the campaign's, rendered."""
        if self._config.batch is None:
            return text.message_id, text.attempt
        filled = text.filled
        return (
            text.campaign_id,
            filled.template_id,
            tuple(sorted(filled.header_pairs)),
            tuple(sorted(filled.global_pairs)),
        )

    async def submit(self, text: OutgoingText) -> SubmitResult:
        (result,) = await self._submit([text])
        if result is None:
            raise CalledOff
        return result

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        if len({self.batch_key(text) for text in texts}) > 1:
            return [SubmitResult(CONTENT, code="not_one_batch", not_begun=True)] * len(texts)
        return await self._submit(texts)

    async def _submit(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        built = self._template.build(texts)
        results: dict[int, SubmitResult | None] = {
            place: SubmitResult(CONTENT, code=code, detail="does not fit the configuration", not_begun=True)
            for place, code in built.refused.items()
        }
        if built.request is not None:
            sent = [place for place in range(len(texts)) if place not in results]
            try:
                results.update(
                    zip(sent, await self._call(built.request, [texts[place] for place in sent]), strict=True)
                )
            except CalledOff:
                results.update(dict.fromkeys(sent))
        return [results[place] for place in range(len(texts))]

    async def _call(self, request: Request, texts: Sequence[OutgoingText]) -> list[SubmitResult]:
        """One call, at most once on the wire. What it says of each text. Raises CalledOff. The call for a token is
        everybody's, and carries no text: it is not called off."""
        seconds = self._timeout_seconds
        token: str | None = None
        if self._tokens is not None:
            ends_at = self._monotonic() + seconds
            try:
                token = await self._tokens.token(seconds / 2)
            except NoToken as failure:
                return [SubmitResult(PROVIDER, code=f"token_{failure.reason}", not_begun=True)] * len(texts)
            request.headers["Authorization"] = f"Bearer {token}"
            seconds = max(ends_at - self._monotonic(), LEAST_CALL_SECONDS)
        elif self._basic is not None:
            request.headers["Authorization"] = self._basic
        may_begin = all_may_begin(texts)
        try:
            response = await self._http.send(
                HttpRequest(request.method, request.url, request.headers, request.body, seconds, may_begin)
            )
        except NotSent as failure:
            return [SubmitResult(PROVIDER, code=failure.reason, detail="not sent", not_begun=True)] * len(texts)
        except InDoubt as failure:
            return [SubmitResult(DOUBT, code=failure.reason, detail="no whole reply")] * len(texts)
        if self._tokens is not None and token is not None:
            if response.status == 401:
                self._tokens.refused(token)
            else:
                self._tokens.worked()
        sent_to = [text.to for text in texts]
        return classify(self._config.reply, response, texts, sent_to)

    async def look_up(self, query: LookUp) -> LookUpResult:
        return Unavailable("no_look_up")

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        """Not signed: the secret in the URL, which was checked before, is all there is."""
        if self._config.receipts != "clevertap":
            raise BadWebhook("this provider is configured without receipts")
        return clevertap_callback.receipts_of(request.raw_body)

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        """A reply comes as a receipt's event `replied`, which names the text and not the number it is from."""
        raise BadWebhook("replies come with the receipts")

    async def verify(self) -> Verification:
        """No call of an API nobody knows is harmless; but a token can be had."""
        if self._tokens is None:
            return Verification(True, "no_harmless_call", False, "no call of an API that nobody knows is harmless")
        try:
            await self._tokens.token(self._timeout_seconds)
        except NoToken as failure:
            return Verification(False, f"token_{failure.reason}")
        return Verification(True, proven="a token can be had; what the API itself takes is not checkable")

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()
        await self._http.close()


def _basic(config: GenericConfig, credentials: Mapping[str, Any]) -> str | None:
    if config.auth.type != "basic":
        return None
    user = f"{config.auth.username}:{credentials['password']}".encode()
    return f"Basic {base64.b64encode(user).decode()}"


def _token_source(
    config: GenericConfig,
    credentials: Mapping[str, Any],
    secrets: Mapping[str, str],
    http: HttpPort,
    monotonic: Callable[[], float],
) -> TokenSource | None:
    auth = config.auth
    if auth.type != "oauth2":
        return None
    extra = {
        name: "".join(piece if isinstance(piece, str) else secrets[piece.name] for piece in pieces(value))
        for name, value in auth.extra
    }
    return TokenSource(
        http,
        auth.token_url,
        auth.client_id,
        str(credentials["client_secret"]),
        in_body=auth.client_auth == "body",
        extra=extra,
        monotonic=monotonic,
    )

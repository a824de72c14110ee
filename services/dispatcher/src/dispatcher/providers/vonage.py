"""Vonage SMS API (formerly Nexmo): what its statuses and codes mean, submit, receipts, inbound texts, signatures.

Sources: Vonage's SMS API reference (OpenAPI of `sms`), and its pages "Troubleshooting SMS", "Delivery receipts",
"SMS delivery error codes", "Inbound SMS", "Signing messages" and "Account balance". Marked [K]: general knowledge, not
confirmed on a live account.

There is no idempotency key, so this adapter never retries. Nor is there a look-up (docs/decisions/vonage.md): a text in
doubt is proven by a receipt with our reference, or by nothing. A long text is answered part by part and has a receipt
for each part: see `classify`, and domain/parts.py for what the receipts mean together. Receipts are asked for at the
callback given with the text, which may have 100 characters: our reference is left out of it when that is too long
(`client-ref` brings it back too), and the callback when it alone is: then the account's own webhook for receipts has to
be `callback_url`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import HttpPort, HttpRequest, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
    REFERENCE_PARAMETER,
    BadSignature,
    BadWebhook,
    Capabilities,
    InboundText,
    LookUp,
    LookUpResult,
    OutgoingText,
    Receipt,
    ReceiptStatus,
    Unavailable,
    Verification,
    WebhookRequest,
    origin_of,
    reference_of,
    with_reference,
)
from dispatcher.providers.keywords import keyword_of
from dispatcher.providers.replies import json_object, retry_after
from dispatcher.providers.vonage_signature import SIGNATURE, is_signed, sign
from postrider.clock import Clock

PROVIDER, LATER = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER
RECIPIENT, CONTENT, DOUBT = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT, Outcome.IN_DOUBT

TAKEN = 0
CODES: Mapping[int, Outcome] = {
    # not now
    1: LATER,  # throttled
    10: LATER,  # too many existing binds
    13: LATER,  # [K] communication failed: not accepted
    # the account, the route
    4: PROVIDER,  # invalid credentials
    8: PROVIDER,  # the account is barred
    9: PROVIDER,  # not enough credit
    11: PROVIDER,  # the account may not use this API
    14: PROVIDER,  # invalid signature
    29: PROVIDER,  # the destination is not on the list of a trial account, see ROUTE_ONLY
    32: PROVIDER,  # signature and secret together
    # the person's number
    6: RECIPIENT,  # cannot be processed: an unknown prefix, for example
    7: RECIPIENT,  # barred: nothing says by whom, so it suppresses nobody
    33: RECIPIENT,  # deactivated
    # the text, or what was configured for it
    2: CONTENT,  # a parameter is missing
    3: CONTENT,  # a parameter is invalid
    12: CONTENT,  # too long
    15: CONTENT,  # the sender is not allowed there
    22: CONTENT,  # invalid network code
    23: CONTENT,  # invalid callback URL
    # may have been processed
    5: DOUBT,  # internal error
}
ROUTE_ONLY = frozenset({29})

HTTP_STATUSES: Mapping[int, Outcome] = {
    401: PROVIDER, 403: PROVIDER, 404: PROVIDER, 429: LATER, 500: DOUBT, 502: DOUBT, 504: DOUBT,
}  # fmt: skip
"""What a status says when the body does not. The vendor itself answers 200 whatever became of the text; this is said by
what stands before it. 503 is LATER with a Retry-After only; all else is in doubt."""
ALWAYS_IN_DOUBT = frozenset({500, 502, 504})
"""Whatever the body says."""

_GRAVITY = (DOUBT, RECIPIENT, CONTENT, PROVIDER, LATER)
"""Of parts that were refused for different reasons, the one that decides comes first."""

STATUSES: Mapping[str, ReceiptStatus] = {
    "accepted": "sent",  # the carrier has it
    "buffered": "sent",  # the carrier will deliver it later
    "unknown": "sent",  # the carrier said something that Vonage does not know
    "delivered": "delivered",
    "expired": "undelivered",
    "failed": "undelivered",
    "rejected": "undelivered",
    "deleted": "undelivered",  # [K] in the Reports API only
}
"""A receipt comes from the carrier: whatever it says, the text has left Vonage."""
OPTED_OUT = frozenset({"9"})
"""err-code 9: the person asked not to receive texts of this service. 4 (barred by the user) and 14 (by the carrier) are
between them and the operator, 3 and 5 may be an error of the operator's: these suppress nobody."""
NEVER_LEFT = frozenset({"11", "16", "39"})
"""err-codes that are terminal, mean that the text never left, and may not hold at another provider: 11 no route,
16 [K] the gateway's quota, 39 [K] a sender that is not allowed in the US."""

MIN_VALIDITY_SECONDS, MAX_VALIDITY_SECONDS = 20, 604_800
MAX_CALLBACK_CHARACTERS = 100
PUSHED_AGAIN_SECONDS = 25 * 3600
"""How old a signed callback may be: Vonage pushes again for 24 hours, and its timestamp is that of the first time. A
replay within that time finds its receipt or text kept already."""
CLOCKS_DIFFER_SECONDS = 600

_ID = re.compile(r"[0-9A-Za-z-]{2,64}")


class VonageAdapter:
    """One Vonage account with one sender. `settings` passed check_provider and with_defaults; owns `http`."""

    kind = "vonage"
    capabilities = Capabilities(
        look_up=False,
        idempotent=False,
        receipts=True,
        min_validity_seconds=MIN_VALIDITY_SECONDS,
        max_validity_seconds=MAX_VALIDITY_SECONDS,
    )

    def __init__(
        self, provider_id: str, settings: Mapping[str, Any], credentials: Mapping[str, Any], http: HttpPort,
        clock: Clock,
    ) -> None:  # fmt: skip
        self.provider_id = provider_id
        self._http = http
        self._clock = clock
        self._base_url = str(settings["base_url"])
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._api_key = str(settings["api_key"])
        self._api_secret = str(credentials["api_secret"])
        self._from = str(settings["from"]).removeprefix("+")
        self._method: str | None = settings.get("signature_method")
        self._signature_secret = str(credentials.get("signature_secret") or "")
        self.origin = origin_of(f"{self._base_url} {self._api_key}", self._from)

    async def submit(self, text: OutgoingText) -> SubmitResult:
        if text.validity_seconds is not None and text.validity_seconds < MIN_VALIDITY_SECONDS:
            return SubmitResult(LATER, code="validity_too_short", not_begun=True)
        request = HttpRequest(
            "POST",
            f"{self._base_url}/sms/json",
            {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
            urlencode(self._authentic(_form(text, self._from))).encode(),
            self._timeout_seconds,
            text.may_begin,
        )
        try:
            response = await self._http.send(request)
        except NotSent as failure:
            return SubmitResult(PROVIDER, code=failure.reason, detail="not sent", not_begun=True)
        except InDoubt as failure:
            return SubmitResult(DOUBT, code=failure.reason, detail="no whole reply")
        return classify(response)

    def _authentic(self, form: dict[str, str]) -> dict[str, str]:
        """With the secret or with a signature: both together are refused (status 32)."""
        form["api_key"] = self._api_key
        if self._method is None:
            form["api_secret"] = self._api_secret
        else:
            form["timestamp"] = str(int(self._clock.now().timestamp()))
            form[SIGNATURE] = sign(self._method, self._signature_secret, form)
        return form

    async def look_up(self, query: LookUp) -> LookUpResult:
        return Unavailable("no_look_up")

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        said = self._authenticated(request)
        id, raw_status = said.get("messageId", ""), said.get("status", "")
        if not _ID.fullmatch(id) or not raw_status:
            raise BadWebhook("messageId and status are mandatory")
        status = STATUSES.get(raw_status.lower(), "unknown")
        code = said.get("err-code", "")[:16]
        return [
            Receipt(
                provider_message_id=id,
                status=status,
                raw_status=raw_status[:32],
                code=code if code not in ("", "0") else None,
                definitely_not_sent=status == "undelivered" and code in NEVER_LEFT,
                reference=said.get("client-ref") or reference_of(request.url),
                suppress="provider_opt_out" if code in OPTED_OUT else None,
                is_part=True,
            )
        ]

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        """The vendor's own `keyword` is the first word of any text: "stop by tomorrow" is no opt-out. Nor is one part
        of a long text (each comes on its own) that happens to be one word."""
        said = self._authenticated(request)
        id, sender, to = said.get("messageId", ""), said.get("msisdn", ""), said.get("to", "")
        if not _ID.fullmatch(id) or not sender or not to:
            raise BadWebhook("messageId, msisdn and to are mandatory")
        body = said.get("text", "")
        is_whole = said.get("concat", "").lower() != "true" or said.get("concat-total") == "1"
        keyword = keyword_of(body) if is_whole else None
        return [InboundText(_e164(sender), _e164(to), body, id, keyword)]

    def _authenticated(self, request: WebhookRequest) -> dict[str, str]:
        """The parameters of a callback, by GET or POST, as a form or JSON. Where the account signs, nothing is believed
        before the signature; where it does not, the secret in the URL is all there is, and was checked before."""
        try:
            said = _parameters(request)
        except ValueError as error:
            if self._method is not None:
                raise BadSignature("the callback cannot be read") from error
            raise BadWebhook("expected a form or a JSON object") from error
        if self._method is None:
            return said
        if not any(self._is_signed(form) for form in _signed_forms(said)):
            raise BadSignature("sig is missing or does not match")
        stamp = said.get("timestamp", "")
        if not re.fullmatch(r"[0-9]{1,12}", stamp):
            raise BadSignature("timestamp is missing")
        age = self._clock.now().timestamp() - int(stamp)
        if not -CLOCKS_DIFFER_SECONDS <= age <= PUSHED_AGAIN_SECONDS:
            raise BadSignature("timestamp is too old, or the clocks differ")
        return said

    def _is_signed(self, said: Mapping[str, str]) -> bool:
        assert self._method is not None
        try:
            return is_signed(self._method, self._signature_secret, said)
        except ValueError:  # a lone surrogate: nobody signs that
            return False

    async def verify(self) -> Verification:
        """Read the balance. Proves key and secret, neither the signature nor that the sender may send."""
        user = base64.b64encode(f"{self._api_key}:{self._api_secret}".encode()).decode()
        headers = {"Authorization": f"Basic {user}", "Accept": "application/json"}
        url = f"{self._base_url}/account/get-balance"
        try:
            response = await self._http.send(HttpRequest("GET", url, headers, timeout_seconds=self._timeout_seconds))
        except (NotSent, InDoubt) as failure:
            return Verification(False, failure.reason)
        if response.status != 200:
            return Verification(False, f"http_{response.status}")
        balance = json_object(response.body).get("value")
        is_balance = isinstance(balance, (int, float)) and not isinstance(balance, bool)
        if not is_balance:
            return Verification(False, "unexpected_reply")
        return Verification(True, proven="key and secret are right; signature and sender are not checked")

    async def close(self) -> None:
        await self._http.close()


def _form(text: OutgoingText, sender: str) -> dict[str, str]:
    """`type` is ours to say: sent as `text`, a character outside of GSM-7 becomes a question mark."""
    form = {
        "from": sender if text.sender is None else text.sender.removeprefix("+"),
        "to": text.to.removeprefix("+"),
        "text": text.body,
        "type": "unicode" if text.encoding == "UCS-2" else "text",
        "client-ref": text.reference,
        "status-report-req": "true" if text.callback_url is not None else "false",
    }
    if text.validity_seconds is not None:
        form["ttl"] = str(min(text.validity_seconds, MAX_VALIDITY_SECONDS) * 1000)
    if text.callback_url is not None:
        for url in (with_reference(text.callback_url, text.reference), text.callback_url):
            if len(url) <= MAX_CALLBACK_CHARACTERS:
                form["callback"] = url
                break
    return form


def classify(response: HttpResponse) -> SubmitResult:
    """The reply to a submit, by the tables at the top. Pure."""
    reply = json_object(response.body)
    parts = reply.get("messages")
    if response.status not in ALWAYS_IN_DOUBT and isinstance(parts, list) and parts:
        return _classify_parts(parts, reply.get("message-count"), response)
    text = f"http_{response.status}"
    outcome = HTTP_STATUSES.get(response.status)
    if response.status == 503 and "retry-after" in response.headers:
        outcome = LATER
    if outcome is None:
        return SubmitResult(DOUBT, code=text, unknown_code=response.status != 503)
    wait = retry_after(response.headers) if outcome is LATER else None
    return SubmitResult(outcome, code=text, retry_after_seconds=wait)


def _classify_parts(parts: list[Any], count: object, response: HttpResponse) -> SubmitResult:
    """One text is one message however many parts it has. Any part taken: the person gets something, so the text counts
    as accepted and is never sent again. Refused is it only when the reply says so of every part."""
    said = [part if isinstance(part, dict) else {} for part in parts]
    codes = [_code(part.get("status")) for part in said]
    refused = next((code for code in codes if code != TAKEN), TAKEN)
    if TAKEN in codes:
        ids = [part.get("message-id") for part, code in zip(said, codes, strict=True) if code == TAKEN]
        id = next((each for each in ids if isinstance(each, str) and _ID.fullmatch(each)), None)
        if id is None:
            return SubmitResult(DOUBT, code=str(TAKEN), detail="no message-id in the reply", unknown_code=True)
        if len(ids) == len(codes):
            return SubmitResult(Outcome.ACCEPTED, provider_message_id=id)
        detail = f"{len(ids)} of {len(codes)} parts accepted"
        return SubmitResult(Outcome.ACCEPTED, provider_message_id=id, code=str(refused), detail=detail)
    unknown = [code for code in codes if code not in CODES]
    if unknown or (_code(count) or 0) > len(parts):
        code = unknown[0] if unknown else refused
        return SubmitResult(DOUBT, code="no_status" if code is None else str(code), unknown_code=True)
    decisive = min((code for code in codes if code is not None), key=lambda code: _GRAVITY.index(CODES[code]))
    outcome = CODES[decisive]
    return SubmitResult(
        outcome,
        code=str(decisive),
        retry_after_seconds=retry_after(response.headers) if outcome is LATER else None,
        route_only=decisive in ROUTE_ONLY,
    )


def _parameters(request: WebhookRequest) -> dict[str, str]:
    """By GET they are in the query, by POST in the body, as the account is set. Raises ValueError."""
    if request.method == "GET":
        return _pairs(urlsplit(request.url).query)
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        return _pairs(request.raw_body.decode())
    try:
        said = msgspec.json.decode(request.raw_body, type=dict[str, str | int | bool | None])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("no JSON object of plain values") from error
    return {name: _plain(value) for name, value in said.items()}


def _plain(value: str | int | bool | None) -> str:
    """As a form would have it."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(value).lower()


def _pairs(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=200))


def _signed_forms(said: dict[str, str]) -> list[dict[str, str]]:
    """What the signature may cover: all of it, or all but our own addition to the callback's query, as the vendor may
    or may not take that for a parameter of its own [K]."""
    without = {name: value for name, value in said.items() if name != REFERENCE_PARAMETER}
    return [said] if len(without) == len(said) else [said, without]


def _e164(number: str) -> str:
    """The vendor writes numbers in digits only; senders may be short codes or words, which stay."""
    return f"+{number}" if re.fullmatch(r"[1-9][0-9]{6,14}", number) else number


def _code(status: object) -> int | None:
    """The vendor writes numbers as text."""
    if isinstance(status, str) and re.fullmatch(r"[0-9]{1,9}", status):
        return int(status)
    return status if isinstance(status, int) and not isinstance(status, bool) else None

"""Exotel SMS: what its replies and statuses mean, submit, calls with several texts, receipts, inbound texts.

Sources: Exotel's pages "Send SMS", "Bulk SMS", "SMS Status Codes" (two of them, with different names and numbers for
the same things: that is why the text of DetailedStatus decides and never its number), "Common SMS API Errors", "SMS
Webhooks", "Two-Way SMS". Not verified against a live account. Marked [K]: not on those pages.

- The pages disagree about `Sms/bulksend`: JSON `{"sms": [...]}` or a form with `Messages[i][...]`. The setting `bulk`
  chooses; off, the default, sends each text in a call of its own. A text that the reply does not name is in doubt.
- No validity, no idempotency key, no search: `SMS/Messages/{SmsSid}` needs the very id that a text in doubt lacks. So
  there is no look-up: a doubt ends by its receipt, which carries our reference in CustomField and in its URL's query.
- Callbacks are unsigned: the secret token of their URL is all there is, and the AccountSid where it is given.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import HttpPort, HttpRequest, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
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
    all_may_begin,
    origin_of,
    reference_of,
    with_reference,
)
from dispatcher.providers.batches import Alone, hand_over
from dispatcher.providers.exotel_replies import Entry, assign, entries_of
from dispatcher.providers.keywords import keyword_of
from dispatcher.providers.replies import retry_after
from postrider.contracts.provider_kinds.exotel import base_url_of
from postrider.phones import normalise

PROVIDER, LATER = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER
RECIPIENT, CONTENT, DOUBT = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT, Outcome.IN_DOUBT

HTTP_STATUSES: Mapping[int, Outcome] = {
    400: CONTENT,
    401: PROVIDER,
    402: PROVIDER,
    403: PROVIDER,
    404: CONTENT,
    405: CONTENT,
    409: CONTENT,
    429: LATER,
    500: DOUBT,
    502: DOUBT,
    504: DOUBT,
}
"""What a refusal means when its code is in no table. 503 is LATER with a RestException or a Retry-After, otherwise in
doubt: it may be a proxy's word on a request that went through."""
ALWAYS_IN_DOUBT = frozenset({500, 502, 504})
"""Whatever code comes with it."""

CODES: Mapping[str, Outcome] = {
    # the account, the sender, how this provider is set up
    "34001": PROVIDER,  # key or token is malformed
    "34009": PROVIDER,  # not this account's
    "34010": PROVIDER,  # invalid key or token
    "340030": PROVIDER,  # trial account, number not allowed
    "40000": PROVIDER,  # trial account, promotional
    "40001": PROVIDER,  # balance
    "40002": PROVIDER,  # inactive account
    "40003": PROVIDER,  # country not enabled
    "40201": PROVIDER,  # Messages is missing: the other shape of `bulk` is wanted
    "40204": PROVIDER,  # SmsType
    "40205": PROVIDER,  # From is empty
    "40206": PROVIDER,  # From does not go with SmsType
    "40208": PROVIDER,  # Messages is no array: as 40201
    "40210": PROVIDER,  # From is missing
    "40300": PROVIDER,  # no promotional sender id
    "40301": PROVIDER,  # no transactional sender id
    "40400": PROVIDER,  # more than 100 texts in a call
    "40404": PROVIDER,  # trial account, its texts are used up
    "INVALID_DLT_ENTITY": PROVIDER,
    # not now
    "40402": LATER,  # too many requests
    "40405": LATER,  # throttled
    # the person's number
    "40203": RECIPIENT,  # invalid destination
    # the text
    "40200": CONTENT,  # empty
    "40202": CONTENT,  # invalid
    "40209": CONTENT,  # EncodingType
    "EMPTY_BODY": CONTENT,
    "ENCODING_MISMATCH": CONTENT,
    "INVALID_DLT_TEMPLATE": CONTENT,
}
ROUTE_ONLY = frozenset({"340030", "40003"})
"""Refused for this recipient's country or number only: the provider may be healthy for everybody else."""

UNDER_WAY: Mapping[str, ReceiptStatus] = {
    "PENDING_TO_OPERATOR": "accepted",
    "SENDING_TO_OPERATOR": "accepted",
    "PENDING_ON_OPERATOR": "sent",
    "SUBMITTED_TO_CARRIER": "sent",
    "DELIVERED_TO_OPERATOR": "sent",
    "DELIVERED_TO_HANDSET": "delivered",
}
"""DetailedStatus of texts that have not failed. The operator's word is not the phone's."""
OPTED_OUT = frozenset({"FAILED_REJECTED_DND", "FAILED_DND", "FAILED_REJECTED_BLACKLIST", "FAILED_BLACKLISTED"})
FAILED: Mapping[str, Outcome | None] = {
    **dict.fromkeys(OPTED_OUT, RECIPIENT),
    **dict.fromkeys((
        "FAILED_INVALID_DESTINATION_NUMBER", "FAILED_INVALID_DESTINATION", "FAILED_INVALID_NUMBER",
        "FAILED_SUBSCRIBER_UNKNOWN",
    ), RECIPIENT),
    **dict.fromkeys((
        "FAILED_SPAM_DETECTED", "FAILED_SPAM", "FAILED_INVALID_MESSAGE", "FAILED_ENCODING_ERROR",
        "FAILED_MESSAGE_TOO_LONG", "FAILED_EMPTY_BODY",
        "ENTITY_BLOCKED_BY_DLT", "TEMPLATE_BLOCKED_BY_DLT", "FAILED_DLT_SCRUBBING_ERROR", "FAILED_DLT_SCRUBBING",
        "FAILED_DLT_CONSENT_ERROR", "FAILED_DLT_CONSENT", "FAILED_DLT_ENTITY", "FAILED_DLT_TEMPLATE",
        "DLT_ENTITY_NOT_FOUND", "DLT_TEMPLATE_ID_INVALID", "DLT_TEMPLATE_NOT_FOUND", "DLT_TEMPLATE_ID_INACTIVE",
        "DLT_TEMPLATE_ID_BLACKLISTED", "DLT_TEMPLATE_DOES_NOT_MATCH", "DLT_LENGTH_EXCEEDED",
        "FAILED_DLT_PREFERENCE",  # the person wants no texts of this category: no reason to send them none at all
    ), CONTENT),
    **dict.fromkeys((
        "SENDER_BLOCKED_BY_DLT", "FAILED_INVALID_SENDER_ID", "FAILED_INVALID_SENDER", "FAILED_UNAVAILABLE_ROUTE",
        "FAILED_INSUFFICIENT_BALANCE", "FAILED_ACCOUNT_SUSPENDED",
    ), PROVIDER),
    "FAILED_RATE_LIMITED": LATER,
    # on its way or lost on it: nobody can say that it never left
    **dict.fromkeys((
        "FAILED_REJECTED", "FAILED_OPERATOR_REJECTED", "FAILED_OPERATOR_ERROR", "FAILED_SYSTEM_ERROR",
        "FAILED_NETWORK_ERROR", "FAILED_UNREACHABLE", "FAILED_SUBSCRIBER_UNAVAILABLE", "FAILED_SUBSCRIBER_ERROR",
        "FAILED_HANDSET_ERROR", "FAILED_EXPIRED", "EXPIRED", "EXPIRED_HANDSET_OFF", "EXPIRED_MEMORY_FULL",
        "FAILED_UNKNOWN_ERROR", "FAILED_UNKNOWN",
    ), None),
}  # fmt: skip
"""DetailedStatus of texts that have failed, by both pages, and what that means where the text never left."""
STATUSES: Mapping[str, ReceiptStatus] = {
    "queued": "accepted",
    "sending": "accepted",
    "submitted": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "failed": "undelivered",
    "failed_dnd": "undelivered",
    "undelivered": "undelivered",
    "expired": "undelivered",
}
"""Status, where DetailedStatus is missing or new. `sent` is the phone's word on one page, the carrier's on another."""

MAX_BODY_CHARACTERS = 2000
MAX_TEXTS_PER_CALL = 100
NOBODYS_SID, NO_SUCH_TEXT = "0" * 32, b"No matching results"


class ExotelAdapter:
    """One Exotel account with one sender. `settings` passed check_provider and with_defaults; owns `http`."""

    kind = "exotel"

    def __init__(
        self, provider_id: str, settings: Mapping[str, Any], credentials: Mapping[str, Any], http: HttpPort
    ) -> None:
        self.provider_id = provider_id
        self._http = http
        base_url = base_url_of(settings)
        self._account_sid = str(settings["account_sid"])
        self._account_url = f"{base_url}/v1/Accounts/{self._account_sid}"
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._from = str(settings["sender_id"])
        self._bulk = str(settings["bulk"])
        self._country = str(settings["number_country"])
        self._template_id: str | None = settings.get("dlt_template_id")
        sms_type = settings.get("sms_type")
        self._type_by_class = sms_type == "by_class"
        common = {"DltEntityId": settings.get("dlt_entity_id"), "SmsType": None if self._type_by_class else sms_type}
        self._common = {name: str(value) for name, value in common.items() if value}
        self._priority = {"Priority": str(settings["priority"])} if settings.get("priority") else {}
        self.origin = origin_of(self._account_url, self._from)
        self.capabilities = Capabilities(
            look_up=False,
            idempotent=False,
            receipts=True,
            batch_size=1 if self._bulk == "off" else MAX_TEXTS_PER_CALL,
        )
        self._alone = Alone()
        user = base64.b64encode(f"{credentials['api_key']}:{credentials['api_token']}".encode()).decode()
        self._headers = {"Authorization": f"Basic {user}", "Accept": "application/json"}

    async def submit(self, text: OutgoingText) -> SubmitResult:
        refused = _refusal(text)
        return refused if refused is not None else await self._submit(text)

    async def _submit(self, text: OutgoingText) -> SubmitResult:
        form = {**self._message(text), "EncodingType": _encoding(text), **self._priority}
        if text.callback_url is not None:
            form["StatusCallback"] = with_reference(text.callback_url, text.reference)
        reply = await self._post("/Sms/send.json", _FORM, urlencode(form).encode(), text.may_begin)
        return reply if isinstance(reply, SubmitResult) else classify(reply)

    def _message(self, text: OutgoingText) -> dict[str, str]:
        message = {
            "From": text.sender or self._from,
            "To": text.to,
            "Body": text.body,
            **self._common,
            "CustomField": text.reference,
        }
        if self._type_by_class:
            message["SmsType"] = text.message_class
        template_id = text.filled.template_id or self._template_id
        return {**message, "DltTemplateId": template_id} if template_id else message

    def batch_key(self, text: OutgoingText) -> Hashable:
        """Encoding and callback are the call's; a text whose call was refused as a whole goes alone."""
        return text.encoding, text.callback_url, text.message_id if text.message_id in self._alone else None

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        return await hand_over(texts, _refusal, self._submit_together)

    async def _submit_together(self, texts: Sequence[OutgoingText]) -> list[SubmitResult]:
        """One text goes the plain way, where the reply can only speak of it."""
        if len(texts) == 1:
            return [await self._submit(texts[0])]
        reply = await self._post_bulk(texts)
        if isinstance(reply, SubmitResult):
            return [reply] * len(texts)
        if not 200 <= reply.status < 300:
            result = classify(reply)
            is_of_one = result.outcome in (RECIPIENT, CONTENT)
            return self._alone.refused(texts, result) if is_of_one else [result] * len(texts)
        return classify_each(reply, texts)

    async def _post_bulk(self, texts: Sequence[OutgoingText]) -> HttpResponse | SubmitResult:
        """In JSON all is said of each text; in the form the callback is the call's, so that only CustomField tells
        whose receipt it is."""
        messages, may_begin = [self._message(text) for text in texts], all_may_begin(texts)
        if self._bulk == "json":
            for message, text in zip(messages, texts, strict=True):
                message |= {"EncodingType": _encoding(text), **self._priority}
                if text.callback_url is not None:
                    message["StatusCallback"] = with_reference(text.callback_url, text.reference)
            return await self._post("/Sms/bulksend", _JSON, msgspec.json.encode({"sms": messages}), may_begin)
        form = {"From": self._from, "EncodingType": _encoding(texts[0]), **self._priority}
        if texts[0].callback_url is not None:
            form["StatusCallback"] = texts[0].callback_url
        for number, message in enumerate(messages):
            form |= {f"Messages[{number}][{name}]": value for name, value in message.items()}
        return await self._post("/Sms/bulksend.json", _FORM, urlencode(form).encode(), may_begin)

    async def _post(
        self, path: str, content_type: str, body: bytes, may_begin: Callable[[], bool]
    ) -> HttpResponse | SubmitResult:
        """The reply, or what its absence means."""
        headers = {**self._headers, "Content-Type": content_type}
        try:
            return await self._http.send(
                HttpRequest("POST", self._account_url + path, headers, body, self._timeout_seconds, may_begin)
            )
        except NotSent as failure:
            return SubmitResult(PROVIDER, code=failure.reason, detail="not sent", not_begun=True)
        except InDoubt as failure:
            return SubmitResult(DOUBT, code=failure.reason, detail="no whole reply")

    async def look_up(self, query: LookUp) -> LookUpResult:
        """Exotel is asked by its own id only, which a text in doubt does not have."""
        return Unavailable("not_supported")

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        form = self._form(request)
        sid = form.get("SmsSid")
        detailed, plain = _word(form.get("DetailedStatus")), _word(form.get("Status"))
        if not sid or not (detailed or plain):
            raise BadWebhook("SmsSid and Status are mandatory")
        status = _receipt_status(detailed, plain.lower())
        return [
            Receipt(
                provider_message_id=sid[:64],
                status=status,
                raw_status=(detailed or plain)[:32],
                code=(detailed or plain)[:64] if status in ("undelivered", "unknown") else None,
                definitely_not_sent=status == "undelivered" and FAILED.get(detailed) in (PROVIDER, LATER),
                reference=form.get("CustomField") or form.get("ExternalRef") or reference_of(request.url),
                suppress="provider_opt_out" if detailed in OPTED_OUT or plain == "FAILED_DND" else None,
            )
        ]

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        form = self._form(request)
        sid, sender, to = form.get("SmsSid"), form.get("From"), form.get("To")
        if not sid or not sender or not to:
            raise BadWebhook("SmsSid, From and To are mandatory")
        body = form.get("Body", "")
        from_ = normalise(sender, self._country).e164 or sender
        return [InboundText(from_=from_, to=to, body=body, provider_message_id=sid[:64], keyword=keyword_of(body))]

    def _form(self, request: WebhookRequest) -> dict[str, str]:
        """The fields, of a repeated one the first. A panel may be set to GET; then they are in the query."""
        try:
            raw = urlsplit(request.url).query if request.method == "GET" else request.raw_body.decode()
            pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=200)
        except ValueError as error:
            raise BadWebhook("the callback cannot be read") from error
        form = dict(reversed(pairs))
        if form.get("AccountSid", self._account_sid) != self._account_sid:
            raise BadSignature("the callback is of another account")
        return form

    async def verify(self) -> Verification:
        """Asks for a text that does not exist. Proves the credentials and the account, not that the sender may send."""
        url = f"{self._account_url}/SMS/Messages/{NOBODYS_SID}.json"
        try:
            response = await self._http.send(
                HttpRequest("GET", url, self._headers, timeout_seconds=self._timeout_seconds)
            )
        except (NotSent, InDoubt) as failure:
            return Verification(False, failure.reason)
        entries = entries_of(response.body)
        error = next((entry for entry in entries if entry.is_error), None)
        status = error.http if error is not None and error.http is not None else response.status
        if (status == 200 and (entries or NO_SUCH_TEXT in response.body)) or (status == 404 and error is not None):
            return Verification(
                True, proven="key, token and account are right; whether the sender may send is not checked"
            )
        reason = "unexpected_reply" if status in (200, 404) else f"http_{status}"
        return Verification(False, (error.code if error is not None else None) or reason)

    async def close(self) -> None:
        await self._http.close()


_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


def classify(response: HttpResponse) -> SubmitResult:
    """The reply to a submit, by the tables at the top; of a refusal that of the whole call. Pure."""
    entries = entries_of(response.body)
    if not 200 <= response.status < 300:
        error = next((entry for entry in entries if entry.is_error), None)
        return _refused(response.status, error, response.headers)
    if len(entries) != 1:
        return SubmitResult(DOUBT, code=f"http_{response.status}", detail="no message in the reply", unknown_code=True)
    return _of_entry(entries[0], response)


def classify_each(response: HttpResponse, texts: Sequence[OutgoingText]) -> list[SubmitResult]:
    """What a 2xx says of each text of a call. A text it does not name, or names as another, is in doubt. Pure."""
    entries = entries_of(response.body)
    found = assign(entries, texts)
    sids = [entry.sid for entry in found if entry is not None and entry.sid is not None]
    doubt = SubmitResult(
        DOUBT, code=f"http_{response.status}", detail="not named in the reply", unknown_code=not any(found)
    )
    return [
        doubt if entry is None or (entry.sid is not None and sids.count(entry.sid) > 1) else _of_entry(entry, response)
        for entry in found
    ]


def _of_entry(entry: Entry, response: HttpResponse) -> SubmitResult:
    if entry.is_error or (entry.http is not None and entry.http >= 400):
        return _refused(entry.http or 0, entry, response.headers)
    if entry.sid is None:
        return SubmitResult(DOUBT, code=f"http_{response.status}", detail="no Sid in the reply", unknown_code=True)
    detailed = _word(entry.detailed) or ("FAILED_DND" if _word(entry.status) == "FAILED_DND" else "")
    outcome = FAILED.get(detailed)
    if outcome is None:
        return SubmitResult(Outcome.ACCEPTED, provider_message_id=entry.sid)
    return SubmitResult(outcome, code=detailed, suppress="provider_opt_out" if detailed in OPTED_OUT else None)


def _refused(status: int, error: Entry | None, headers: Mapping[str, str]) -> SubmitResult:
    code = error.code if error is not None else None
    outcome = HTTP_STATUSES.get(status)
    if status == 503 and (error is not None or "retry-after" in headers):
        outcome = LATER
    if status not in ALWAYS_IN_DOUBT and code is not None:
        outcome = CODES.get(code, outcome)
    text = code or f"http_{status}"
    if outcome is None:
        return SubmitResult(DOUBT, code=text, unknown_code=status != 503)
    return SubmitResult(
        outcome,
        code=text,
        retry_after_seconds=retry_after(headers) if outcome is LATER else None,
        route_only=outcome is PROVIDER and code in ROUTE_ONLY,
    )


def _refusal(text: OutgoingText) -> SubmitResult | None:
    """Known before the call."""
    if not text.body:
        return SubmitResult(CONTENT, code="EMPTY_BODY", not_begun=True)
    if len(text.body) > MAX_BODY_CHARACTERS:
        return SubmitResult(CONTENT, code="FAILED_MESSAGE_TOO_LONG", detail="body too long", not_begun=True)
    return None


def _receipt_status(detailed: str, plain: str) -> ReceiptStatus:
    if detailed in FAILED:
        return "undelivered"
    return UNDER_WAY.get(detailed) or STATUSES.get(plain, "unknown")


def _word(text: str | None) -> str:
    """A status in one spelling: `failed-dnd` and `failed_dnd` are both on Exotel's pages."""
    return re.sub(r"[\s-]+", "_", (text or "").strip()).upper()


def _encoding(text: OutgoingText) -> str:
    return "plain" if text.encoding == "GSM-7" else "unicode"

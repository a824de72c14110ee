"""Twilio Programmable Messaging: what its replies and codes mean, submit, look-up, receipts, inbound texts.

Sources: Twilio's Message resource, error dictionary and "Webhooks security" pages. Marked [K]: general knowledge, not
confirmed on a live account. There is no idempotency key: Twilio itself says that a retry after a 500 may text twice,
so this adapter never retries; a message in doubt is found again by listing (see look_up).
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import HttpPort, HttpRequest, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
    Ambiguous,
    BadSignature,
    BadWebhook,
    Capabilities,
    Found,
    InboundText,
    Keyword,
    LookUp,
    LookUpResult,
    NotFound,
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
from dispatcher.providers.replies import date_of, json_object, retry_after
from dispatcher.providers.twilio_signature import body_is_covered, is_signed

PROVIDER, LATER = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER
RECIPIENT, CONTENT, DOUBT = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT, Outcome.IN_DOUBT

CODES: Mapping[int, Outcome] = {
    # the account, the sender, the route
    10001: PROVIDER,  # account is not active
    20003: PROVIDER,  # authentication
    20404: PROVIDER,  # no such resource: wrong account SID or base URL
    21212: PROVIDER,  # [K] invalid From
    21408: PROVIDER,  # region not enabled
    21603: PROVIDER,  # [K] From is missing
    21606: PROVIDER,  # From is not ours or cannot send
    21608: PROVIDER,  # [K] trial account, number not verified
    21612: PROVIDER,  # To cannot be reached from this From
    21659: PROVIDER,  # [K] From is not a Twilio number
    21660: PROVIDER,  # [K] From belongs to another account
    21703: PROVIDER,  # [K] the Messaging Service has no sender
    21705: PROVIDER,  # [K] invalid Messaging Service
    30002: PROVIDER,  # account suspended
    30034: PROVIDER,  # unregistered 10DLC number
    63017: PROVIDER,  # channel rate or policy of the sender
    # not now
    20429: LATER,  # too many requests
    21611: LATER,  # the sender's queue is full
    30001: LATER,  # queue overflow
    # the person's number
    21211: RECIPIENT,  # invalid To
    21610: RECIPIENT,  # opted out, see OPTED_OUT
    21614: RECIPIENT,  # not a mobile number
    30005: RECIPIENT,  # unknown or inactive number
    30006: RECIPIENT,  # landline or unreachable carrier
    # the text
    21602: CONTENT,  # [K] Body is missing
    21617: CONTENT,  # Body is too long
    30004: CONTENT,  # blocked
    30007: CONTENT,  # filtered: never send a filtered text again
    # may have been processed
    20500: DOUBT,
}
OPTED_OUT = frozenset({21610})
ROUTE_ONLY = frozenset({21408, 21608, 21612})
"""Refused for this recipient's country or pair only: the provider may be healthy for everybody else."""

HTTP_STATUSES: Mapping[int, Outcome] = {401: PROVIDER, 404: PROVIDER, 429: LATER, 500: DOUBT, 502: DOUBT, 504: DOUBT}
"""What a status says when no known code comes with it. 503 is LATER with a Retry-After only; all else is in doubt."""
ALWAYS_IN_DOUBT = frozenset({500, 502, 504})
"""Whatever code comes with it."""

STATUSES: Mapping[str, ReceiptStatus] = {
    "accepted": "accepted",
    "scheduled": "accepted",
    "queued": "accepted",
    "sending": "accepted",
    "sent": "sent",
    "partially_delivered": "sent",  # of several recipients or parts, as the API description names it
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "undelivered",
    "failed": "undelivered",
    "canceled": "undelivered",
}
NEVER_LEFT = frozenset({"20429", "21408", "21606", "21611", "21612", "30001", "30002", "30034", "30036"})
"""Receipt codes that are terminal, mean that the text never left, and may not hold at another provider.
30003 and 30008 are not here: the text may have arrived. 30007 and the recipient's codes hold everywhere."""

OPT_OUT_TYPES: Mapping[str, Keyword] = {"STOP": "stop", "START": "start", "HELP": "help"}

MAX_BODY_CHARACTERS = 1600
MIN_VALIDITY_SECONDS, MAX_VALIDITY_SECONDS = 1, 36_000
LOOK_BACK = timedelta(minutes=5)
PAGE_SIZE, MAX_PAGES = 200, 50
TRIAL_PREFIX = "Sent from your Twilio trial account - "
_SID = re.compile(r"[0-9A-Za-z]{2,64}")


class TwilioAdapter:
    """One Twilio account with one sender. `settings` passed check_provider and with_defaults; owns `http`."""

    kind = "twilio"
    capabilities = Capabilities(
        look_up=True,
        idempotent=False,
        receipts=True,
        min_validity_seconds=MIN_VALIDITY_SECONDS,
        max_validity_seconds=MAX_VALIDITY_SECONDS,
    )

    def __init__(
        self, provider_id: str, settings: Mapping[str, Any], credentials: Mapping[str, Any], http: HttpPort
    ) -> None:
        self.provider_id = provider_id
        self._http = http
        self._base_url = str(settings["base_url"])
        self._account_path = f"/2010-04-01/Accounts/{settings['account_sid']}"
        self._messages_url = f"{self._base_url}{self._account_path}/Messages.json"
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._from: str | None = settings.get("from")
        self._service: str | None = settings.get("messaging_service_sid")
        self.origin = origin_of(self._messages_url, f"{self._from} {self._service}")
        sender = {"From": self._from} if self._from else {"MessagingServiceSid": self._service or ""}
        self._sender = urlencode({"SmartEncoded": "false", **sender})
        self._auth_token = str(credentials["auth_token"])
        user = base64.b64encode(f"{settings['account_sid']}:{self._auth_token}".encode()).decode()
        self._headers = {"Authorization": f"Basic {user}", "Accept": "application/json"}
        self._form_headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}

    async def submit(self, text: OutgoingText) -> SubmitResult:
        if len(text.body) > MAX_BODY_CHARACTERS:
            return SubmitResult(CONTENT, code="21617", detail="body too long", not_begun=True)
        if text.validity_seconds is not None and text.validity_seconds < MIN_VALIDITY_SECONDS:
            return SubmitResult(LATER, code="validity_too_short", not_begun=True)
        request = HttpRequest(
            "POST",
            self._messages_url,
            self._form_headers,
            self._form(text).encode(),
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

    def _form(self, text: OutgoingText) -> str:
        """What is the same for every text is encoded once: this is on the way of each."""
        sender = self._sender if text.sender is None else urlencode({"SmartEncoded": "false", "From": text.sender})
        form = f"{sender}&To={quote_plus(text.to)}&Body={quote_plus(text.body)}"
        if text.validity_seconds is not None:
            form += f"&ValidityPeriod={min(text.validity_seconds, MAX_VALIDITY_SECONDS)}"
        if text.callback_url is not None:
            form += f"&StatusCallback={_callback(text.callback_url)}{quote_plus(quote(text.reference, safe=''))}"
        return form

    async def look_up(self, query: LookUp) -> LookUpResult:
        """List the texts to this number, newest first, back to the attempt − 5 minutes.

        No DateSent filter: a queued text has none, and a false "not found" is a text sent twice. A page is read to its
        end whatever its order, and reading stops only after a page on which everything is older, if pages go backwards.
        """
        since = query.attempted_at.astimezone(UTC) - LOOK_BACK
        uri: str | None = f"{self._account_path}/Messages.json?{urlencode({'To': query.to, 'PageSize': PAGE_SIZE})}"
        matches: dict[str, ReceiptStatus] = {}
        unreadable: set[str] = set()
        created: dict[str, datetime] = {}
        for _ in range(MAX_PAGES):
            page = await self._page(uri)
            if isinstance(page, Unavailable):
                return page
            entries, uri = page
            recent = [entry for entry in entries if _is_recent(entry, since)]
            for entry in recent:
                sid = entry.get("sid")
                if not isinstance(sid, str) or not _SID.fullmatch(sid):
                    return Unavailable("unexpected_page")
                if sid in query.known_ids or not self._may_be_from_us(entry, query):
                    continue
                created[sid] = date_of(entry.get("date_created")) or query.attempted_at
                body = entry.get("body")
                if not isinstance(body, str) or not body:
                    unreadable.add(sid)
                elif _same_text(body, query.body):
                    matches[sid] = STATUSES.get(str(entry.get("status")), "unknown")
            if uri is None or (entries and not recent and _goes_backwards(entries)):
                return _verdict(matches, unreadable, created)
        return Unavailable("too_many_pages")

    async def _page(self, uri: str | None) -> tuple[list[dict[str, Any]], str | None] | Unavailable:
        """One page and the URI of the next. The URI is the vendor's word: only a path on the base URL is followed."""
        uri = None if uri is None else uri.removeprefix(self._base_url)
        if uri is None or not uri.startswith(self._account_path):
            return Unavailable("unexpected_next_page")
        request = HttpRequest("GET", self._base_url + uri, self._headers, timeout_seconds=self._timeout_seconds)
        try:
            response = await self._http.send(request)
        except (NotSent, InDoubt) as failure:
            return Unavailable(failure.reason)
        if response.status != 200:
            return Unavailable(f"http_{response.status}")
        page = json_object(response.body)
        entries = page.get("messages")
        next_uri = page.get("next_page_uri")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return Unavailable("unexpected_page")
        if next_uri is not None and not isinstance(next_uri, str):
            return Unavailable("unexpected_page")
        return entries, next_uri or None

    def _may_be_from_us(self, entry: Mapping[str, Any], query: LookUp) -> bool:
        """Sender, recipient and direction do not rule it out. A sender that is not filled yet rules nothing out."""
        if str(entry.get("direction") or "").startswith("inbound") or entry.get("to") not in (None, query.to):
            return False
        if query.any_sender:
            return True
        field, ours = ("from", self._from) if self._from else ("messaging_service_sid", self._service)
        theirs = entry.get(field)
        return not theirs or str(theirs).casefold() == str(ours).casefold()

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        form = self._signed_form(request)
        sid = form.get("MessageSid") or form.get("SmsSid")
        raw_status = form.get("MessageStatus") or form.get("SmsStatus")
        if not sid or not _SID.fullmatch(sid) or not raw_status:
            raise BadWebhook("MessageSid and MessageStatus are mandatory")
        status = STATUSES.get(raw_status.lower(), "unknown")
        code = form.get("ErrorCode") or None
        opted_out = code is not None and code.isdecimal() and int(code) in OPTED_OUT
        return [
            Receipt(
                provider_message_id=sid,
                status=status,
                raw_status=raw_status[:32],
                code=code[:16] if code else None,
                definitely_not_sent=status == "undelivered" and code in NEVER_LEFT,
                reference=reference_of(request.url),
                suppress="provider_opt_out" if opted_out else None,
            )
        ]

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        form = self._signed_form(request)
        sid = form.get("MessageSid") or form.get("SmsSid")
        sender, to = form.get("From"), form.get("To")
        if not sid or not _SID.fullmatch(sid) or not sender or not to:
            raise BadWebhook("MessageSid, From and To are mandatory")
        body = form.get("Body", "")
        keyword = OPT_OUT_TYPES.get(form.get("OptOutType", "").upper()) or keyword_of(body)
        return [InboundText(from_=sender, to=to, body=body, provider_message_id=sid, keyword=keyword)]

    def _signed_form(self, request: WebhookRequest) -> dict[str, str]:
        """The form of an authentic callback (of a repeated key the first value). Nothing is read before the check."""
        signature = request.header("x-twilio-signature")
        if not signature:
            raise BadSignature("X-Twilio-Signature is missing")
        try:
            is_form = (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json"
            pairs = parse_qsl(request.raw_body.decode(), keep_blank_values=True, max_num_fields=200) if is_form else []
            authentic = is_signed(self._auth_token, request.url, pairs, signature)
        except ValueError as error:
            raise BadSignature("the callback cannot be read") from error
        if not authentic or not (is_form or body_is_covered(request.url, request.raw_body)):
            raise BadSignature("X-Twilio-Signature does not match")
        if not is_form:
            raise BadWebhook("expected a form")
        if request.method == "GET":
            pairs = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
        return dict(reversed(pairs))

    async def verify(self) -> Verification:
        """Reads the account, and the sender: a number or short code of the account's own, or a Messaging Service."""
        account = await self._read(f"{self._base_url}{self._account_path}.json")
        if isinstance(account, str):
            return Verification(False, account)
        if account.get("status") not in (None, "active"):
            return Verification(False, "account_not_active")
        if self._service is not None:
            found = await self._read(f"{messaging_url(self._base_url)}/v1/Services/{self._service}")
            if isinstance(found, str):
                return Verification(False, "service_not_found" if found in ("20404", "http_404") else found)
            return Verification(True, proven="credentials, account and Messaging Service are right")
        if self._from is None or not self._from.removeprefix("+").isdigit():
            return Verification(True, proven="credentials and account are right; a name as sender cannot be looked up")
        is_number = self._from.startswith("+")
        path = "IncomingPhoneNumbers.json?PhoneNumber" if is_number else "SMS/ShortCodes.json?ShortCode"
        found = await self._read(f"{self._base_url}{self._account_path}/{path}={quote(self._from, safe='')}")
        if isinstance(found, str):
            return Verification(False, found)
        listed, name = ("incoming_phone_numbers", "phone_number") if is_number else ("short_codes", "short_code")
        entries = found.get(listed)
        entry = next((each for each in entries or () if isinstance(each, dict) and each.get(name) == self._from), None)
        if entry is None:
            return Verification(False, "sender_not_found" if isinstance(entries, list) else "unexpected_reply")
        capabilities = entry.get("capabilities")
        if isinstance(capabilities, dict) and not capabilities.get("sms", capabilities.get("SMS", True)):
            return Verification(False, "sender_cannot_text")
        return Verification(True, proven="credentials and account are right, and the sender is the account's own")

    async def _read(self, url: str) -> dict[str, Any] | str:
        """What is there, or why it cannot be read."""
        try:
            response = await self._http.send(
                HttpRequest("GET", url, self._headers, timeout_seconds=self._timeout_seconds)
            )
        except (NotSent, InDoubt) as failure:
            return failure.reason
        if response.status != 200:
            return str(_code(json_object(response.body)) or f"http_{response.status}")
        return json_object(response.body) or "unexpected_reply"

    async def close(self) -> None:
        await self._http.close()


def messaging_url(base_url: str) -> str:
    """Messaging Services are on a host of their own beside the vendor's API, of the same region; elsewhere (a proxy, a
    stand-in) on the one that is set."""
    return re.sub(r"^(https?://)api\.((?:[0-9a-z-]+\.){0,2}twilio\.com(?::[0-9]+)?)$", r"\1messaging.\2", base_url)


@lru_cache(maxsize=64)
def _callback(url: str) -> str:
    """The callback's URL up to our reference, encoded as a value of the form."""
    return quote_plus(with_reference(url, ""))


def classify(response: HttpResponse) -> SubmitResult:
    """The reply to a submit, by the tables at the top. Pure."""
    reply = json_object(response.body)
    code = _code(reply)
    if 200 <= response.status < 300:
        sid = reply.get("sid")
        if isinstance(sid, str) and _SID.fullmatch(sid):
            return SubmitResult(Outcome.ACCEPTED, provider_message_id=sid)
        return SubmitResult(DOUBT, code=f"http_{response.status}", detail="no sid in the reply", unknown_code=True)
    text = str(code) if code is not None else f"http_{response.status}"
    outcome = HTTP_STATUSES.get(response.status)
    if response.status not in ALWAYS_IN_DOUBT and code is not None:
        outcome = CODES.get(code, outcome if response.status == 429 else None)
    if response.status == 503 and outcome is None and "retry-after" in response.headers:
        outcome = LATER
    if outcome is None:
        return SubmitResult(DOUBT, code=text, unknown_code=response.status != 503)
    return SubmitResult(
        outcome,
        code=text,
        retry_after_seconds=retry_after(response.headers) if outcome is LATER else None,
        suppress="provider_opt_out" if code in OPTED_OUT and outcome is RECIPIENT else None,
        route_only=outcome is PROVIDER and code in ROUTE_ONLY,
    )


def _verdict(
    matches: Mapping[str, ReceiptStatus], unreadable: set[str], created: Mapping[str, datetime]
) -> LookUpResult:
    """One match is ours. A text whose body the vendor hides (redaction) could be: then nobody can say."""
    if len(matches) == 1:
        ((sid, status),) = matches.items()
        return Found(sid, status)
    if matches or unreadable:
        by_time = sorted({*matches, *unreadable}, key=lambda sid: (created[sid], sid))
        return Ambiguous(tuple(by_time), is_alike=not unreadable)
    return NotFound()


def _goes_backwards(entries: list[dict[str, Any]]) -> bool:
    """Newest first, as the vendor does. In the other order what is recent is still to come."""
    first, last = date_of(entries[0].get("date_created")), date_of(entries[-1].get("date_created"))
    return first is not None and last is not None and first >= last


def _is_recent(entry: Mapping[str, Any], since: datetime) -> bool:
    """An entry without a readable date_created counts as recent: leaving it out could be a text sent twice."""
    created = date_of(entry.get("date_created"))
    return created is None or created >= since


def _same_text(theirs: str, ours: str) -> bool:
    """White space and the composition of letters do not count: a vendor may have touched them, and a false "not found"
    is a text sent twice."""
    return _normal(theirs.removeprefix(TRIAL_PREFIX)) == _normal(ours)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _code(reply: Mapping[str, Any]) -> int | None:
    """`code` of an error body; vendors write it as a number, proxies sometimes as text."""
    code = reply.get("code")
    if isinstance(code, str) and re.fullmatch(r"[0-9]{1,9}", code):
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None

"""MSG91 (Flow API v5): what its replies and statuses mean, calls with many recipients, receipts.

Sources: MSG91's pages "Send SMS" (Flow), "API" (418), and the help page on the delivery webhook. Not verified against a
live account. Marked [K]: from the list of codes of its older sending API, or general knowledge.

- Templates only: a text is its `template_id`, its `template_variables` as VAR1, VAR2, … and its message pairs by their
  names. The body is not sent.
- One request id for the whole call. A text is named by "<request id>:<number>", so that texts to one number go in calls
  of their own, and our reference goes along as CRQID [K], which ends a doubt when it comes back. v4 of the webhook
  names nothing but the CRQID: with `webhook_version` v4 the reference itself is the text's id.
- A refusal comes as `{"type": "error"}`, mostly with HTTP 200, and is of the whole call: nobody in it was texted.
- No validity, no idempotency key, no look-up, no receipt URL in the call (it is set in MSG91's panel), no public
  description of inbound texts. Callbacks are unsigned: the secret token of their URL is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import HttpPort, HttpRequest, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
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
)
from dispatcher.providers.batches import Alone, hand_over
from dispatcher.providers.clevertap_callback import reply_of
from dispatcher.providers.msg91_receipts import Report, reports_of
from dispatcher.providers.replies import json_object, retry_after

PROVIDER, LATER = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER
RECIPIENT, CONTENT, DOUBT = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT, Outcome.IN_DOUBT

CODES: Mapping[str, Outcome] = {
    # the account, the sender, the route
    "103": PROVIDER,  # [K] sender is missing
    "106": PROVIDER,  # [K] auth key is missing
    "107": PROVIDER,  # [K] route is missing
    "201": PROVIDER,  # [K] auth key is missing or invalid
    "203": PROVIDER,  # [K] invalid sender
    "205": PROVIDER,  # [K] this route is for large calls
    "207": PROVIDER,  # [K] invalid auth key
    "208": PROVIDER,  # [K] our address is not on the allow-list
    "209": PROVIDER,  # [K] no default route
    "210": PROVIDER,  # [K] no route
    "301": PROVIDER,  # [K] balance
    "302": PROVIDER,  # [K] expired account
    "303": PROVIDER,  # [K] banned account
    "401": PROVIDER,  # [K] with no `apiError` that says more
    "418": PROVIDER,  # our address is not on the allow-list
    "505": PROVIDER,  # [K] demo account
    "506": PROVIDER,  # [K] too many small calls today
    # not now
    "306": LATER,  # [K] the route is closed at this hour
    "311": LATER,  # [K] the same call within ten seconds: discarded
    # the person's number
    "101": RECIPIENT,  # [K] missing
    "202": RECIPIENT,  # [K] invalid
    # the text
    "102": CONTENT,  # [K] message is missing
    "310": CONTENT,  # [K] too long
    "template id missing": CONTENT,  # [K]
    "flow id missing": CONTENT,  # [K]
    # may have been processed
    "001": DOUBT,  # [K] database
    "002": DOUBT,  # [K] database
    "601": DOUBT,  # [K] internal error
}
"""By what a refusal names as its `apiError`, `code`, `message` or `errors`."""
OF_ONE_TEXT = frozenset({"101", "102", "202", "310"})
"""The fault of one recipient of the call, and nobody says whose."""
SAME_CALL_SECONDS: Mapping[str, float] = {"311": 10.0}

HTTP_STATUSES: Mapping[int, Outcome] = {
    401: PROVIDER,
    403: PROVIDER,
    404: PROVIDER,
    418: PROVIDER,
    429: LATER,
    500: DOUBT,
    502: DOUBT,
    504: DOUBT,
}
"""What a status says when no known code comes with it. 503 is LATER with a Retry-After only; all else is in doubt."""
ALWAYS_IN_DOUBT = frozenset({500, 502, 504})
"""Whatever code comes with it."""

STATUSES: Mapping[str, ReceiptStatus] = {
    "1": "delivered",
    "2": "undelivered",
    "9": "undelivered",  # NDNC, the national do-not-call register: promotional texts only
    "16": "undelivered",  # rejected
    "17": "undelivered",  # blocked number
    "25": "undelivered",  # rejected
}
NEVER_LEFT = frozenset({"16", "25"})
"""Terminal, the text never left, and another provider could carry it. 9 and 17 hold everywhere."""
SUPPRESS: Mapping[str, str] = {"9": "provider_opt_out", "17": "blocked"}
EVENTS: Mapping[str, ReceiptStatus] = {"delivered": "delivered", "failed": "undelivered"}
NO_RECEIPTS = frozenset({"clicked", "replied"})
OPTED_OUT_CODES = frozenset({"901", "903", "913"})
"""CleverTap's codes, which v2 names too (`ctCode`): DND, opted out, NDNC."""
NO_CODE = frozenset({"900"})

RESERVED_NAMES = frozenset({"mobiles", "mobile", "crqid"})
"""A pair of this name would send the text to somebody else, or take its reference away."""
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}")


class Msg91Adapter:
    """One MSG91 account. `settings` passed check_provider and with_defaults; owns `http`."""

    kind = "msg91"

    def __init__(
        self, provider_id: str, settings: Mapping[str, Any], credentials: Mapping[str, Any], http: HttpPort
    ) -> None:
        self.provider_id = provider_id
        self._http = http
        self._base_url = str(settings["base_url"])
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._route: str | None = settings.get("route")
        common = {"sender": settings.get("sender"), "route": self._route}
        self._common = {name: value for name, value in common.items() if value}
        self._common["short_url"] = "1" if settings["short_url"] == "on" else "0"
        if settings["real_time_response"] == "on":
            self._common["realTimeResponse"] = "1"
        self._is_named_by_reference = settings["webhook_version"] == "v4"
        self.origin = origin_of(self._base_url, f"{settings.get('sender')} {self._route}")
        self.capabilities = Capabilities(
            look_up=False, idempotent=False, receipts=True, batch_size=int(settings["recipients_per_call"])
        )
        self._alone = Alone()
        self._auth_key = str(credentials["auth_key"])
        self._headers = {"authkey": self._auth_key, "Accept": "application/json"}

    async def submit(self, text: OutgoingText) -> SubmitResult:
        refused = _refusal(text)
        return refused if refused is not None else (await self._submit_together([text]))[0]

    def batch_key(self, text: OutgoingText) -> Hashable:
        """The template is the call's; a text whose call was refused as a whole goes alone."""
        return text.filled.template_id, text.message_id if text.message_id in self._alone else None

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        return await hand_over(texts, _refusal, self._submit_together)

    async def _submit_together(self, texts: Sequence[OutgoingText]) -> list[SubmitResult]:
        order = {
            "template_id": texts[0].filled.template_id,
            **self._common,
            "recipients": [_recipient(text) for text in texts],
        }
        headers = {**self._headers, "Content-Type": "application/json"}
        url, body = f"{self._base_url}/api/v5/flow", msgspec.json.encode(order)
        request = HttpRequest("POST", url, headers, body, self._timeout_seconds, all_may_begin(texts))
        try:
            response = await self._http.send(request)
        except NotSent as failure:
            result = SubmitResult(PROVIDER, code=failure.reason, detail="not sent", not_begun=True)
            return [result] * len(texts)
        except InDoubt as failure:
            return [SubmitResult(DOUBT, code=failure.reason, detail="no whole reply")] * len(texts)
        request_id = classify(response)
        if isinstance(request_id, SubmitResult):
            is_of_one = request_id.code in OF_ONE_TEXT and request_id.is_definite_rejection
            if is_of_one and len(texts) > 1:
                return self._alone.refused(texts, request_id)
            return [request_id] * len(texts)
        return [
            SubmitResult(Outcome.ACCEPTED, provider_message_id=self._name(request_id, _digits(text.to), text.reference))
            for text in texts
        ]

    def _name(self, request_id: str | None, number: str | None, reference: str | None) -> str:
        """The text's id, the same from the reply and from each version of the webhook that the setting names."""
        if request_id is None or number is None or (self._is_named_by_reference and reference is not None):
            return reference or ""
        return f"{request_id}:{number}"

    async def look_up(self, query: LookUp) -> LookUpResult:
        """A text in doubt has no request id, and MSG91 is asked by nothing else."""
        return Unavailable("not_supported")

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        """A person's reply that is one of the keywords is obeyed, whatever version the setting names: a STOP counts by
        the text it answers."""
        receipts = []
        for report in reports_of(request):
            if report.event not in NO_RECEIPTS:
                receipts.append(self._receipt(report))
            elif report.event == "replied" and report.said is not None and report.crqid is not None:
                receipts.append(reply_of(report.crqid[:128], report.moment, report.said))
        return receipts

    def _receipt(self, report: Report) -> Receipt:
        if report.event is not None:
            if not self._is_named_by_reference:
                raise BadWebhook("v4 does not name texts by their request id: set webhook_version to v4")
            status, raw_status = EVENTS.get(report.event, "unknown"), report.event
        else:
            status, raw_status = STATUSES.get(report.status, "unknown"), report.status
        name = self._name(report.request_id, report.number, report.crqid)
        if not name:
            raise BadWebhook("meta names no text")
        code = "" if report.code in NO_CODE else report.code or ""
        opted_out = "provider_opt_out" if status == "undelivered" and code in OPTED_OUT_CODES else None
        return Receipt(
            provider_message_id=name[:128],
            status=status,
            raw_status=raw_status[:32],
            code=":".join(filter(None, (report.status, code)))[:32] or None if status != "delivered" else None,
            definitely_not_sent=report.status in NEVER_LEFT,
            reference=report.crqid,
            suppress=SUPPRESS.get(report.status) or opted_out,
        )

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        """MSG91 forwards texts to a virtual number, and describes publicly no shape of that."""
        raise BadWebhook("MSG91 documents no inbound texts")

    async def verify(self) -> Verification:
        """Reads the balance of the route. Proves the auth key and our address, not that template or sender exist."""
        query = urlencode({"authkey": self._auth_key, "type": self._route or "4"})
        url = f"{self._base_url}/api/balance.php?{query}"
        try:
            response = await self._http.send(
                HttpRequest("GET", url, self._headers, timeout_seconds=self._timeout_seconds)
            )
        except (NotSent, InDoubt) as failure:
            return Verification(False, failure.reason)
        if response.status == 200 and re.fullmatch(rb"\s*\"?-?[0-9]{1,15}(\.[0-9]{1,6})?\"?\s*", response.body):
            return Verification(True, proven="the auth key is right; sender and templates are not checked")
        reason = "unexpected_reply" if response.status == 200 else f"http_{response.status}"
        return Verification(False, _known_code(json_object(response.body)) or reason)

    async def close(self) -> None:
        await self._http.close()


def classify(response: HttpResponse) -> str | SubmitResult:
    """The request id, or what the refusal of the call means, by the tables at the top. Pure."""
    reply = json_object(response.body)
    is_success = 200 <= response.status < 300
    said = str(reply.get("message"))
    if is_success and reply.get("type") == "success" and _REQUEST_ID.fullmatch(said):
        return said
    code = None if reply.get("type") == "success" else _known_code(reply)
    outcome = HTTP_STATUSES.get(response.status)
    if response.status not in ALWAYS_IN_DOUBT and code is not None:
        outcome = CODES[code]
    if response.status == 503 and outcome is None and "retry-after" in response.headers:
        outcome = LATER
    text = code.replace(" ", "_") if code is not None else f"http_{response.status}"
    if outcome is None:
        return SubmitResult(DOUBT, code=text, unknown_code=response.status != 503)
    own_wait = SAME_CALL_SECONDS.get(text)
    wait = retry_after(response.headers) or own_wait
    return SubmitResult(
        outcome, code=text, retry_after_seconds=wait if outcome is LATER else None, route_only=own_wait is not None
    )


def _known_code(reply: Mapping[str, Any]) -> str | None:
    """The first that is in the table: MSG91 writes codes as numbers and as text, in several places, and words too."""
    for name in ("apiError", "code", "message", "errors"):
        value = reply.get(name)
        text = str(value).strip().rstrip(".").lower() if isinstance(value, (str, int)) else ""
        if text in CODES:
            return text
    return None


def _recipient(text: OutgoingText) -> dict[str, str]:
    variables = {f"VAR{number}": value for number, value in enumerate(text.filled.variables, 1)}
    pairs = dict(text.filled.message_pairs)
    return {**variables, **pairs, "mobiles": _digits(text.to), "CRQID": text.reference}


def _refusal(text: OutgoingText) -> SubmitResult | None:
    """Known before the call."""
    if not text.filled.template_id:
        return SubmitResult(CONTENT, code="template_id_missing", not_begun=True)
    if any(name.casefold() in RESERVED_NAMES for name, _ in text.filled.message_pairs):
        return SubmitResult(CONTENT, code="reserved_name", detail="a pair has a name of MSG91's", not_begun=True)
    return None


def _digits(phone: str) -> str:
    return phone.removeprefix("+")

"""The sandbox provider: keeps texts in an inbox one can look at, and behaves as its settings say.

`outcome` `in_doubt` is the worst reply a provider can give: the text is lost, and the answer does not say so; a look-up
finds nothing. Any `rejected_…` keeps nothing either. Submitting the same (message_id, attempt) again keeps one text and
answers with its id. Receipts come by themselves after the reply; one that a crash swallows is not made up for, as with
real providers. Must not know where the inbox or the receipts are kept.

Its webhooks are ours: JSON, unsigned (the URL's token is the secret), so that an answer can be played:
inbound `{"from", "to", "body", "id"?}`, receipt `{"provider_message_id", "status", "reference"?}`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.providers.base import (
    BadWebhook,
    Capabilities,
    Found,
    InboundText,
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
)
from dispatcher.providers.keywords import keyword_of
from dispatcher.providers.sandbox_inbox import InboxUnavailable, SandboxInbox, SandboxText

OUTCOMES: Mapping[str, Outcome] = {
    "accept": Outcome.ACCEPTED,
    "rejected_recipient": Outcome.REJECTED_RECIPIENT,
    "rejected_content": Outcome.REJECTED_CONTENT,
    "rejected_provider": Outcome.REJECTED_PROVIDER,
    "rejected_later": Outcome.REJECTED_LATER,
    "in_doubt": Outcome.IN_DOUBT,
}
RECEIPTS: Mapping[str, tuple[ReceiptStatus, ...]] = {
    "delivered": ("sent", "delivered"),
    "undelivered": ("sent", "undelivered"),
    "none": (),
}
STATUSES: Mapping[str, ReceiptStatus] = {
    "accepted": "accepted",
    "sent": "sent",
    "delivered": "delivered",
    "undelivered": "undelivered",
}
SENDER = "SANDBOX"

ReceiptSink = Callable[[str, list[Receipt]], Awaitable[None]]
"""(provider_id, receipts): what the webhook would have done with them."""

logger = logging.getLogger(__name__)


class SandboxAdapter:
    """`settings` passed check_provider and with_defaults."""

    kind = "sandbox"
    capabilities = Capabilities(look_up=True, idempotent=True, receipts=True)

    def __init__(
        self, provider_id: str, settings: Mapping[str, Any], inbox: SandboxInbox, receipt_sink: ReceiptSink
    ) -> None:
        self.provider_id = provider_id
        self.origin = origin_of(provider_id, SENDER)
        self._latency_seconds = float(settings["latency_ms"]) / 1000
        self._timeout_seconds = float(settings["timeout_seconds"])
        self._outcome = OUTCOMES[settings["outcome"]]
        self._receipts = RECEIPTS[settings["receipt"]]
        self._inbox = inbox
        self._receipt_sink = receipt_sink
        self._under_way: set[asyncio.Task[None]] = set()

    async def submit(self, text: OutgoingText) -> SubmitResult:
        if self._latency_seconds > self._timeout_seconds:
            await asyncio.sleep(self._timeout_seconds)
            return SubmitResult(Outcome.IN_DOUBT, code="timeout", detail="sandbox latency is above the timeout")
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        if self._outcome is not Outcome.ACCEPTED:
            return SubmitResult(self._outcome, code=f"sandbox_{self._outcome.value}", detail="as the sandbox is set")
        provider_message_id = sandbox_id(self.provider_id, text.message_id, text.attempt)
        kept = SandboxText(
            provider_id=self.provider_id,
            provider_message_id=provider_message_id,
            message_id=text.message_id,
            attempt=text.attempt,
            reference=text.reference,
            to=text.to,
            from_=text.sender or SENDER,
            body=text.body,
            encoding=text.encoding,
            parts=text.parts,
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                provider_message_id = await self._inbox.put(kept)
        except InboxUnavailable:
            return SubmitResult(Outcome.IN_DOUBT, code="inbox_unavailable")
        except TimeoutError:
            return SubmitResult(Outcome.IN_DOUBT, code="timeout")
        if self._receipts and text.callback_url is not None:
            task = asyncio.create_task(self._send_receipts(provider_message_id, text.reference))
            self._under_way.add(task)
            task.add_done_callback(self._receipts_ended)
        return SubmitResult(Outcome.ACCEPTED, provider_message_id=provider_message_id)

    async def _send_receipts(self, provider_message_id: str, reference: str) -> None:
        receipts = [
            Receipt(provider_message_id=provider_message_id, status=status, raw_status=status, reference=reference)
            for status in self._receipts
        ]
        await self._receipt_sink(self.provider_id, receipts)

    def _receipts_ended(self, task: asyncio.Task[None]) -> None:
        """The kind of error only: a database's words may hold a phone number."""
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "sandbox_receipts_failed", extra={"provider_id": self.provider_id, "error": type(error).__name__}
            )

    async def look_up(self, query: LookUp) -> LookUpResult:
        """By our own key, so never ambiguous: the inbox keeps it."""
        try:
            ids = await self._inbox.find(self.provider_id, query.message_id)
        except InboxUnavailable:
            return Unavailable("inbox_unavailable")
        wanted = sandbox_id(self.provider_id, query.message_id, query.attempt)
        unheld = [each for each in ids if each not in query.known_ids]
        if wanted in unheld:
            return Found(wanted, "accepted")
        return Found(unheld[-1], "accepted") if unheld else NotFound()

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        body = _json_object(request.raw_body)
        provider_message_id, status = body.get("provider_message_id"), body.get("status")
        if not isinstance(provider_message_id, str) or not isinstance(status, str) or not provider_message_id:
            raise BadWebhook("provider_message_id and status are mandatory")
        reference = body.get("reference")
        return [
            Receipt(
                provider_message_id=provider_message_id,
                status=STATUSES.get(status, "unknown"),
                raw_status=status[:32],
                reference=reference if isinstance(reference, str) else reference_of(request.url),
            )
        ]

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        body = _json_object(request.raw_body)
        sender, to, text = body.get("from"), body.get("to"), body.get("body")
        if not isinstance(sender, str) or not isinstance(text, str) or not sender:
            raise BadWebhook("from and body are mandatory")
        given = body.get("id")
        return [
            InboundText(
                from_=sender,
                to=to if isinstance(to, str) and to else SENDER,
                body=text,
                provider_message_id=given if isinstance(given, str) and given else _digest(request.raw_body),
                keyword=keyword_of(text),
            )
        ]

    async def verify(self) -> Verification:
        return Verification(True, proven="a sandbox has no account")

    async def close(self) -> None:
        """Lets receipts under way end, as the process is still able to keep them."""
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=5)
        for task in self._under_way:
            task.cancel()


def sandbox_id(provider_id: str, message_id: str, attempt: int) -> str:
    """The provider message id follows from what it names: a repeated submit gives the same."""
    return "SB" + hashlib.sha256(f"{provider_id}\n{message_id}\n{attempt}".encode()).hexdigest()[:32]


def _digest(raw_body: bytes) -> str:
    return "SB" + hashlib.sha256(raw_body).hexdigest()[:32]


def _json_object(raw_body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw_body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadWebhook("expected JSON") from error
    if not isinstance(value, dict):
        raise BadWebhook("expected a JSON object")
    return value

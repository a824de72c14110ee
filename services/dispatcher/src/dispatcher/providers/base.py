"""The port to SMS providers: what goes out, what comes back, and the Protocol every adapter implements.

No vendor's word and no I/O in here. An adapter is handed everything it needs at construction (registry.py builds it),
keeps no state that matters across a crash, and never retries: the ledger decides what happens after a call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from msgspec import Struct

from dispatcher.domain.outcomes import SubmitResult
from dispatcher.http_port import always
from postrider.sms.filled import NOTHING_FILLED
from postrider.sms.filled import Filled as Filled

Encoding = Literal["GSM-7", "UCS-2"]
ReceiptStatus = Literal["accepted", "sent", "delivered", "undelivered", "unknown"]
Keyword = Literal["stop", "start", "help"]

REFERENCE_PARAMETER = "reference"
REPLY_ATTEMPT = 0
"""In references of answers to keyword texts, which are in no ledger of messages; calls of messages count from 1."""
OPTED_IN = "opted_in"
"""In place of a reason to suppress: the person takes an opt-out back."""


class OutgoingText(Struct, frozen=True):
    """One attempt to send one message. `to` is E.164. `body` is empty where the provider knows only templates.

    `reference` is ours, opaque to the provider, and comes back in receipts (in the vendor's field for it, or in the
    callback's query). `validity_seconds`: how long the provider may try, already the smaller of the allowed interval's
    end and `send_by`; None where the message has no end. `callback_url`: the provider's receipts URL without a
    reference; None asks for no receipts. `may_begin` goes into the request as it is (HttpRequest.may_begin). `sender`:
    in place of the provider's own, the number that a person wrote to, where the vendor takes one. `message_class`: of
    the campaign, transactional or promotional.
    """

    message_id: str
    attempt: int
    reference: str
    to: str
    body: str
    encoding: Encoding
    parts: int
    validity_seconds: int | None = None
    callback_url: str | None = None
    campaign_id: str = ""
    filled: Filled = NOTHING_FILLED
    may_begin: Callable[[], bool] = always
    sender: str | None = None
    message_class: str = "transactional"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the ledger may rely on. `idempotent`: the same (message_id, attempt) may be submitted again in doubt.
    `batch_size`: above 1, the adapter is a `BatchAdapter`, and so many texts may share one call.

    `callback_reply`: the JSON that the vendor expects, with a 200, for a receipt that was kept; empty: 204.

    The validity bounds are None where the vendor takes no validity. Below the minimum the caller waits or expires
    the message; above the maximum the adapter sends the maximum.
    """

    look_up: bool
    idempotent: bool
    receipts: bool
    min_validity_seconds: int | None = None
    max_validity_seconds: int | None = None
    batch_size: int = 1
    callback_reply: bytes = b""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where texts of this adapter are found again: opaque words that change with the settings that decide it. A look-up
    in another account proves nothing, one for another sender finds nothing."""

    account: str
    sender: str

    @property
    def name(self) -> str:
        return f"{self.account}.{self.sender}"


def origin_of(account: str, sender: str) -> Origin:
    """Of whatever names the account and the sender; none of it can be read out of what is kept."""
    account, sender = (hashlib.sha256(each.encode()).hexdigest()[:12] for each in (account, sender))
    return Origin(account, sender)


@dataclass(frozen=True, slots=True)
class LookUp:
    """Was this message accepted after all? `known_ids`: provider message ids that other messages of ours hold.

    `attempted_at` is the aware moment of the SUBMITTING mark. A negative answer proves nothing before the provider's
    in_doubt_wait_seconds are over: the caller waits, the adapter does not. `any_sender`: the sender has been changed
    since the attempt, so that of the text nothing is known but its account.
    """

    message_id: str
    reference: str
    to: str
    body: str
    attempted_at: datetime
    known_ids: frozenset[str] = frozenset()
    attempt: int = 1
    any_sender: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Exactly one text of the provider's can be this message, and nobody else of ours holds it."""

    provider_message_id: str
    status: ReceiptStatus


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider was read completely back to before the attempt, and has no such text."""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Several texts could be this message. In the order in which the provider took them; `is_alike`: nothing
    distinguishes them from what was sent, where otherwise a body could not be read."""

    provider_message_ids: tuple[str, ...]
    is_alike: bool = True


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The provider could not be read to the end. Says nothing about the message. `reason` has no personal data."""

    reason: str


LookUpResult = Found | NotFound | Ambiguous | Unavailable


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's word on a text. May come twice, out of order, before our own reply.

    `definitely_not_sent`: `code` is terminal, means that the text never left, and another provider could carry it.
    `raw_status` is the vendor's word; `status` "unknown" (alarm) changes no state. `suppress`: a suppression reason,
    or OPTED_IN. A vendor that names a text by our reference alone gives that as the `provider_message_id` too.

    `is_part`: this vendor reports each part of a long text by itself, under an id of its own, and all that is said
    here, `definitely_not_sent` too, holds for that part; `reference` names the text (see domain/parts.py).
    """

    provider_message_id: str
    status: ReceiptStatus
    raw_status: str
    code: str | None = None
    definitely_not_sent: bool = False
    reference: str | None = None
    suppress: str | None = None
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class InboundText:
    """A text from a person. `keyword`: what it asks for when it is exactly one of the opt-out, opt-in, help words."""

    from_: str
    to: str
    body: str
    provider_message_id: str
    keyword: Keyword | None = None


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A callback as it came. `url` is the full public URL with its query, as the provider wrote it.

    Signatures cover that URL and `raw_body`. `headers` may be in any case.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    raw_body: bytes

    def header(self, name: str) -> str | None:
        wanted = name.lower()
        for key, value in self.headers.items():
            if key.lower() == wanted:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Verification:
    """The end of a harmless authenticated call. `reason` names what is wrong, without secrets or personal data.
    `is_checked` False: there is no such call, and nothing is known. `proven`: what is known now, and what is not."""

    ok: bool
    reason: str | None = None
    is_checked: bool = True
    proven: str = ""


class BadSignature(Exception):
    """The callback is not the provider's (or the public URL differs from what the provider was given). Answer 403."""


class BadWebhook(Exception):
    """Authentic, but not in the vendor's documented shape. Answer 400."""


class ProviderAdapter(Protocol):
    """One account at one vendor. Safe for any number of concurrent calls up to its HTTP port's connection limit."""

    @property
    def kind(self) -> str: ...

    @property
    def provider_id(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def origin(self) -> Origin: ...

    async def submit(self, text: OutgoingText) -> SubmitResult:
        """Hand one text over, at most once on the wire. Raises nothing but CancelledError, which means: in doubt, and
        the HTTP port's CalledOff, which means that `may_begin` said no.

        Takes at most the provider's timeout_seconds and a little (the clock fence of the caller counts on it).
        """
        ...

    async def look_up(self, query: LookUp) -> LookUpResult:
        """Ask the provider for a message in doubt. A failure of any kind is Unavailable, never NotFound."""
        ...

    def parse_receipt(self, request: WebhookRequest) -> list[Receipt]:
        """Check the signature first, then read. Raises BadSignature or BadWebhook."""
        ...

    def parse_inbound(self, request: WebhookRequest) -> list[InboundText]:
        """Check the signature first, then read. Raises BadSignature or BadWebhook."""
        ...

    async def verify(self) -> Verification:
        """A harmless authenticated call where the vendor has one."""
        ...

    async def close(self) -> None:
        """Close connections. Calls under way end as in doubt."""
        ...


class BatchAdapter(ProviderAdapter, Protocol):
    """A vendor who takes several texts in one call; each keeps an outcome of its own."""

    def batch_key(self, text: OutgoingText) -> Hashable:
        """Texts with equal keys may share a call."""
        ...

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        """Hand over at most `batch_size` texts of one key in one call, or in several at once where the vendor could not
        tell two of them apart; one result each, in their order. None: the call was called off, since a text of it was
        told that it may not begin; nothing of it was sent.

        As `submit`: at most once on the wire, raises nothing but CancelledError. A reply that says nothing of a text
        leaves that text in doubt.
        """
        ...


def all_may_begin(texts: Sequence[OutgoingText]) -> Callable[[], bool]:
    """`may_begin` of a call with several texts: it begins only with all of them."""
    if len(texts) == 1:
        return texts[0].may_begin
    return lambda: all(text.may_begin() for text in texts)


def with_reference(callback_url: str, reference: str) -> str:
    """The callback URL given with one message: begins with `callback_url`, has our reference in its query."""
    joint = "&" if urlsplit(callback_url).query else "?"
    return f"{callback_url}{joint}{REFERENCE_PARAMETER}={quote(reference, safe='')}"


def reference_of(url: str) -> str | None:
    """Our reference in a callback's URL, or None."""
    for name, value in parse_qsl(urlsplit(url).query):
        if name == REFERENCE_PARAMETER and value:
            return value
    return None

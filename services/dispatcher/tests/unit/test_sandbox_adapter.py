"""The sandbox provider: one text per (message, attempt), receipts by itself, look-ups from the inbox."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from dispatcher.domain.outcomes import Outcome
from dispatcher.providers.base import (
    BadWebhook,
    Found,
    LookUp,
    LookUpResult,
    NotFound,
    OutgoingText,
    Receipt,
    Unavailable,
    WebhookRequest,
)
from dispatcher.providers.sandbox import SandboxAdapter, sandbox_id
from dispatcher.providers.sandbox_inbox import InboxUnavailable, MemoryInbox, SandboxText
from postrider.contracts.provider_fields import with_defaults
from tests.support.eventually import eventually

TO = "+15005550006"


class BrokenInbox:
    async def put(self, text: SandboxText) -> str:
        raise InboxUnavailable

    async def find(self, provider_id: str, message_id: str) -> list[str]:
        raise InboxUnavailable


class Sink:
    def __init__(self, fails: bool = False) -> None:
        self.taken: list[tuple[str, Receipt]] = []
        self._fails = fails

    async def __call__(self, provider_id: str, receipts: list[Receipt]) -> None:
        if self._fails:
            raise RuntimeError(f"row ({TO}) is bad")
        self.taken += [(provider_id, receipt) for receipt in receipts]


def adapter(inbox: Any = None, sink: Sink | None = None, **settings: Any) -> SandboxAdapter:
    return SandboxAdapter("prv_1", with_defaults("sandbox", settings), inbox or MemoryInbox(), sink or Sink())


def text(attempt: int = 1, callback_url: str | None = "https://sms.example/receipts/prv_1/tok") -> OutgoingText:
    return OutgoingText("m1", attempt, f"m1-{attempt}", TO, "Hi", "GSM-7", 1, callback_url=callback_url)


def query(*known: str, attempt: int = 1) -> LookUp:
    return LookUp("m1", "m1-1", TO, "Hi", datetime(2026, 12, 1, tzinfo=UTC), frozenset(known), attempt)


async def test_a_text_is_kept_as_the_phone_got_it() -> None:
    inbox = MemoryInbox()
    await adapter(inbox, receipt="none").submit(text())
    (kept,) = inbox.texts
    assert (kept.provider_id, kept.message_id, kept.attempt, kept.reference) == ("prv_1", "m1", 1, "m1-1")
    assert (kept.to, kept.from_, kept.body, kept.encoding, kept.parts) == (TO, "SANDBOX", "Hi", "GSM-7", 1)


async def test_the_same_attempt_is_one_text_and_the_next_attempt_another() -> None:
    inbox = MemoryInbox()
    sandbox = adapter(inbox, receipt="none")
    first, again, next_ = [await sandbox.submit(text(attempt)) for attempt in (1, 1, 2)]
    assert first == again
    assert next_.provider_message_id != first.provider_message_id
    assert [kept.attempt for kept in inbox.texts] == [1, 2]


@pytest.mark.parametrize(
    ("setting", "statuses"),
    [("delivered", ["sent", "delivered"]), ("undelivered", ["sent", "undelivered"]), ("none", [])],
)
async def test_receipts_come_by_themselves(setting: str, statuses: list[str]) -> None:
    sink = Sink()
    sandbox = adapter(sink=sink, receipt=setting)
    result = await sandbox.submit(text())
    await sandbox.close()
    assert [receipt.status for _, receipt in sink.taken] == statuses
    assert {receipt.provider_message_id for _, receipt in sink.taken} <= {result.provider_message_id}
    assert {receipt.reference for _, receipt in sink.taken} <= {"m1-1"}


async def test_no_receipts_without_a_callback_or_an_accepted_text() -> None:
    sink = Sink()
    for sandbox, callback_url in (
        (adapter(sink=sink), None),
        (adapter(sink=sink, outcome="in_doubt"), "https://x.example"),
    ):
        await sandbox.submit(text(callback_url=callback_url))
        await sandbox.close()
    assert sink.taken == []


async def test_a_receipt_that_fails_is_logged_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = adapter(sink=Sink(fails=True))
    with caplog.at_level(logging.ERROR):
        assert (await sandbox.submit(text())).is_accepted
        await eventually(lambda: caplog.records, every=0.001)
    (record,) = caplog.records
    assert record.getMessage() == "sandbox_receipts_failed"
    assert TO not in caplog.text


async def test_latency_above_the_timeout_is_in_doubt_and_loses_the_text() -> None:
    inbox = MemoryInbox()
    result = await adapter(inbox, latency_ms=60_000, timeout_seconds=0.5).submit(text())
    assert (result.outcome, result.code) == (Outcome.IN_DOUBT, "timeout")
    assert inbox.texts == []


async def test_an_inbox_that_cannot_be_reached_is_doubt_not_a_rejection() -> None:
    sandbox = adapter(BrokenInbox())
    assert (await sandbox.submit(text())).outcome is Outcome.IN_DOUBT
    assert await sandbox.look_up(query()) == Unavailable("inbox_unavailable")


@pytest.mark.parametrize(
    ("attempts", "asked", "expected"),
    [
        ([], query(), NotFound()),
        ([1], query(), Found(sandbox_id("prv_1", "m1", 1), "accepted")),
        ([1, 2], query(attempt=1), Found(sandbox_id("prv_1", "m1", 1), "accepted")),
        ([1, 2], query(attempt=2), Found(sandbox_id("prv_1", "m1", 2), "accepted")),
        ([1], query(attempt=2), Found(sandbox_id("prv_1", "m1", 1), "accepted")),
        ([1], query(sandbox_id("prv_1", "m1", 1)), NotFound()),
    ],
)
async def test_look_up(attempts: list[int], asked: LookUp, expected: LookUpResult) -> None:
    sandbox = adapter(receipt="none")
    for attempt in attempts:
        await sandbox.submit(text(attempt))
    assert await sandbox.look_up(asked) == expected


async def test_in_doubt_means_lost() -> None:
    sandbox = adapter(outcome="in_doubt")
    await sandbox.submit(text())
    assert await sandbox.look_up(query()) == NotFound()


def webhook(body: bytes) -> WebhookRequest:
    return WebhookRequest("POST", "https://sms.example/inbound/prv_1/tok?reference=m1-1", {}, body)


def test_an_answer_can_be_played() -> None:
    (inbound,) = adapter().parse_inbound(webhook(b'{"from":"+15005550006","to":"SANDBOX","body":"Stop","id":"i1"}'))
    assert (inbound.from_, inbound.keyword, inbound.provider_message_id) == (TO, "stop", "i1")
    (first,) = adapter().parse_inbound(webhook(b'{"from":"+15005550006","body":"hello"}'))
    (again,) = adapter().parse_inbound(webhook(b'{"from":"+15005550006","body":"hello"}'))
    assert first == again
    assert first.keyword is None


def test_a_receipt_can_be_played() -> None:
    (receipt,) = adapter().parse_receipt(webhook(b'{"provider_message_id":"SB1","status":"delivered"}'))
    assert (receipt.provider_message_id, receipt.status, receipt.reference) == ("SB1", "delivered", "m1-1")
    (receipt,) = adapter().parse_receipt(webhook(b'{"provider_message_id":"SB1","status":"eaten"}'))
    assert receipt.status == "unknown"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"from":1,"body":"x"}', b"\xff"])
def test_webhooks_that_say_nothing(body: bytes) -> None:
    with pytest.raises(BadWebhook):
        adapter().parse_inbound(webhook(body))
    with pytest.raises(BadWebhook):
        adapter().parse_receipt(webhook(body))


async def test_verify() -> None:
    assert (await adapter().verify()).ok

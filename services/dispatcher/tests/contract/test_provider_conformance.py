"""What every provider adapter must do, as one table: a row per outcome and per code. A new adapter adds its rows in
rows_<kind>.py.

The vendor's side is a scripted HTTP port: what a reply means is decided by the adapter alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast
from urllib.parse import parse_qs

import pytest
from msgspec.structs import replace

from dispatcher.domain.outcomes import DEFINITE_REJECTIONS, Outcome
from dispatcher.http_port import CalledOff, HttpResponse
from dispatcher.providers.base import BatchAdapter, OutgoingText, ProviderAdapter, Receipt
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from services.dispatcher.tests.contract import (
    rows_exotel,
    rows_generic,
    rows_msg91,
    rows_netcore,
    rows_twilio,
    rows_vonage,
)  # fmt: skip
from services.dispatcher.tests.contract.conformance import (
    ACCEPTED,
    BODY,
    CONTENT,
    DOUBT,
    LATER,
    PROVIDER,
    RECIPIENT,
    TO,
    TOKEN,
    Row,
)  # fmt: skip
from tests.standins.scripted_http import ScriptedHttp


def sandbox(setting: str, outcome: Outcome) -> Row:
    return Row(setting, "sandbox", outcome, {"outcome": setting})


VENDORS = [rows_twilio, rows_exotel, rows_msg91, rows_vonage, rows_generic, rows_netcore]
ROWS: list[Row] = [
    *(row for vendor in VENDORS for row in vendor.ROWS),
    sandbox("accept", ACCEPTED),
    sandbox("rejected_recipient", RECIPIENT),
    sandbox("rejected: content", CONTENT),
    sandbox("rejected_provider", PROVIDER),
    sandbox("rejected_later", LATER),
    sandbox("in_doubt", DOUBT),
]


def build(row: Row) -> tuple[ProviderAdapter, ScriptedHttp, MemoryInbox]:
    http, inbox = ScriptedHttp([row.step] if row.step else []), MemoryInbox()

    async def no_receipts(provider_id: str, receipts: list[Receipt]) -> None:
        raise AssertionError("only adapters with a callback URL send receipts")

    parts = AdapterParts(new_http=lambda: http, inbox=inbox, receipt_sink=no_receipts)
    settings = row.settings | ({"receipt": "none"} if row.kind == "sandbox" else {})
    return build_adapter(row.kind, "prv_1", settings, row.credentials, parts), http, inbox


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_submit(row: Row) -> None:
    adapter, http, inbox = build(row)
    result = await adapter.submit(row.text)
    assert result.outcome is row.outcome
    for name, value in row.also.items():
        assert getattr(result, name) == value, name
    assert len(http.requests) == (row.step is not None), "exactly one request, whatever the reply"
    assert (result.provider_message_id is not None) == (row.outcome is ACCEPTED)
    assert result.is_definite_rejection == (row.outcome in DEFINITE_REJECTIONS)
    said = f"{result.code} {result.detail}"
    assert TO not in said and BODY not in said and TOKEN not in said, "code and detail are for logs"
    if row.kind == "sandbox":
        assert len(inbox.texts) == (row.outcome is ACCEPTED)
    await adapter.close()


@pytest.mark.parametrize("row", [row for row in ROWS if row.outcome is ACCEPTED and row.step], ids=str)
async def test_a_call_that_is_called_off_when_connected_is_no_outcome(row: Row) -> None:
    adapter, http, _ = build(row)
    with pytest.raises(CalledOff):
        await adapter.submit(replace(row.text, may_begin=lambda: False))
    assert len(http.requests) == 1
    await adapter.close()


@pytest.mark.parametrize("kind", sorted({row.kind for row in ROWS}))
def test_every_outcome_has_a_row(kind: str) -> None:
    assert {row.outcome for row in ROWS if row.kind == kind} == set(Outcome)


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.__name__.rpartition("_")[2])
def test_every_code_of_the_table_has_a_row(vendor: ModuleType) -> None:
    said: set[str] = set()
    for row in vendor.ROWS:
        if isinstance(row.step, HttpResponse):
            said |= {f"http_{row.step.status}", *vendor.codes_of(row.step.body)}
    assert said >= vendor.TABLE


@pytest.mark.parametrize("row", [row for row in ROWS if row.outcome is ACCEPTED], ids=str)
async def test_the_capabilities_hold(row: Row) -> None:
    """Who claims idempotency keeps one text of two submits; who claims look-up answers look-ups."""
    adapter, _, inbox = build(row)
    if adapter.capabilities.idempotent:
        first, second = await adapter.submit(row.text), await adapter.submit(row.text)
        assert first == second
        assert len(inbox.texts) == 1
    low, high = adapter.capabilities.min_validity_seconds, adapter.capabilities.max_validity_seconds
    assert (low is None) == (high is None)
    await adapter.close()


IN_BATCHES: Mapping[str, dict[str, Any]] = {
    "exotel": {"bulk": "json"},
    "msg91": {},
    "generic": {"json": {"texts": [{"to": "$$To", "text": "$$Body"}]}, "batch": {"key": "texts", "size": 10}},
}
"""Settings with which several texts share a call."""
TAKERS = [row for row in ROWS if hasattr(build(row)[0], "submit_batch")]
FIRST = [next(row for row in ROWS if row.kind == kind and row.outcome is ACCEPTED) for kind in IN_BATCHES]
SEVERAL = [dataclasses.replace(row, settings=row.settings | IN_BATCHES[row.kind]) for row in FIRST]


def another(text: OutgoingText) -> OutgoingText:
    return replace(text, message_id="1" * 32, to="+15005550007")


@pytest.mark.parametrize("row", TAKERS, ids=str)
async def test_a_call_with_one_text_is_judged_alike(row: Row) -> None:
    """Whatever the reply, and nothing is sent for no text at all."""
    plain, batching = build(row)[0], cast(BatchAdapter, build(row)[0])
    assert await batching.submit_batch([row.text]) == [await plain.submit(row.text)]
    assert await batching.submit_batch([]) == []


@pytest.mark.parametrize("row", SEVERAL, ids=str)
async def test_one_text_that_may_not_begin_calls_off_the_call(row: Row) -> None:
    """Nobody in it was texted, and each goes back to where it came from."""
    adapter, http, _ = build(row)
    batching = cast(BatchAdapter, adapter)
    assert batching.capabilities.batch_size > 1
    assert batching.batch_key(row.text) == batching.batch_key(another(row.text))
    texts = [row.text, replace(another(row.text), may_begin=lambda: False)]
    assert await batching.submit_batch(texts) == [None, None]
    assert len(http.requests) == 1
    await adapter.close()


SENDERS: Mapping[str, tuple[str, str]] = {
    "twilio": ("From", "+15005550009"), "vonage": ("from", "15005550009"), "exotel": ("From", "+15005550009"),
}  # fmt: skip
"""The field of the sender, and how the vendor writes a number."""


@pytest.mark.parametrize("kind", SENDERS)
async def test_an_answer_is_from_the_number_that_was_written_to(kind: str) -> None:
    row = next(row for row in ROWS if row.kind == kind and row.outcome is ACCEPTED and row.step)
    adapter, http, _ = build(row)
    await adapter.submit(replace(row.text, sender="+15005550009", callback_url=None))
    (request,) = http.requests
    form, (name, sender) = parse_qs(request.body.decode()), SENDERS[kind]
    assert form[name] == [sender] and "MessagingServiceSid" not in form
    await adapter.close()


async def test_the_sandbox_keeps_the_number_that_was_written_to() -> None:
    row = next(row for row in ROWS if row.kind == "sandbox" and row.outcome is ACCEPTED)
    adapter, _, inbox = build(row)
    await adapter.submit(replace(row.text, sender="+15005550009", callback_url=None))
    assert [text.from_ for text in inbox.texts] == ["+15005550009"]

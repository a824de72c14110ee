"""What every provider adapter must do, as one table: a row per outcome and per code. A new adapter adds its rows in
rows_<kind>.py.

The vendor's side is a scripted HTTP port: what a reply means is decided by the adapter alone.
"""

from __future__ import annotations

from types import ModuleType

import pytest

from dispatcher.domain.outcomes import DEFINITE_REJECTIONS, Outcome
from dispatcher.http_port import HttpResponse
from dispatcher.providers.base import ProviderAdapter, Receipt
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from services.dispatcher.tests.contract import rows_generic, rows_netcore, rows_twilio
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


VENDORS = [rows_twilio, rows_generic, rows_netcore]
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

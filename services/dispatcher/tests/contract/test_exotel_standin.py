"""The Exotel adapter against the Exotel-shaped stand-in as a process: the two agree on the vendor's documented shapes,
and whatever becomes of a call, no text is accepted twice and each result tells the truth about its own text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from dispatcher.domain.outcomes import Outcome
from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.providers.base import Filled, OutgoingText, Receipt
from dispatcher.providers.exotel import ExotelAdapter
from postrider.contracts.provider_fields import with_defaults
from tests.standins.running import standin_process
from tests.standins.vendor import SHARES
from tests.support.batches import all_begun
from tests.support.eventually import eventually
from tests.support.webhooks import misbehave, webhooks

SID, KEY, TOKEN, FROM = "acme1", "key", "token", "ACMESH"


@contextlib.asynccontextmanager
async def provider(
    log: Path, *more: str, token: str = TOKEN, timeout_seconds: float = 10, **settings: Any
) -> AsyncIterator[tuple[ExotelAdapter, int]]:
    """(adapter, port) against a stand-in of its own."""
    account = ("--account-sid", SID, "--api-key", KEY, "--api-token", TOKEN)
    async with standin_process("exotel", log, *account, *more) as port:
        http = HttptoolsPort(connection_limit=16, policy=AddressPolicy.of(["127.0.0.0/8"]))
        given = {
            "account_sid": SID,
            "sender_id": FROM,
            "base_url": f"http://127.0.0.1:{port}",
            "timeout_seconds": timeout_seconds,
            **settings,
        }
        credentials = {"api_key": KEY, "api_token": token}
        adapter = ExotelAdapter("prv_1", with_defaults("exotel", given), credentials, http)
        try:
            yield adapter, port
        finally:
            await adapter.close()


def text(number: int, callback_url: str | None = None, body: str = "Hi, 20 % & more: ठीक") -> OutgoingText:
    return OutgoingText(
        f"m{number}", 1, f"m{number}.1", f"+9198765{number:05}", body, "UCS-2", 1, None, callback_url,
        filled=Filled(template_id="1107160000000012345"),
    )  # fmt: skip


def accepted(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def lines(log: Path) -> dict[str, dict[str, Any]]:
    """What was accepted, by our reference."""
    found = accepted(log)
    by_reference = {line["reference"]: line for line in found}
    assert len(by_reference) == len(found), "a text was accepted twice"
    return by_reference


@pytest.mark.parametrize("status", ["200", "202"])
async def test_a_text_is_on_disk_before_its_reply(tmp_path: Path, status: str) -> None:
    log = tmp_path / "texts"
    settings: dict[str, Any] = {"dlt_entity_id": "1201159141940678598", "sms_type": "transactional"}
    async with provider(log, "--accepted-status", status, **settings) as (adapter, _):
        result = await adapter.submit(text(1, "https://sms.example/receipts/prv_1/tok"))
        assert (await adapter.verify()).ok
    line = lines(log)["m1.1"]
    assert line["sid"] == result.provider_message_id
    assert (line["to"], line["from"], line["body"]) == ("+919876500001", FROM, "Hi, 20 % & more: ठीक")
    assert (line["encoding"], line["dlt"]) == (
        "unicode", ["1201159141940678598", "1107160000000012345", "transactional"]
    )  # fmt: skip
    assert line["status_callback"] == "https://sms.example/receipts/prv_1/tok?reference=m1.1"


async def test_a_wrong_token_is_refused_for_good(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", token="wrong") as (adapter, _):
        result = await adapter.submit(text(1))
        assert (result.outcome, result.code) == (Outcome.REJECTED_PROVIDER, "34010")
        assert (await adapter.verify()).reason == "34010"
    assert lines(tmp_path / "texts") == {}


@pytest.mark.parametrize("bulk", ["off", "json", "form"])
async def test_misbehaviour(tmp_path: Path, bulk: str) -> None:
    """A refusal is the truth, and what was accepted without a word is never taken for refused."""
    log = tmp_path / "texts"
    shape = ["--bulk", bulk] if bulk != "off" else []
    async with provider(log, *shape, timeout_seconds=1.5, bulk=bulk) as (adapter, port):
        sent = [text(1)] if bulk == "off" else [text(1), text(2)]
        for fault in [each for each in SHARES if each != "slow"]:
            await misbehave(port, fault)
            before = len(accepted(log))
            results = [await adapter.submit(sent[0])] if bulk == "off" else all_begun(await adapter.submit_batch(sent))
            is_refused = fault == "reject_429"
            expected = Outcome.REJECTED_LATER if is_refused else Outcome.IN_DOUBT
            assert {result.outcome for result in results} == {expected}, fault
            assert len(accepted(log)) == before + (0 if is_refused else len(sent)), fault


async def test_an_account_without_balance(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", "--refuse-code", "40001") as (adapter, _):
        assert (await adapter.submit(text(1))).outcome is Outcome.REJECTED_PROVIDER
    assert accepted(tmp_path / "texts") == []


@pytest.mark.parametrize("bulk", ["json", "form"])
async def test_each_text_of_a_batch_has_its_own_outcome(tmp_path: Path, bulk: str) -> None:
    log = tmp_path / "texts"
    async with provider(log, "--bulk", bulk, bulk=bulk) as (adapter, _):
        sent = [text(number) for number in range(100)]
        sent[7] = OutgoingText("m7", 1, "m7.1", "+9100", "Hi", "UCS-2", 1)
        results = all_begun(await adapter.submit_batch(sent))
        assert results[7].outcome is Outcome.REJECTED_RECIPIENT
        kept = lines(log)
        for given, result in zip(sent, results, strict=True):
            if given.message_id != "m7":
                assert result.provider_message_id == kept[given.reference]["sid"]
    assert len(kept) == 99


@pytest.mark.parametrize("bulk", ["json", "form"])
async def test_a_batch_answered_in_disorder_and_with_holes(tmp_path: Path, bulk: str) -> None:
    """Every result that claims to know is right; the rest is in doubt, and those texts were sent."""
    log = tmp_path / "texts"
    async with provider(log, "--bulk", bulk, "--bulk-chaos", "--seed", "5", bulk=bulk) as (adapter, _):
        sent = [text(number) for number in range(50)]
        results = all_begun(await adapter.submit_batch(sent))
    kept = lines(log)
    assert {result.outcome for result in results} == {Outcome.ACCEPTED, Outcome.IN_DOUBT}
    for given, result in zip(sent, results, strict=True):
        assert result.provider_message_id in (None, kept[given.reference]["sid"])


async def test_the_other_shape_of_a_batch_is_the_providers_fault(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", "--bulk", "form", bulk="json") as (adapter, _):
        results = all_begun(await adapter.submit_batch([text(1), text(2)]))
        assert [(result.outcome, result.code) for result in results] == [(Outcome.REJECTED_PROVIDER, "40201")] * 2


@pytest.mark.parametrize("bulk", ["off", "json", "form"])
async def test_receipts_name_our_reference(tmp_path: Path, bulk: str) -> None:
    more = ["--receipt-chaos", "--seed", "3", *(["--bulk", bulk] if bulk != "off" else [])]
    ends: list[tuple[str, str, str | None]] = [
        ("delivered", "delivered", None),
        ("undelivered", "undelivered", None),
        ("dnd", "undelivered", "provider_opt_out"),
    ]
    async with webhooks() as (url, came), provider(tmp_path / "texts", *more, bulk=bulk) as (adapter, port):
        for turn, (receipts, status, suppress) in enumerate(ends):
            await misbehave(port, receipts=receipts)
            sent = [text(10 * turn + number, url) for number in range(4)]
            if bulk == "off":
                results = [await adapter.submit(each) for each in sent]
            else:
                results = all_begun(await adapter.submit_batch(sent))
            names = {result.provider_message_id: each.reference for result, each in zip(results, sent, strict=True)}

            def receipts_of(names: dict[str | None, str] = names) -> list[Receipt]:
                found = [receipt for request in came for receipt in adapter.parse_receipt(request)]
                return [receipt for receipt in found if receipt.provider_message_id in names]

            def have_ended(names: dict[str | None, str] = names, status: str = status) -> bool:
                ended = [receipt for receipt in receipts_of(names) if receipt.status == status]
                return {receipt.provider_message_id: receipt.reference for receipt in ended} == names

            await eventually(have_ended)
            said = {(receipt.status, receipt.suppress) for receipt in receipts_of()}
            assert said <= {("sent", None), (status, suppress)}


async def test_a_person_answers(tmp_path: Path) -> None:
    async with webhooks() as (url, came), provider(tmp_path / "texts") as (adapter, port):
        order = {"from": "09876500001", "to": FROM, "body": "STOP", "url": url}
        async with ClientSession() as session:
            async with session.post(f"http://127.0.0.1:{port}/_inbound", json=order) as response:
                assert (await response.json())["status"] == 204
        (inbound,) = adapter.parse_inbound(came[0])
        assert (inbound.from_, inbound.to, inbound.keyword) == ("+919876500001", FROM, "stop")

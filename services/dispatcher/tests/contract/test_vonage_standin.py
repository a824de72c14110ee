"""The Vonage adapter against the Vonage-shaped stand-in as a process: the two agree on the vendor's documented shapes,
and the stand-in keeps its promise (a text is in the file before its reply).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from dispatcher.domain.outcomes import Outcome
from dispatcher.domain.parts import PartReceipt, whole_of
from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.providers.base import OutgoingText, Receipt
from dispatcher.providers.vonage import VonageAdapter
from postrider.clock import SystemClock
from postrider.contracts.provider_fields import with_defaults
from postrider.contracts.provider_kinds.vonage import SIGNATURE_METHODS
from postrider.sms.encoding import analyse
from tests.standins.running import standin_process
from tests.support.eventually import eventually
from tests.support.webhooks import webhooks

KEY, SECRET, SIGNING, TO, FROM = "abcd1234", "api-secret", "signature-secret", "+447700900000", "Acme"


@contextlib.asynccontextmanager
async def provider(
    log: Path, *more: str, secret: str = SECRET, method: str | None = None, timeout_seconds: float = 5
) -> AsyncIterator[tuple[VonageAdapter, int]]:
    """(adapter, port) against a stand-in of its own."""
    options = ["--api-key", KEY, "--api-secret", SECRET, "--signature-secret", SIGNING, *more]
    credentials = {"api_secret": secret}
    if method is not None:
        options += ["--signature-method", method]
        credentials["signature_secret"] = SIGNING
    async with standin_process("vonage", log, *options) as port:
        http = HttptoolsPort(connection_limit=16, policy=AddressPolicy.of(["127.0.0.0/8"]))
        settings = {
            "api_key": KEY, "from": FROM, "base_url": f"http://127.0.0.1:{port}", "timeout_seconds": timeout_seconds,
            "signature_method": method,
        }  # fmt: skip
        adapter = VonageAdapter("prv_1", with_defaults("vonage", settings), credentials, http, SystemClock())
        try:
            yield adapter, port
        finally:
            await adapter.close()


def text(number: int, callback_url: str | None = None, body: str | None = None) -> OutgoingText:
    body = f"Hi {number}" if body is None else body
    known = analyse(body)
    message_id = f"{number:032x}"
    return OutgoingText(message_id, 1, f"{message_id}.1", TO, body, known.encoding, known.parts, 3600, callback_url)


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("method", [None, *SIGNATURE_METHODS])
async def test_a_text_is_on_disk_before_its_reply(tmp_path: Path, method: str | None) -> None:
    log = tmp_path / "texts"
    async with provider(log, method=method) as (adapter, _):
        result = await adapter.submit(text(1, "https://sms.example/r"))
        (line,) = lines(log)
        assert line["sid"] == result.provider_message_id
        assert (line["to"], line["from"], line["body"], line["validity"]) == (TO[1:], FROM, "Hi 1", "3600000")
        assert line["reference"] == f"{1:032x}.1"
        assert line["status_callback"] == f"https://sms.example/r?reference={1:032x}.1"
        assert (await adapter.verify()).ok


@pytest.mark.parametrize("body", ["GSM: @£$¥èéùìòÇ {€} & =", "Привет 😀", "x" * 307, "ж" * 141])
async def test_every_letter_arrives(tmp_path: Path, body: str) -> None:
    """Without `type=unicode` what GSM-7 does not have becomes question marks."""
    log = tmp_path / "texts"
    sent = text(1, body=body)
    async with provider(log, method="sha512") as (adapter, _):
        assert (await adapter.submit(sent)).is_accepted
    (line,) = lines(log)
    assert (line["body"], line["parts"]) == (body, sent.parts)


async def test_wrong_credentials_are_refused_for_good(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", secret="wrong") as (adapter, _):
        result = await adapter.submit(text(1))
        assert (result.outcome, result.code) == (Outcome.REJECTED_PROVIDER, "4")
        assert (await adapter.verify()).reason == "http_401"
    assert lines(tmp_path / "texts") == []


@pytest.mark.parametrize(
    ("misbehaviour", "outcome", "accepted"),
    [
        (["--drop-after-accept", "1"], Outcome.IN_DOUBT, 1),
        (["--error-500-after-accept", "1"], Outcome.IN_DOUBT, 1),
        (["--cut-reply", "1"], Outcome.IN_DOUBT, 1),
        (["--garbage-reply", "1"], Outcome.IN_DOUBT, 1),
        (["--hang", "1"], Outcome.IN_DOUBT, 1),
        (["--reject-429", "1"], Outcome.REJECTED_LATER, 0),
        (["--refuse-status", "9"], Outcome.REJECTED_PROVIDER, 0),
        (["--refuse-status", "5"], Outcome.IN_DOUBT, 0),
        (["--first-part-only"], Outcome.ACCEPTED, 1),
    ],
)
async def test_misbehaviour(tmp_path: Path, misbehaviour: list[str], outcome: Outcome, accepted: int) -> None:
    """Whatever the reply, one submit is at most one text."""
    log = tmp_path / "texts"
    async with provider(log, *misbehaviour, timeout_seconds=1 if "--hang" in misbehaviour else 10) as (adapter, _):
        result = await adapter.submit(text(1, body="long " * 60))
        assert result.outcome is outcome
        assert len(lines(log)) == accepted
        if outcome is Outcome.ACCEPTED:
            assert (result.code, result.detail) == ("1", "1 of 2 parts accepted")


@pytest.mark.parametrize(
    ("by", "method", "receipts", "whole"),
    [
        ("get", None, "delivered", "delivered"),
        ("get", "md5hash", "delivered", "delivered"),
        ("form", "sha256", "last-part-failed", "undelivered"),
        ("json", "sha512", "failed", "undelivered"),
        ("json", "md5", "opted-out", "undelivered"),
        ("form", "sha1", "delivered", "delivered"),
    ],
)
async def test_receipts_of_each_part_name_our_reference(
    tmp_path: Path, by: str, method: str | None, receipts: str, whole: str
) -> None:
    more = ["--receipts", receipts, "--callbacks-by", by, "--receipt-chaos", "--seed", "3"]
    sent = text(1, body="long " * 100)
    async with webhooks() as (url, came), provider(tmp_path / "texts", *more, method=method) as (adapter, _):
        result = await adapter.submit(text(1, f"{url}/r", sent.body))

        def taken() -> list[Receipt]:
            return [receipt for request in came for receipt in adapter.parse_receipt(request)]

        await eventually(lambda: len({(each.provider_message_id, each.status) for each in taken()}) == 2 * sent.parts)
        (line,) = lines(tmp_path / "texts")
        assert {each.provider_message_id for each in taken()} == {*line["ids"]}
        assert result.provider_message_id == line["ids"][0]
        assert {each.reference for each in taken()} == {sent.reference}
        said = [PartReceipt(each.provider_message_id, each.status) for each in taken()]
        assert whole_of(said, sent.parts).status == whole
        assert {each.suppress for each in taken() if each.suppress} == (
            {"provider_opt_out"} if receipts == "opted-out" else set()
        )


@pytest.mark.parametrize("by", ["get", "form", "json"])
async def test_a_person_answers(tmp_path: Path, by: str) -> None:
    more = ["--callbacks-by", by]
    async with webhooks() as (url, came), provider(tmp_path / "texts", *more, method="sha256") as (adapter, port):
        order = {"from": TO[1:], "to": "447700900001", "body": "STOP", "url": f"{url}/inbound/prv_1/tok"}
        later = {**order, "body": "Стоп, пожалуйста & спасибо"}
        async with ClientSession() as session:
            for each in (order, later):
                async with session.post(f"http://127.0.0.1:{port}/_inbound", json=each) as response:
                    assert (await response.json())["status"] == 204
        stop, other = (adapter.parse_inbound(request)[0] for request in came)
        assert (stop.from_, stop.to, stop.keyword) == (TO, "+447700900001", "stop")
        assert (other.body, other.keyword) == (later["body"], None)


async def test_many_at_once_and_a_restart(tmp_path: Path) -> None:
    """One reply in ten is lost: each text is on the list once, with a reference of its own, torn lines aside."""
    log = tmp_path / "texts"
    async with provider(log, "--drop-after-accept", "0.1", "--reject-429", "0.1", "--seed", "7") as (adapter, _):
        results = await asyncio.gather(*(adapter.submit(text(number)) for number in range(100)))
    outcomes = Counter(result.outcome for result in results)
    assert outcomes[Outcome.IN_DOUBT] and outcomes[Outcome.REJECTED_LATER]
    assert len(lines(log)) == 100 - outcomes[Outcome.REJECTED_LATER]
    assert len({line["reference"] for line in lines(log)}) == len(lines(log))
    with log.open("a") as file:
        file.write('{"sid": "0A')
    async with provider(log) as (adapter, _):
        assert (await adapter.submit(text(100))).is_accepted
    assert len(lines(log)) == 101 - outcomes[Outcome.REJECTED_LATER]

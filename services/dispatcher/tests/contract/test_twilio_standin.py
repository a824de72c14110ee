"""The Twilio adapter against the Twilio-shaped stand-in as a process: the two agree on the vendor's documented shapes,
and the stand-in keeps its promise (a text is in the file before its reply, and a restart remembers it).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from dispatcher.domain.outcomes import Outcome
from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.providers.base import Found, LookUp, NotFound, OutgoingText, Receipt
from dispatcher.providers.twilio import TwilioAdapter
from postrider.contracts.provider_fields import with_defaults
from tests.standins.running import twilio_process
from tests.support.eventually import eventually
from tests.support.webhooks import webhooks

SID, TOKEN, TO, FROM = "ACtest", "token", "+15005550006", "+15005550001"


@contextlib.asynccontextmanager
async def provider(log: Path, *more: str, token: str = TOKEN, timeout_seconds: float = 5) -> AsyncIterator[Any]:
    """(adapter, port) against a stand-in of its own."""
    async with twilio_process(log, *more, account_sid=SID, auth_token=TOKEN) as port:
        http = HttptoolsPort(connection_limit=16, policy=AddressPolicy.of(["127.0.0.0/8"]))
        settings = {
            "account_sid": SID,
            "from": FROM,
            "base_url": f"http://127.0.0.1:{port}",
            "timeout_seconds": timeout_seconds,
        }
        adapter = TwilioAdapter("prv_1", with_defaults("twilio", settings), {"auth_token": token}, http)
        try:
            yield adapter, port
        finally:
            await adapter.close()


def text(number: int, callback_url: str | None = None, to: str = TO) -> OutgoingText:
    return OutgoingText(f"m{number}", 1, f"m{number}-1", to, f"Hi {number}", "GSM-7", 1, 3600, callback_url)


def look_up(sent: OutgoingText) -> LookUp:
    return LookUp(sent.message_id, sent.reference, sent.to, sent.body, datetime.now(UTC))


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def found_id(adapter: TwilioAdapter, sent: OutgoingText) -> str:
    """Of the text as the provider knows it; how far it has come by now is the provider's business."""
    found = await adapter.look_up(look_up(sent))
    assert isinstance(found, Found), found
    return found.provider_message_id


async def test_a_text_is_on_disk_before_its_reply_and_found_again(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider(log) as (adapter, _):
        sent = text(1, "https://sms.example/receipts/prv_1/tok")
        result = await adapter.submit(sent)
        (line,) = lines(log)
        assert line["sid"] == result.provider_message_id
        assert (line["to"], line["from"], line["body"], line["validity"]) == (TO, FROM, "Hi 1", "3600")
        assert line["reference"] == "m1-1"
        assert await found_id(adapter, sent) == line["sid"]
        assert await adapter.look_up(look_up(text(2))) == NotFound()
        assert (await adapter.verify()).ok


async def test_texts_survive_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider(log) as (adapter, _):
        first = await adapter.submit(text(1))
    with log.open("a") as file:
        file.write('{"sid": "SM')
    async with provider(log) as (adapter, _):
        assert await found_id(adapter, text(1)) == first.provider_message_id
        assert (await adapter.submit(text(2))).is_accepted
    assert [line["body"] for line in lines(log)] == ["Hi 1", "Hi 2"]


async def test_a_wrong_token_is_refused_for_good(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", token="wrong") as (adapter, _):
        result = await adapter.submit(text(1))
        assert (result.outcome, result.code) == (Outcome.REJECTED_PROVIDER, "20003")
        assert (await adapter.verify()).reason == "20003"
    assert lines(tmp_path / "texts") == []


@pytest.mark.parametrize(
    ("misbehaviour", "outcome", "accepted"),
    [
        (["--drop-after-accept", "1"], Outcome.IN_DOUBT, 1),
        (["--error-500-after-accept", "1"], Outcome.IN_DOUBT, 1),
        (["--garbage-reply", "1"], Outcome.IN_DOUBT, 1),
        (["--hang", "1"], Outcome.IN_DOUBT, 1),
        (["--reject-429", "1"], Outcome.REJECTED_LATER, 0),
        (["--refuse-code", "21606"], Outcome.REJECTED_PROVIDER, 0),
    ],
)
async def test_misbehaviour(tmp_path: Path, misbehaviour: list[str], outcome: Outcome, accepted: int) -> None:
    """Whatever the reply, one submit is at most one text, and a look-up settles the doubt."""
    log = tmp_path / "texts"
    async with provider(log, *misbehaviour, timeout_seconds=1 if "--hang" in misbehaviour else 10) as (adapter, _):
        assert (await adapter.submit(text(1))).outcome is outcome
        assert len(lines(log)) == accepted
        found = await adapter.look_up(look_up(text(1)))
        assert isinstance(found, Found if accepted else NotFound)


async def test_one_lost_reply_in_ten_is_resolved_to_one_text_each(tmp_path: Path) -> None:
    """A small version of the fault runs: 200 texts to one number, so that look-ups page and must tell them apart."""
    log = tmp_path / "texts"
    async with provider(log, "--drop-after-accept", "0.1", "--seed", "7") as (adapter, _):
        texts = [text(number) for number in range(200)]
        results = await asyncio.gather(*(adapter.submit(each) for each in texts))
        ids = {result.provider_message_id for result in results if result.is_accepted}
        doubtful = [each for each, result in zip(texts, results, strict=True) if result.is_in_doubt]
        assert 5 < len(doubtful) < 50
        assert len(ids) + len(doubtful) == 200
        for each in doubtful:
            found = await adapter.look_up(look_up(each))
            assert isinstance(found, Found)
            assert found.provider_message_id not in ids
            ids.add(found.provider_message_id)
    assert ids == {line["sid"] for line in lines(log)}
    assert len(lines(log)) == 200


async def test_the_list_lags_behind_as_told(tmp_path: Path) -> None:
    """Why a negative look-up proves nothing before the wait is over."""
    async with provider(tmp_path / "texts", "--index-lag-ms", "60000") as (adapter, _):
        await adapter.submit(text(1))
        assert await adapter.look_up(look_up(text(1))) == NotFound()


@pytest.mark.parametrize("receipts", ["delivered", "undelivered"])
async def test_receipts_are_signed_and_name_our_reference(tmp_path: Path, receipts: str) -> None:
    more = ["--receipts", receipts, "--receipt-chaos", "--seed", "3"]
    async with webhooks("") as (url, came), provider(tmp_path / "texts", *more) as (adapter, _):
        result = await adapter.submit(text(1, f"{url}/receipts/prv_1/tok"))

        def taken() -> list[Receipt]:
            return [receipt for request in came for receipt in adapter.parse_receipt(request)]

        await eventually(lambda: {receipt.status for receipt in taken()} == {"accepted", "sent", receipts})
        assert {receipt.provider_message_id for receipt in taken()} == {result.provider_message_id}
        assert {receipt.reference for receipt in taken()} == {"m1-1"}
        assert not any(receipt.definitely_not_sent for receipt in taken())


async def test_a_person_answers(tmp_path: Path) -> None:
    async with webhooks("") as (url, came), provider(tmp_path / "texts") as (adapter, port):
        order = {"from": TO, "to": FROM, "body": "STOP", "url": f"{url}/inbound/prv_1/tok"}
        async with ClientSession() as session:
            async with session.post(f"http://127.0.0.1:{port}/_inbound", json=order) as response:
                assert (await response.json())["status"] == 204
        (inbound,) = adapter.parse_inbound(came[0])
        assert (inbound.from_, inbound.to, inbound.keyword) == (TO, FROM, "stop")

"""The generic adapter, in the three configurations of docs/providers.md, against gateways of their kinds as a process:
what leaves the socket is what the gateway reads, and whatever it replies, a text is sent at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dispatcher.domain.outcomes import Outcome
from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.providers.base import Filled, OutgoingText, Receipt
from dispatcher.providers.generic import GenericAdapter
from postrider.contracts.provider_fields import check_provider, with_defaults
from tests.standins.generic import API_KEY, CLIENT_SECRET, PASSWORD
from tests.standins.running import ROOT, standin_process
from tests.support.batches import all_begun
from tests.support.eventually import eventually
from tests.support.webhooks import webhooks

HOSTILE = 'é ✓ 😀 & = # ? % + "quoted" \\ / <b>\r\nX-Evil: 1 $$To'
CREDENTIALS: dict[str, dict[str, Any]] = {
    "GET gateway": {"secrets": {"apikey": API_KEY}},
    "JSON with OAuth and batches": {"client_secret": CLIENT_SECRET},
    "Templates": {"password": PASSWORD},
}


def configurations() -> dict[str, dict[str, Any]]:
    """As the guide prints them: name → settings."""
    guide = (ROOT / "docs/providers.md").read_text()
    printed = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", guide, re.DOTALL)]
    return {each["name"]: each["settings"] for each in printed if each.get("kind") == "generic"}


@contextlib.asynccontextmanager
async def provider(
    name: str, log: Path, *more: str, credentials: dict[str, Any] | None = None, timeout_seconds: float = 10
) -> AsyncIterator[tuple[GenericAdapter, str]]:
    """(adapter, address of the gateway): the printed configuration, with the stand-in in place of its host."""
    async with standin_process("generic", log, *more) as port:
        address = f"http://127.0.0.1:{port}"
        printed = json.dumps(configurations()[name]).replace("https://sms.example.com", address)
        settings = json.loads(printed.replace("https://login.example.com", address))
        settings["timeout_seconds"] = timeout_seconds
        credentials = credentials or CREDENTIALS[name]
        assert check_provider("generic", settings, credentials) == []
        http = HttptoolsPort(connection_limit=16, policy=AddressPolicy.of(["127.0.0.0/8"]))
        adapter = GenericAdapter("prv_1", with_defaults("generic", settings), credentials, http)
        try:
            yield adapter, address
        finally:
            await adapter.close()


def text(number: int, body: str = "", to: str | None = None, **filled: Any) -> OutgoingText:
    return OutgoingText(
        f"{number:032x}", 1, f"{number:032x}.1", to or f"+1500{number:06}0", body or f"Hi {number}", "GSM-7", 1,
        campaign_id="cmp_1", filled=Filled(**filled),
    )  # fmt: skip


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def test_the_guide_prints_one_of_each() -> None:
    assert set(configurations()) == set(CREDENTIALS)


async def test_get(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider("GET gateway", log) as (adapter, _):
        result = await adapter.submit(text(1, HOSTILE))
        (line,) = lines(log)
        assert result.provider_message_id == line["id"]
        assert (line["to"], line["body"], line["reference"]) == ("15000000010", HOSTILE, f"{1:032x}.1")
        refused = [await adapter.submit(text(2, to=to)) for to in ("+15005550011", "+15005550012")]
        assert [result.outcome for result in refused] == [Outcome.REJECTED_RECIPIENT] * 2
        assert [result.suppress for result in refused] == [None, "provider_opt_out"]
        assert (await adapter.submit(text(3, "x" * 1_001))).outcome is Outcome.REJECTED_CONTENT
    assert len(lines(log)) == 1


async def test_a_wrong_key_is_the_provider_s_fault(tmp_path: Path) -> None:
    wrong = {"secrets": {"apikey": "wrong"}}
    async with provider("GET gateway", tmp_path / "texts", credentials=wrong) as (adapter, _):
        assert (await adapter.submit(text(1))).outcome is Outcome.REJECTED_PROVIDER


async def test_a_batch(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider("JSON with OAuth and batches", log) as (adapter, _):
        pairs: dict[str, Any] = {"global_pairs": (("sender", "ACME"),)}
        texts = [
            text(1, HOSTILE, **pairs),
            text(2, to="+15005550011", **pairs),
            text(3, **pairs),
            text(4, to="+15005550012", **pairs),
        ]
        assert len({adapter.batch_key(each) for each in texts}) == 1
        results = all_begun(await adapter.submit_batch(texts))
        assert [result.outcome for result in results] == [
            Outcome.ACCEPTED, Outcome.REJECTED_RECIPIENT, Outcome.ACCEPTED, Outcome.REJECTED_RECIPIENT,
        ]  # fmt: skip
        by_reference = {line["reference"]: line for line in lines(log)}
        for each, result in zip(texts, results, strict=True):
            if result.is_accepted:
                line = by_reference[each.reference]
                assert (line["id"], line["to"], line["body"]) == (result.provider_message_id, each.to, each.body)
                assert line["sender"] == "ACME"
        assert len(by_reference) == 2


async def test_a_hundred_texts_of_which_the_reply_forgets_some(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    more = ["--forget-records", "0.1", "--seed", "5"]
    pairs: dict[str, Any] = {"global_pairs": (("sender", "ACME"),)}
    async with provider("JSON with OAuth and batches", log, *more) as (adapter, _):
        results = all_begun(await adapter.submit_batch([text(number, **pairs) for number in range(100, 200)]))
        outcomes = Counter(result.outcome for result in results)
        assert outcomes[Outcome.ACCEPTED] + outcomes[Outcome.IN_DOUBT] == 100
        assert 1 < outcomes[Outcome.IN_DOUBT] < 40
        ids = {line["reference"]: line["id"] for line in lines(log)}
        assert len(ids) == 100
        for number, result in enumerate(results, 100):
            assert result.provider_message_id in (None, ids[f"{number:032x}.1"])


async def test_a_token_is_shared_expires_and_is_revoked(tmp_path: Path) -> None:
    pairs: dict[str, Any] = {"global_pairs": (("sender", "ACME"),)}
    async with provider("JSON with OAuth and batches", tmp_path / "texts") as (adapter, address):
        assert (await adapter.verify()).ok
        results = await asyncio.gather(*(adapter.submit(text(number, **pairs)) for number in range(100, 120)))
        assert all(result.is_accepted for result in results)
        async with aiohttp.ClientSession() as session:

            async def asked() -> int:
                async with session.get(f"{address}/_stats") as response:
                    return int((await response.json())["tokens_asked"])

            assert await asked() == 1
            async with session.post(f"{address}/_revoke") as response:
                assert response.status == 200
            refused = await adapter.submit(text(121, **pairs))
            assert (refused.outcome, refused.code) == (Outcome.REJECTED_PROVIDER, "http_401")
            assert (await adapter.submit(text(122, **pairs))).is_accepted
            assert await asked() == 2


async def test_a_wrong_secret_sends_nothing(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider("JSON with OAuth and batches", log, credentials={"client_secret": "wrong"}) as (
        adapter,
        address,
    ):
        result = await adapter.submit(text(1, global_pairs=(("sender", "ACME"),)))
        assert (result.outcome, result.code) == (Outcome.REJECTED_PROVIDER, "token_invalid_client")
        assert result.not_begun
        async with aiohttp.ClientSession() as session, session.get(f"{address}/_stats") as response:
            assert "calls" not in await response.json()


async def test_templates(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider("Templates", log) as (adapter, _):
        filled: dict[str, Any] = {
            "template_id": "tpl-9",
            "variables": ("Ada", "20 %"),
            "header_pairs": (("route", "gold"),),
        }
        result = await adapter.submit(text(1, **filled))
        (line,) = lines(log)
        assert result.provider_message_id == line["id"]
        assert (line["template"], line["variables"], line["route"]) == ("tpl-9", ["Ada", "20 %"], "gold")
        assert (await adapter.submit(text(2, **filled | {"template_id": None}))).code == "missing_TemplateID"
        evil = await adapter.submit(text(3, **filled | {"header_pairs": (("route", "gold\r\nX-Evil: 1"),)}))
        assert evil.code == "header_value"
        assert len(lines(log)) == 1


@pytest.mark.parametrize(
    ("misbehaviour", "outcome", "accepted"),
    [
        (["--drop-after-accept", "1"], Outcome.IN_DOUBT, 1),
        (["--error-500-after-accept", "1"], Outcome.IN_DOUBT, 1),
        (["--cut-reply", "1"], Outcome.IN_DOUBT, 1),
        (["--garbage-reply", "1"], Outcome.IN_DOUBT, 1),
        (["--hang", "1"], Outcome.IN_DOUBT, 1),
        (["--reject-429", "1"], Outcome.REJECTED_LATER, 0),
    ],
)
async def test_misbehaviour(tmp_path: Path, misbehaviour: list[str], outcome: Outcome, accepted: int) -> None:
    """One submit is at most one text, by GET too, which clients like to repeat."""
    log = tmp_path / "texts"
    seconds = 1 if "--hang" in misbehaviour else 10
    async with provider("GET gateway", log, *misbehaviour, timeout_seconds=seconds) as (adapter, _):
        assert (await adapter.submit(text(1))).outcome is outcome
        assert len(lines(log)) == accepted


async def test_receipts_name_our_reference(tmp_path: Path) -> None:
    async with webhooks() as (url, came):
        more = ["--receipts", "delivered", "--receipt-chaos", "--seed", "3", "--callback-url", url]
        async with provider("GET gateway", tmp_path / "texts", *more) as (adapter, _):
            for number in range(3):
                assert (await adapter.submit(text(number))).is_accepted

            def taken() -> list[Receipt]:
                return [receipt for request in came for receipt in adapter.parse_receipt(request)]

            await eventually(lambda: {receipt.reference for receipt in taken()} == {f"{n:032x}.1" for n in range(3)})
            assert {receipt.status for receipt in taken()} == {"delivered"}

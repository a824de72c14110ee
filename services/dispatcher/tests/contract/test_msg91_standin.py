"""The MSG91 adapter against the MSG91-shaped stand-in as a process: the two agree on the vendor's documented shapes,
and whatever becomes of a call, nobody in it is texted twice and each receipt finds its own text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.domain.outcomes import Outcome
from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.providers.base import Filled, OutgoingText, Receipt
from dispatcher.providers.msg91 import Msg91Adapter
from postrider.contracts.provider_fields import with_defaults
from tests.standins.running import standin_process
from tests.standins.vendor import SHARES
from tests.support.batches import all_begun
from tests.support.eventually import eventually
from tests.support.webhooks import misbehave, webhooks

KEY = "A1b2C3"


@contextlib.asynccontextmanager
async def provider(
    log: Path, *more: str, key: str = KEY, timeout_seconds: float = 10, **settings: Any
) -> AsyncIterator[tuple[Msg91Adapter, int]]:
    """(adapter, port) against a stand-in of its own."""
    async with standin_process("msg91", log, "--auth-key", KEY, *more) as port:
        http = HttptoolsPort(connection_limit=16, policy=AddressPolicy.of(["127.0.0.0/8"]))
        given = {"sender": "ACMESH", "base_url": f"http://127.0.0.1:{port}", "timeout_seconds": timeout_seconds}
        complete = with_defaults("msg91", {**given, **settings})
        adapter = Msg91Adapter("prv_1", complete, {"auth_key": key}, http)
        try:
            yield adapter, port
        finally:
            await adapter.close()


def text(number: int, to: int | None = None, template: str = "64a1b2") -> OutgoingText:
    filled = Filled(template_id=template, variables=(f"Ada {number}", "20 % & more: ठीक"))
    phone = f"+9198765{number if to is None else to:05}"
    return OutgoingText(f"m{number}", 1, f"{number:032x}.1", phone, "", "GSM-7", 1, filled=filled)


def accepted(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def lines(log: Path) -> dict[str, dict[str, Any]]:
    """What was accepted, by our reference."""
    found = accepted(log)
    by_reference = {line["crqid"]: line for line in found}
    assert len(by_reference) == len(found), "a text was accepted twice"
    return by_reference


async def test_a_call_is_on_disk_before_its_reply(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider(log) as (adapter, _):
        sent = [text(number) for number in range(100)]
        results = all_begun(await adapter.submit_batch(sent))
        assert (await adapter.verify()).ok
    kept = lines(log)
    for given, result in zip(sent, results, strict=True):
        line = kept[given.reference]
        assert result.provider_message_id == f"{line['request_id']}:{line['mobiles']}"
        assert line["mobiles"] == given.to.removeprefix("+")
        assert line["variables"] == {"VAR1": given.filled.variables[0], "VAR2": "20 % & more: ठीक"}
        assert (line["template_id"], line["sender"]) == ("64a1b2", "ACMESH")
    assert len({line["request_id"] for line in kept.values()}) == 1


async def test_texts_survive_a_restart(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    for number in (1, 2):
        async with provider(log) as (adapter, _):
            assert (await adapter.submit(text(number))).is_accepted
    assert len(lines(log)) == 2


async def test_a_wrong_key_is_refused_for_good(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", key="wrong") as (adapter, _):
        result = await adapter.submit(text(1))
        assert (result.outcome, result.code) == (Outcome.REJECTED_PROVIDER, "201")
        assert (await adapter.verify()).reason == "207"
    assert lines(tmp_path / "texts") == {}


async def test_misbehaviour(tmp_path: Path) -> None:
    """A refusal is the truth, and what was accepted without a word is never taken for refused."""
    log = tmp_path / "texts"
    async with provider(log, timeout_seconds=1.5) as (adapter, port):
        for fault in [each for each in SHARES if each != "slow"]:
            await misbehave(port, fault)
            before = len(accepted(log))
            results = all_begun(await adapter.submit_batch([text(1), text(2)]))
            is_refused = fault == "reject_429"
            expected = Outcome.REJECTED_LATER if is_refused else Outcome.IN_DOUBT
            assert [result.outcome for result in results] == [expected, expected], fault
            assert len(accepted(log)) == before + (0 if is_refused else 2), fault


@pytest.mark.parametrize(("said", "outcome"), [("418", Outcome.REJECTED_PROVIDER), ("something new", Outcome.IN_DOUBT)])
async def test_a_refusal_with_http_200(tmp_path: Path, said: str, outcome: Outcome) -> None:
    async with provider(tmp_path / "texts", "--refuse-with", said) as (adapter, _):
        results = all_begun(await adapter.submit_batch([text(1), text(2)]))
        assert [result.outcome for result in results] == [outcome, outcome]
    assert accepted(tmp_path / "texts") == []


async def test_a_template_that_does_not_exist(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", "--template", "other") as (adapter, _):
        assert (await adapter.submit(text(1))).outcome is Outcome.REJECTED_CONTENT
        assert (await adapter.submit(text(2, template="other"))).is_accepted


async def test_one_wrong_number_spoils_the_call_and_nobodys_text(tmp_path: Path) -> None:
    """As the pipeline does it: what may share a call shares one, until it was refused together."""
    log = tmp_path / "texts"
    async with provider(log) as (adapter, _):
        left = [text(1), OutgoingText("m2", 1, f"{2:032x}.1", "+12", "", "GSM-7", 1, filled=text(2).filled), text(3)]
        results = all_begun(await adapter.submit_batch(left))
        assert {result.outcome for result in results} == {Outcome.REJECTED_LATER}
        assert lines(log) == {}
        assert len({adapter.batch_key(each) for each in left}) == 3
        results = [(all_begun(await adapter.submit_batch([each])))[0] for each in left]
    outcomes = [Outcome.ACCEPTED, Outcome.REJECTED_RECIPIENT, Outcome.ACCEPTED]
    assert [result.outcome for result in results] == outcomes
    assert len(lines(log)) == 2


@pytest.mark.parametrize("version", ["v2", "v3", "v4"])
async def test_receipts_find_their_texts(tmp_path: Path, version: str) -> None:
    """Two of the texts go to one number: their receipts are told apart."""
    more = ["--webhook-version", version, "--receipt-chaos", "--seed", "3"]
    ends: list[tuple[str, str, str | None]] = [
        ("delivered", "delivered", None),
        ("failed", "undelivered", None),
        ("ndnc", "undelivered", "provider_opt_out"),
    ]
    async with webhooks() as (url, came):
        async with provider(tmp_path / "texts", "--webhook-url", url, *more, webhook_version=version) as (
            adapter,
            port,
        ):
            for turn, (receipts, status, suppress) in enumerate(ends):
                await misbehave(port, receipts=receipts)
                first = 10 * turn
                sent = [text(first), text(first + 1), text(first + 2, to=first + 1)]
                results = all_begun(await adapter.submit_batch(sent))
                names = {result.provider_message_id: each.reference for result, each in zip(results, sent, strict=True)}
                assert len(names) == 3

                def receipts_of(names: dict[str | None, str] = names) -> list[Receipt]:
                    found = [receipt for request in came for receipt in adapter.parse_receipt(request)]
                    return [receipt for receipt in found if receipt.provider_message_id in names]

                def are_all_there(names: dict[str | None, str] = names) -> bool:
                    return {receipt.provider_message_id: receipt.reference for receipt in receipts_of(names)} == names

                await eventually(are_all_there)
                assert {(receipt.status, receipt.suppress) for receipt in receipts_of()} == {(status, suppress)}


async def test_a_receipt_ends_a_doubt(tmp_path: Path) -> None:
    """The reply is lost; the receipt has our reference, and the name that the text is to have."""
    more = ["--receipts", "delivered", "--drop-after-accept", "1"]
    async with webhooks() as (url, came), provider(tmp_path / "texts", "--webhook-url", url, *more) as (adapter, _):
        assert (await adapter.submit(text(1))).is_in_doubt
        await eventually(lambda: len(came) == 1)
        (receipt,) = adapter.parse_receipt(came[0])
        (line,) = lines(tmp_path / "texts").values()
        assert (receipt.reference, receipt.provider_message_id) == (
            text(1).reference, f"{line['request_id']}:{line['mobiles']}"
        )  # fmt: skip


async def test_receipts_without_our_reference_still_find_their_texts(tmp_path: Path) -> None:
    async with webhooks() as (url, came):
        more = ["--webhook-url", url, "--receipts", "delivered", "--no-crqid"]
        async with provider(tmp_path / "texts", *more) as (adapter, _):
            results = await asyncio.gather(adapter.submit(text(1)), adapter.submit(text(2)))
            await eventually(lambda: len(came) == 2)
            found = [receipt for request in came for receipt in adapter.parse_receipt(request)]
            assert {each.provider_message_id for each in found} == {each.provider_message_id for each in results}
            assert {each.reference for each in found} == {None}

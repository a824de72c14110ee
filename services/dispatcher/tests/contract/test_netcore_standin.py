"""The Netcore preset against a stand-in of the vendor's documented shapes, over a socket, in both forms."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.domain.outcomes import Outcome
from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.providers.base import Filled, OutgoingText
from dispatcher.providers.generic import GenericAdapter
from dispatcher.providers.netcore import netcore_adapter
from postrider.contracts.provider_fields import check_provider, with_defaults
from tests.standins.netcore import FEED, PASSWORD, USERNAME
from tests.standins.running import standin_process

CODES = {"3": "rejected_provider", "7": "rejected_recipient", "9": "rejected_content"}


@contextlib.asynccontextmanager
async def provider(log: Path, *more: str, password: str = PASSWORD, **settings: Any) -> AsyncIterator[GenericAdapter]:
    async with standin_process("netcore", log, *more) as port:
        settings = {"feed_id": FEED, "base_url": f"http://127.0.0.1:{port}", "reply": {"codes": CODES}, **settings}
        credentials = {"username": USERNAME, "password": password}
        assert check_provider("netcore", settings, credentials) == []
        http = HttptoolsPort(connection_limit=4, policy=AddressPolicy.of(["127.0.0.0/8"]))
        adapter = netcore_adapter("prv_1", with_defaults("netcore", settings), credentials, http)
        try:
            yield adapter
        finally:
            await adapter.close()


def text(body: str = "Hi", to: str = "+919812345678", **filled: Any) -> OutgoingText:
    return OutgoingText("m1", 1, "m1.1", to, body, "GSM-7", 1, filled=Filled(**filled))


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("form", ["form", "json"])
async def test_both_forms(tmp_path: Path, form: str) -> None:
    log = tmp_path / "texts"
    more = {"format": form, "sender_id": "ACMESH", "entity_id": "1201"}
    async with provider(log, **more) as adapter:
        result = await adapter.submit(text("é ✓ & <b> +", template_id="1107"))
        (line,) = lines(log)
        assert result.provider_message_id == line["id"]
        assert (line["to"], line["body"]) == ("919812345678", "é ✓ & <b> +")
        assert (line["sender"], line["template"]) == ("ACMESH", "1107")
        refused = await adapter.submit(text(to="+919812345611", template_id="1107"))
        assert (refused.outcome, refused.code) == (Outcome.REJECTED_RECIPIENT, "7")
    assert len(lines(log)) == 1


async def test_a_wrong_password(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", password="wrong") as adapter:
        assert (await adapter.submit(text())).outcome is Outcome.REJECTED_PROVIDER


async def test_a_code_that_is_not_mapped_is_in_doubt_with_an_alarm(tmp_path: Path) -> None:
    async with provider(tmp_path / "texts", reply=None) as adapter:
        result = await adapter.submit(text(to="+919812345611"))
        assert (result.outcome, result.code, result.unknown_code) == (Outcome.IN_DOUBT, "7", True)


async def test_a_reply_that_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    async with provider(log, "--drop-after-accept", "1") as adapter:
        assert (await adapter.submit(text())).is_in_doubt
        assert len(lines(log)) == 1

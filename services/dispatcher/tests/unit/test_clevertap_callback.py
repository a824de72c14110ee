"""The callback in CleverTap's shape: events, mandatory keys, codes, and what a reply of a person means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.providers.base import OPTED_IN, BadWebhook, Receipt, WebhookRequest
from dispatcher.providers.clevertap_callback import receipts_of
from dispatcher.providers.generic import GenericAdapter
from postrider.contracts.provider_fields import with_defaults
from tests.standins.scripted_http import ScriptedHttp

META = "0" * 32 + ".1"
GOOD: dict[str, dict[str, Any]] = {
    "delivered": {"ts": 1435322805, "meta": META, "description": "Delivered to handset"},
    "failed": {"ts": 1435322805, "meta": META, "code": "900", "description": "Not able to send"},
    "clicked": {"ts": 1435322805, "meta": META, "url": "www.example.com", "shorturl": "ex.io/1"},
    "replied": {"ts": 1435322805, "meta": META, "toPhone": "5555", "incomingText": "thanks"},
}


def read(event: str, **more: Any) -> Receipt:
    (receipt,) = receipts_of(json.dumps([{"event": event, "data": [GOOD.get(event, GOOD["clicked"]) | more]}]).encode())
    return receipt


@pytest.mark.parametrize(
    ("event", "status"),
    [("delivered", "delivered"), ("failed", "undelivered"), ("clicked", "sent"), ("replied", "delivered")],
)
def test_events(event: str, status: str) -> None:
    receipt = read(event, unknown="ignored")
    assert (receipt.status, receipt.raw_status) == (status, event)
    assert receipt.reference == receipt.provider_message_id == META
    assert receipt.suppress is None


def test_an_event_nobody_knows_changes_nothing_and_raises_an_alarm() -> None:
    assert read("read").status == "unknown"


@pytest.mark.parametrize(
    ("event", "key"),
    [(event, key) for event, item in GOOD.items() for key in item if key not in ("shorturl", "toPhone")],
)
def test_a_mandatory_key_is_missing(event: str, key: str) -> None:
    item = {name: value for name, value in GOOD[event].items() if name != key}
    with pytest.raises(BadWebhook, match=key if key not in ("ts", "meta") else "ts and meta"):
        receipts_of(json.dumps([{"event": event, "data": [item]}]).encode())
    with pytest.raises(BadWebhook):
        read(event, **{key: None})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"{}", b'"text"', b"[7]", b'[{"data": []}]',
     b'[{"event": "delivered"}]', b'[{"event": 7, "data": []}]', b'[{"event": "delivered", "data": {}}]',
     b'[{"event": "delivered", "data": [7]}]'],
)  # fmt: skip
def test_what_is_none(body: bytes) -> None:
    with pytest.raises(BadWebhook):
        receipts_of(body)


@pytest.mark.parametrize("ts", [True, -1, 0, 1.5, "now", "", 10**20, [1]])
def test_a_time_that_is_none(ts: object) -> None:
    with pytest.raises(BadWebhook):
        read("delivered", ts=ts)


@pytest.mark.parametrize("ts", ["1435322805", 1435322805.0, 1435322805123])
def test_a_time_in_another_spelling(ts: object) -> None:
    assert read("delivered", ts=ts).status == "delivered"


@pytest.mark.parametrize("code", ["901", "903", "913"])
def test_codes_that_suppress(code: str) -> None:
    assert read("failed", code=code).suppress == "provider_opt_out"
    assert read("failed", code=int(code)).suppress == "provider_opt_out"


@pytest.mark.parametrize(
    ("code", "never_left"),
    [*((str(code), True) for code in (904, 906, 907, 908, 919)),
     *((str(code), False) for code in (900, 901, 902, 903, 905, 909, 910, 912, 913, 914, 915, 916, 917, 918, 920))],
)  # fmt: skip
def test_codes_after_which_another_provider_may_try(code: str, never_left: bool) -> None:
    receipt = read("failed", code=code)
    assert (receipt.code, receipt.definitely_not_sent) == (code, never_left)


@pytest.mark.parametrize(
    ("text", "suppress"),
    [("STOP", "opted_out"), (" stop ", "opted_out"), ("START", OPTED_IN), ("HELP", None), ("do not stop", None)],
)
def test_a_reply(text: str, suppress: str | None) -> None:
    assert read("replied", incomingText=text).suppress == suppress


def test_what_is_kept_twice_and_what_is_not() -> None:
    """The inbox keeps one receipt per (id, status, code): a repeat of a STOP is one, a second STOP is another."""

    def key(receipt: Receipt) -> tuple[str, ...]:
        return receipt.provider_message_id, receipt.status, receipt.code or ""

    first = read("replied", incomingText="STOP")
    assert key(first) == key(read("replied", incomingText="STOP"))
    assert key(first) != key(read("replied", incomingText="STOP", ts=1435322806))
    assert key(first) != key(read("replied", incomingText="START"))
    assert key(first) != key(read("delivered"))
    assert key(read("failed", code="901")) != key(read("failed", code="902"))


def test_several_in_one_callback() -> None:
    body = [{"event": event, "data": [item, item | {"meta": "other"}]} for event, item in GOOD.items()]
    receipts = receipts_of(json.dumps(body).encode())
    assert [receipt.raw_status for receipt in receipts] == [event for event in GOOD for _ in range(2)]
    assert [receipt.reference for receipt in receipts] == [META, "other"] * 4


@pytest.mark.parametrize("receipts", ["clevertap", "none"])
def test_only_a_provider_that_is_configured_for_it_reads_it(receipts: str) -> None:
    settings = {"url": "https://gw.example/s?to=$$To&b=$$Body&m=$$MessageID", "receipts": receipts}
    adapter = GenericAdapter("prv_1", with_defaults("generic", settings), {}, ScriptedHttp())
    body = json.dumps([{"event": "delivered", "data": [GOOD["delivered"]]}]).encode()
    request = WebhookRequest("POST", "https://us.example/receipts/prv_1/t", {}, body)
    assert adapter.capabilities.receipts == (receipts == "clevertap")
    if receipts == "clevertap":
        assert adapter.parse_receipt(request)[0].status == "delivered"
        assert json.loads(adapter.capabilities.callback_reply)["status"] == "success"
    else:
        with pytest.raises(BadWebhook):
            adapter.parse_receipt(request)
    with pytest.raises(BadWebhook):
        adapter.parse_inbound(request)

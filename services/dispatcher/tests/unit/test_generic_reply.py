"""Replies of generic providers to calls that carry several texts: each text's own outcome, by its record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpFailure, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import OutgoingText
from dispatcher.providers.generic import GenericAdapter
from postrider.contracts.provider_fields import check_provider, with_defaults
from tests.standins.scripted_http import ScriptedHttp
from tests.support.batches import all_begun

RECORDS = {"list": "/results", "key": "/ref", "message_id": "/id", "error_code": "/status/code"}
CODES = {"0": "accepted", "7": "rejected_recipient", "9": "rejected_later"}
ACCEPTED, DOUBT, LATER = Outcome.ACCEPTED, Outcome.IN_DOUBT, Outcome.REJECTED_LATER
RECIPIENT, PROVIDER = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_PROVIDER


def text(number: int, to: str | None = None) -> OutgoingText:
    to = to or f"+1500555000{number}"
    return OutgoingText(f"m{number}", 1, f"m{number}.1", to, "Hi", "GSM-7", 1, campaign_id="cmp_1")


TEXTS = [text(1), text(2), text(3)]


async def submit(
    step: HttpResponse | HttpFailure, reply: dict[str, Any], texts: list[OutgoingText] = TEXTS, **settings: Any
) -> list[tuple[Outcome, str | None]]:
    given = {
        "url": "https://gw.example/send",
        "json": {"msgs": [{"to": "$$To", "text": "$$Body", "ref": "$$MessageID"}]},
        "batch": {"key": "msgs", "size": 10},
        "reply": reply,
        **settings,
    }
    assert check_provider("generic", given, {}) == []
    http = ScriptedHttp([step])
    adapter = GenericAdapter("prv_1", with_defaults("generic", given), {}, http)
    results = all_begun(await adapter.submit_batch(texts))
    assert len(http.requests) == 1
    return [(result.outcome, result.provider_message_id or result.code) for result in results]


def said(*records: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps({"results": records}).encode())


def record(number: int, code: object = 0, id: object = None, **more: object) -> dict[str, object]:
    return {"ref": f"m{number}.1", "status": {"code": code}, "id": id or f"id-{number}", **more}


RULES = {"codes": CODES, "records": RECORDS}


async def test_each_text_by_its_record_in_any_order() -> None:
    results = await submit(said(record(3), record(1, 7), record(2, 9)), RULES)
    assert results == [(RECIPIENT, "7"), (LATER, "9"), (ACCEPTED, "id-3")]


async def test_a_text_that_the_reply_does_not_name_is_in_doubt() -> None:
    results = await submit(said(record(1), {"ref": "somebody else", "status": {"code": 7}}, record(3, 99)), RULES)
    assert results == [(ACCEPTED, "id-1"), (DOUBT, "not_in_reply"), (DOUBT, "99")]


@pytest.mark.parametrize("place", ["", ["/results", ""], ["", "/results"]])
async def test_a_reply_that_is_the_array(place: object) -> None:
    rules = RULES | {"records": RECORDS | {"list": place}}
    step = HttpResponse(200, {}, json.dumps([record(2), record(1, 7)]).encode())
    assert await submit(step, rules, TEXTS[:2]) == [(RECIPIENT, "7"), (ACCEPTED, "id-2")]


@pytest.mark.parametrize("bad", [None, 7, "text", [], {}, {"ref": None}, {"ref": {"m1.1": 1}}])
async def test_records_that_are_none(bad: object) -> None:
    assert await submit(said(bad, record(2)), RULES, TEXTS[:2]) == [(DOUBT, "not_in_reply"), (ACCEPTED, "id-2")]


async def test_two_records_that_contradict_each_other() -> None:
    assert await submit(said(record(1), record(1, 7), record(2)), RULES, TEXTS[:2]) == [
        (DOUBT, "not_in_reply"),
        (ACCEPTED, "id-2"),
    ]


async def test_an_id_that_is_the_whole_call_s_is_made_one_of_each_text() -> None:
    """The ledger knows a text by (provider, id): two texts with one id would look like one text sent twice."""
    results = await submit(said(record(1, id="job-5"), record(2, id="job-5"), record(3, id="x")), RULES)
    assert results == [(ACCEPTED, "job-5/1"), (ACCEPTED, "job-5/2"), (ACCEPTED, "x")]
    alike = await submit(HttpResponse(200, {}, b'{"job": "J1"}'), {"message_id": "/job"})
    assert alike == [(ACCEPTED, "J1/1"), (ACCEPTED, "J1/2"), (ACCEPTED, "J1/3")]


async def test_without_rules_all_are_alike_and_known_by_our_reference() -> None:
    assert await submit(HttpResponse(202, {}, b""), {}) == [(ACCEPTED, "m1.1"), (ACCEPTED, "m2.1"), (ACCEPTED, "m3.1")]


async def test_by_number_whatever_its_spelling() -> None:
    rules = {"codes": CODES, "records": RECORDS | {"match": "to", "key": "/to"}}
    records = [{"to": "1 500 555 0002", "id": "b", "status": {"code": 0}}, {"to": 15005550001, "status": {"code": 7}}]
    results = await submit(said(*records), rules, TEXTS[:2], to_format="digits")
    assert results == [(RECIPIENT, "7"), (ACCEPTED, "b")]


async def test_two_texts_to_one_number_need_two_records_of_one_outcome() -> None:
    rules = {"codes": CODES, "records": RECORDS | {"match": "to", "key": "/to"}}
    twice = [text(1, "+15005550001"), text(2, "+15005550001")]
    ok, no = {"to": "+15005550001", "id": "a", "status": {"code": 0}}, {"to": "+15005550001", "status": {"code": 7}}
    assert await submit(said(ok, {**ok, "id": "b"}), rules, twice) == [(ACCEPTED, "a"), (ACCEPTED, "b")]
    assert await submit(said(ok, no), rules, twice) == [(DOUBT, "not_in_reply")] * 2
    assert await submit(said(ok), rules, twice) == [(DOUBT, "not_in_reply")] * 2


async def test_by_position_only_when_nothing_is_missing() -> None:
    rules = {"codes": CODES, "records": {"list": "/results", "match": "position", "error_code": "/c"}}
    assert await submit(said({"c": 0}, {"c": 7}, {"c": "9"}), rules) == [
        (ACCEPTED, "m1.1"), (RECIPIENT, "7"), (LATER, "9"),
    ]  # fmt: skip
    assert await submit(said({"c": 0}, {"c": 7}), rules) == [(DOUBT, "not_in_reply")] * 3


async def test_a_refusal_of_the_whole_call_counts_for_all() -> None:
    rules = {"codes": CODES | {"limit": "rejected_later"}, "error_code": "/error", "records": RECORDS}
    assert await submit(HttpResponse(429, {}, b""), rules) == [(LATER, "http_429")] * 3
    assert await submit(HttpResponse(401, {}, b""), rules) == [(PROVIDER, "http_401")] * 3
    assert await submit(HttpResponse(200, {}, b'{"error": "limit"}'), rules) == [(LATER, "limit")] * 3
    assert await submit(HttpResponse(200, {}, b"{}"), rules) == [(DOUBT, "no_records")] * 3
    assert await submit(HttpResponse(200, {}, b'{"results": {"m1.1": 0}}'), rules) == [(DOUBT, "no_records")] * 3


@pytest.mark.parametrize("status", [500, 502, 504, 400, 418])
async def test_records_of_a_call_that_failed_are_not_believed(status: int) -> None:
    assert {outcome for outcome, _ in await submit(said(record(1), record(2, 7), status=status), RULES)} == {DOUBT}


async def test_a_call_that_did_not_end() -> None:
    assert await submit(NotSent("refused"), RULES) == [(PROVIDER, "refused")] * 3
    assert await submit(InDoubt("cut_reply"), RULES) == [(DOUBT, "cut_reply")] * 3


async def test_a_thousand_texts_to_a_thousand_records() -> None:
    many = [OutgoingText(f"m{n}", 1, f"m{n}.1", f"+1500{n:07}", "Hi", "GSM-7", 1) for n in range(1_000)]
    records = [record(n, 7 if n % 10 == 0 else 0) for n in reversed(range(1_000))]
    results = await submit(said(*records), RULES, many, batch={"key": "msgs", "size": 1_000})
    assert results == [(RECIPIENT, "7") if n % 10 == 0 else (ACCEPTED, f"id-{n}") for n in range(1_000)]

"""Requests of generic providers: where values go, and that none of them makes structure."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse
from dispatcher.providers.base import Filled, OutgoingText
from dispatcher.providers.generic import GenericAdapter
from postrider.contracts.provider_fields import check_provider, with_defaults
from tests.standins.scripted_http import ScriptedHttp
from tests.support.batches import all_begun

URL = "https://gw.example/send"
HOSTILE = "a&to=+1#?/\"\\'{}\n\r\x00%0d%0a ✓😀=x; $$To $$key ..//"
FILLED = Filled("tpl-1", ("one", "two, three"), (("uid", "u 1"),), (("k", "v"),), (("hid", "h"),))
TEXT = OutgoingText("m1", 1, "m1.1", "+15005550006", "Hi & bye", "GSM-7", 1, campaign_id="cmp_1", filled=FILLED)
BATCH: dict[str, Any] = {
    "url": f"{URL}?c=$$CampaignID&h=$$hid",
    "headers": {"X-K": "$$k"},
    "json": {"hid": "$$hid", "tid": "$$TemplateID", "n": 1, "msgs": [
        {"seq": 1, "to": "$$To", "mid": "$$MessageID", "u": "<$$uid>", "vars": "$$TemplateVariables",
         "deep": [["$$uid"]]}
    ]},
    "batch": {"key": "msgs", "size": 3},
}  # fmt: skip


def adapter(settings: dict[str, Any], calls: int = 1, **credentials: Any) -> tuple[GenericAdapter, ScriptedHttp]:
    assert check_provider("generic", settings, credentials) == []
    http = ScriptedHttp([HttpResponse(200, {}, b"")] * calls)
    return GenericAdapter("prv_1", with_defaults("generic", settings), credentials, http), http


def text(**fields: Any) -> OutgoingText:
    return replace(TEXT, **fields)


def filled(**fields: Any) -> OutgoingText:
    return text(filled=dataclasses.replace(FILLED, **fields))


async def test_get() -> None:
    provider, http = adapter(
        {"url": f"{URL}/$$CampaignID?to=$$To&fix=a%20b", "method": "GET", "headers": {"X-K": "$$k"},
         "to_format": "digits", "form": {"text": "$$Body", "v": "<$$TemplateVariables>", "u": "$$uid"}}
    )  # fmt: skip
    assert (await provider.submit(TEXT)).provider_message_id == "m1.1"
    (request,) = http.requests
    assert request.method == "GET" and request.body == b""
    assert urlsplit(request.url).path == "/send/cmp_1"
    assert "fix=a%20b&text=Hi%20%26%20bye&" in request.url
    assert parse_qsl(urlsplit(request.url).query) == [
        ("to", "15005550006"), ("fix", "a b"), ("text", "Hi & bye"), ("v", "<one|two, three>"), ("u", "u 1"),
    ]  # fmt: skip
    assert request.headers == {"X-K": "v"}


async def test_form() -> None:
    provider, http = adapter({"url": URL, "form": {"to": "$$To", "text": "$$Body", "é": "1"}})
    await provider.submit(TEXT)
    (request,) = http.requests
    assert request.headers == {"Content-Type": "application/x-www-form-urlencoded"}
    assert parse_qsl(request.body.decode()) == [("to", "+15005550006"), ("text", "Hi & bye"), ("é", "1")]


async def test_a_batch_is_the_frame_with_a_clone_of_the_element_for_each() -> None:
    provider, http = adapter(BATCH)
    second = text(message_id="m2", reference="m2.1", to="+15005550007",
                  filled=dataclasses.replace(FILLED, variables=(), message_pairs=(("uid", "u2"),)))  # fmt: skip
    assert provider.batch_key(TEXT) == provider.batch_key(second)
    assert provider.capabilities.batch_size == 3
    results = all_begun(await provider.submit_batch([TEXT, second]))
    assert [result.provider_message_id for result in results] == ["m1.1", "m2.1"]
    (request,) = http.requests
    assert request.url == f"{URL}?c=cmp_1&h=h"
    assert request.headers == {"X-K": "v", "Content-Type": "application/json"}
    assert json.loads(request.body) == {
        "hid": "h", "tid": "tpl-1", "n": 1,
        "msgs": [
            {"seq": 1, "to": "+15005550006", "mid": "m1.1", "u": "<u 1>", "vars": ["one", "two, three"],
             "deep": [["u 1"]]},
            {"seq": 1, "to": "+15005550007", "mid": "m2.1", "u": "<u2>", "vars": [], "deep": [["u2"]]},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        text(campaign_id="cmp_2"),
        filled(template_id="tpl-2"),
        filled(header_pairs=(("k", "w"),)),
        filled(global_pairs=(("hid", "i"),)),
    ],
)
async def test_what_stands_outside_the_element_divides_batches(other: OutgoingText) -> None:
    provider, http = adapter(BATCH, 0)
    assert provider.batch_key(TEXT) != provider.batch_key(other)
    results = all_begun(await provider.submit_batch([TEXT, other]))
    assert [(result.outcome, result.not_begun) for result in results] == [(Outcome.REJECTED_CONTENT, True)] * 2
    assert http.requests == []


async def test_one_text_that_does_not_fit_leaves_the_others_of_its_batch_alone() -> None:
    provider, http = adapter(BATCH)
    results = all_begun(await provider.submit_batch([TEXT, filled(message_pairs=()), text(reference="m3.1")]))
    assert [result.outcome for result in results] == [Outcome.ACCEPTED, Outcome.REJECTED_CONTENT, Outcome.ACCEPTED]
    assert results[1].code == "missing_uid" and results[1].not_begun
    assert [each["mid"] for each in json.loads(http.requests[0].body)["msgs"]] == ["m1.1", "m3.1"]


async def test_a_text_whose_header_does_not_fit_is_not_sent_nor_are_those_that_share_it() -> None:
    provider, http = adapter(BATCH, 0)
    texts = [filled(header_pairs=(("k", "a\nb"),)), filled(header_pairs=(("k", "a\nb"),), message_pairs=())]
    assert [result.code for result in all_begun(await provider.submit_batch(texts))] == ["header_value", "missing_uid"]
    assert http.requests == []


async def test_pairs_of_the_campaign_s_own() -> None:
    own = BATCH | {"campaign_pairs": {"message": True, "header": True, "global": True}}
    provider, http = adapter(own)
    await provider.submit(
        filled(message_pairs=(("uid", "u"), ("extra", "e")), header_pairs=(("k", "v"), ("X-More", "m")),
               global_pairs=(("hid", "h"), ("tag", "t")))
    )  # fmt: skip
    (request,) = http.requests
    document = json.loads(request.body)
    assert document["msgs"][0]["extra"] == "e" and document["tag"] == "t"
    assert request.headers["X-More"] == "m"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"message_pairs": (("uid", "u"), ("to", "+1"))}, "pair_taken"),
        ({"message_pairs": (("uid", "u"), ('a","b', "1"))}, "pair_name"),
        ({"global_pairs": (("hid", "h"), ("msgs", "[]"))}, "pair_taken"),
        ({"global_pairs": (("hid", "h"), ("n", "2"))}, "pair_taken"),
        ({"header_pairs": (("k", "v"), ("Host", "evil.example"))}, "pair_taken"),
        ({"header_pairs": (("k", "v"), ("x-k", "w"))}, "pair_taken"),
        ({"header_pairs": (("k", "v"), ("authorization", "w"))}, "pair_taken"),
        ({"header_pairs": (("k", "v"), ("Content-Length", "0"))}, "pair_taken"),
        ({"header_pairs": (("k", "v"), ("X-A: b\r\nX", "w"))}, "pair_name"),
        ({"header_pairs": (("k", "v"), ("X-A", "w\r\nX-B: c"))}, "header_value"),
        ({"header_pairs": (("k", "é"),)}, "header_value"),
    ],
)
async def test_own_pairs_overwrite_nothing_and_make_no_structure(more: dict[str, Any], code: str) -> None:
    provider, http = adapter(BATCH | {"campaign_pairs": {"message": True, "header": True, "global": True}}, 0)
    result = await provider.submit(filled(**more))
    assert (result.outcome, result.code, result.not_begun) == (Outcome.REJECTED_CONTENT, code, True)
    assert http.requests == []


@pytest.mark.parametrize("name", ["to", "text", "q"])
async def test_own_pairs_of_a_form_do_not_repeat_a_parameter(name: str) -> None:
    settings = {"url": f"{URL}?q=1", "form": {"to": "$$To", "text": "$$Body"}, "campaign_pairs": {"message": True}}
    provider, _ = adapter(settings, 0)
    assert (await provider.submit(filled(message_pairs=((name, "x"),)))).code == "pair_taken"
    provider, http = adapter(settings)
    await provider.submit(filled(message_pairs=(("route", "a&b=c"),)))
    assert parse_qsl(http.requests[0].body.decode())[-1] == ("route", "a&b=c")


async def test_a_hostile_value_stays_a_value_everywhere() -> None:
    hostile = text(
        body=HOSTILE, filled=dataclasses.replace(FILLED, variables=(HOSTILE,), message_pairs=(("uid", HOSTILE),))
    )
    provider, http = adapter({"url": f"{URL}/$$uid/x?to=$$To&text=$$Body&end=1", "method": "GET"})
    await provider.submit(hostile)
    url = urlsplit(http.requests[0].url)
    assert url.netloc == "gw.example" and not url.fragment
    steps = url.path.split("/")
    assert len(steps) == 4 and unquote(steps[2]) == HOSTILE and steps[3] == "x"
    assert parse_qsl(url.query) == [("to", TEXT.to), ("text", HOSTILE), ("end", "1")]

    provider, http = adapter(
        {"url": URL, "form": {"to": "$$To", "text": "$$Body", "v": "$$TemplateVariables", "end": "1"}}
    )
    await provider.submit(hostile)
    assert parse_qsl(http.requests[0].body.decode()) == [
        ("to", TEXT.to),
        ("text", HOSTILE),
        ("v", HOSTILE),
        ("end", "1"),
    ]

    provider, http = adapter(
        {"url": URL, "json": {"to": "$$To", "text": "$$Body", "v": "$$TemplateVariables", "w": "<$$uid>"}}
    )
    await provider.submit(hostile)
    assert json.loads(http.requests[0].body) == {"to": TEXT.to, "text": HOSTILE, "v": [HOSTILE], "w": f"<{HOSTILE}>"}


async def test_pairs_without_a_place_are_left_out() -> None:
    """The configuration was edited since the campaign was saved."""
    provider, http = adapter({"url": URL, "json": {"to": "$$To", "text": "$$Body"}})
    assert (await provider.submit(TEXT)).is_accepted
    assert json.loads(http.requests[0].body) == {"to": TEXT.to, "text": TEXT.body}
    assert set(http.requests[0].headers) == {"Content-Type"}


async def test_placeholders_in_values_are_not_filled_again() -> None:
    provider, http = adapter(
        {"url": URL, "json": {"to": "$$To", "text": "$$Body"}, "headers": {"X-Key": "$$key"}, "secrets": ["key"]},
        secrets={"key": "s3cret"},
    )
    await provider.submit(text(body="your key is $$key, $$To"))
    assert b"s3cret" not in http.requests[0].body
    assert http.requests[0].headers["X-Key"] == "s3cret"


async def test_basic_authentication() -> None:
    provider, http = adapter(
        {"url": URL, "form": {"to": "$$To", "text": "$$Body"}, "auth": {"type": "basic", "username": "Aladdin"}},
        password="open sesame",
    )
    await provider.submit(TEXT)
    assert http.requests[0].headers["Authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


async def test_a_text_that_is_no_unicode_is_refused_and_not_raised() -> None:
    for settings in (BATCH, {"url": URL, "form": {"to": "$$To", "text": "$$uid", "b": "$$Body"}}):
        provider, http = adapter(settings, 0)
        result = await provider.submit(filled(message_pairs=(("uid", "\ud800"),)))
        assert (result.code, result.not_begun) == ("not_unicode", True)
        assert http.requests == []


async def test_a_provider_nobody_can_ask_says_so() -> None:
    provider, _ = adapter(BATCH, 0)
    verification = await provider.verify()
    assert (verification.ok, verification.reason) == (True, "no_harmless_call")

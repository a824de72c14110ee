"""Which fields of a campaign's `what` a provider takes, and the check of a `what` against them."""

from __future__ import annotations

from typing import Any

import pytest

from postrider.contracts.what_fields import WhatField, check_what, what_fields

URL = "https://gw.example/send"
BATCH: dict[str, Any] = {
    "url": URL,
    "headers": {"X-K": "$$k"},
    "json": {"hid": "$$hid", "tid": "$$TemplateID",
             "msgs": [{"to": "$$To", "uid": "$$uid", "variables": "$$TemplateVariables"}]},
    "batch": {"key": "msgs", "size": 100},
}  # fmt: skip
ALONE: dict[str, Any] = {
    "url": f"{URL}?q=1",
    "form": {"to": "$$To", "text": "$$Body", "r": "$$route"},
    "headers": {"X-K": "$$k"},
}
GOOD = {
    "template_id": "tpl",
    "template_variables": ["{{ Profile.name }}", "20"],
    "message_pairs": {"uid": "{{ Profile.id }}"},
    "header_pairs": {"k": "v"},
    "global_pairs": {"hid": "h"},
}


def names(kind: str, settings: dict[str, Any]) -> dict[str, WhatField]:
    return {field.name: field for field in what_fields(kind, settings)}


def problems(settings: dict[str, Any], what: dict[str, Any], kind: str = "generic") -> dict[str, str]:
    return {problem.pointer: problem.message for problem in check_what(what_fields(kind, settings), what)}


@pytest.mark.parametrize("kind", ["twilio", "vonage", "exotel", "sandbox", "netcore"])
def test_who_sends_texts_takes_a_body(kind: str) -> None:
    settings = {"feed_id": "1"} if kind == "netcore" else {}
    assert names(kind, settings)["body"].required
    assert "global_pairs" not in names(kind, settings)
    assert problems(settings, {"body": "Hi {{ Profile.name }}"}, kind) == {}
    assert set(problems(settings, {}, kind)) == {"/body"}
    assert set(problems(settings, {"body": "Hi", "header_pairs": {"a": "b"}}, kind)) == {"/header_pairs"}


def test_netcore_asks_for_a_template_where_india_s_registry_does() -> None:
    assert set(names("netcore", {"feed_id": "1"})) == {"body", "fallback_body"}
    assert set(names("netcore", {"feed_id": "1", "entity_id": "1201"})) == {"body", "fallback_body", "template_id"}


def test_msg91_takes_templates_only() -> None:
    fields = names("msg91", {})
    assert "body" not in fields and fields["template_id"].required and fields["message_pairs"].may_add
    assert set(problems({}, {"body": "Hi"}, "msg91")) == {"/body", "/template_id"}
    assert set(problems({}, {"template_id": "t", "fallback_body": "Hi"}, "msg91")) == {"/fallback_body"}


def test_of_a_generic_provider_exactly_what_its_configuration_says() -> None:
    fields = names("generic", BATCH)
    assert set(fields) == {"template_id", "template_variables", "message_pairs", "header_pairs", "global_pairs"}
    assert fields["message_pairs"].names == ("uid",) and fields["message_pairs"].personalised
    assert fields["global_pairs"].names == ("hid",) and not fields["global_pairs"].personalised
    assert fields["header_pairs"].names == ("k",) and not fields["header_pairs"].personalised
    assert not any(field.may_add for field in fields.values())
    alone = names("generic", ALONE)
    assert set(alone) == {"body", "fallback_body", "message_pairs", "header_pairs"}
    assert alone["header_pairs"].personalised, "without a batch each call is one person's"


def test_classes_that_a_campaign_may_add_to_are_there_without_predefined_pairs() -> None:
    settings = {"url": f"{URL}?to=$$To&b=$$Body", "campaign_pairs": {"message": True, "header": True}}
    fields = names("generic", settings)
    assert set(fields) == {"body", "fallback_body", "message_pairs", "header_pairs"}
    assert not fields["message_pairs"].required and fields["message_pairs"].may_add


def test_good() -> None:
    assert problems(BATCH, GOOD) == {}
    assert (
        problems(ALONE, {"body": "Hi", "message_pairs": {"route": "1"}, "header_pairs": {"k": "{{ Profile.x }}"}}) == {}
    )


@pytest.mark.parametrize(
    ("more", "pointer", "words"),
    [
        ({"body": "Hi"}, "/body", "does not apply"),
        ({"template_id": None}, "/template_id", "is required"),
        ({"template_id": "{{ Profile.t }}"}, "/template_id", "cannot be personalised"),
        ({"template_id": "x" * 257}, "/template_id", "longer than"),
        ({"template_variables": "a,b"}, "/template_variables", "must be a list"),
        ({"template_variables": ["a", 7]}, "/template_variables/1", "must be text"),
        ({"template_variables": ["a"] * 51}, "/template_variables", "more than 50"),
        ({"message_pairs": {}}, "/message_pairs", "is required by the provider: uid"),
        ({"message_pairs": {"uid": ""}}, "/message_pairs/uid", "is required"),
        ({"message_pairs": {"uid": 7}}, "/message_pairs/uid", "must be text"),
        ({"message_pairs": [["uid", "1"]]}, "/message_pairs", "must be an object"),
        ({"message_pairs": {"uid": "1", "more": "2"}}, "/message_pairs/more", "lets campaigns add no pairs"),
        ({"global_pairs": {"hid": "{{ Profile.x }}"}}, "/global_pairs/hid", "cannot be personalised"),
        ({"global_pairs": {"hid": "for @Profile.x"}}, "/global_pairs/hid", "cannot be personalised"),
        ({"header_pairs": {"k": "{% if Event.a %}b{% endif %}"}}, "/header_pairs/k", "cannot be personalised"),
        ({"header_pairs": {"k": "ask me@Profile.example"}}, None, ""),
        ({"global_pairs": {"hid": "{{ Campaign.name }} for your Profile"}}, None, ""),
        ({"template_variables": ["x" * 2_001]}, "/template_variables/0", "longer than"),
        ({"template_variables": ["{{ Profile.x }}" + "x" * 2_001]}, None, ""),
    ],
)
def test_refused(more: dict[str, Any], pointer: str | None, words: str) -> None:
    found = problems(BATCH, GOOD | more)
    assert set(found) == ({pointer} if pointer else set())
    assert pointer is None or words in found[pointer]


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        ("message", "to", "is set by"),
        ("message", "a b", "is no name"),
        ("message", "tag", None),
        ("header", "x-k", "is set by"),
        ("header", "X:Y", "is no name"),
        ("header", "Host", "is set by"),
        ("header", "authorization", "is set by"),
        ("header", "X-Tag", None),
        ("global", "tid", "is set by"),
        ("global", "msgs", "is set by"),
        ("global", "tag", None),
    ],
)
def test_pairs_of_the_campaign_s_own(where: str, name: str, words: str | None) -> None:
    settings = BATCH | {"campaign_pairs": {"message": True, "header": True, "global": True}}
    field = f"{where}_pairs"
    found = problems(settings, GOOD | {field: {**GOOD[field], name: "1"}})  # type: ignore[dict-item]
    assert set(found) == ({f"/{field}/{name}"} if words else set())
    assert words is None or words in found[f"/{field}/{name}"]


def test_names_of_the_query_and_the_form_are_taken() -> None:
    settings = ALONE | {"campaign_pairs": {"message": True}}
    what = {"body": "Hi", "message_pairs": {"route": "1", "q": "2", "text": "3"}, "header_pairs": {"k": "v"}}
    assert set(problems(settings, what)) == {"/message_pairs/q", "/message_pairs/text"}


@pytest.mark.parametrize(
    "settings", [{}, {"url": 7, "json": "x", "batch": 3}, BATCH | {"batch": {"key": "no", "size": 1}}]
)
def test_settings_that_an_older_version_let_pass_still_have_fields(settings: dict[str, Any]) -> None:
    assert isinstance(what_fields("generic", settings), tuple)

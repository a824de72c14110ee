"""A campaign's `what` against the providers that may carry it; what is sent to each; the preview."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from campaign_api.domain.campaign_changes import what_of, with_what
from campaign_api.domain.campaign_checks import Surroundings
from campaign_api.domain.preview import preview
from campaign_api.domain.resource import Resource
from campaign_api.domain.what_checks import check_what, misfits
from postrider.contracts.definitions import Content
from postrider.contracts.what_fields import what_fields

GATEWAY: dict[str, Any] = {
    "url": "https://gw.example/send",
    "headers": {"X-Route": "$$route"},
    "json": {"shop": "$$shop", "texts": [{"to": "$$To", "text": "$$Body", "uid": "$$uid"}]},
    "batch": {"key": "texts", "size": 100},
}
AROUND = Surroundings(
    providers={"twilio": "active", "msg91": "active", "gateway": "active", "gone": "archived"},
    groups={"same": ("twilio", "gone"), "unlike": ("twilio", "msg91"), "all": ("twilio", "msg91", "gateway")},
    default_group_id="same",
    takes={
        "twilio": what_fields("twilio", {}),
        "msg91": what_fields("msg91", {}),
        "gateway": what_fields("generic", GATEWAY),
        "gone": what_fields("msg91", {}),
    },
)
PAIRS = {"message_pairs": {"uid": "{{ Profile.uid }}"}, "header_pairs": {"route": "7"}, "global_pairs": {"shop": "A"}}
TEMPLATE = {"template_id": "promo", "template_variables": ["{{ Profile.name }}"]}


def wrong(what: dict[str, Any], around: Surroundings = AROUND, *, live: bool = False) -> dict[str, str]:
    return {problem.pointer: problem.message for problem in check_what(what, around, live=live)}


@pytest.mark.parametrize(
    "what",
    [
        {"body": "Hi"},
        {"body": "Hi", "template_variables": [], "message_pairs": {}, "by_provider": None},
        {"provider_id": "msg91", **TEMPLATE},
        {"provider_id": "gateway", "body": "Hi", **PAIRS},
        {"provider_group_id": "unlike", "body": "Hi", "by_provider": {"msg91": TEMPLATE}},
        {"provider_group_id": "unlike", "by_provider": {"msg91": TEMPLATE, "twilio": {"body": "Hi"}}},
        {"body": "Hi", "by_provider": {"gone": {"body": "x"}}},
    ],
)
def test_what_can_be_sent(what: dict[str, Any]) -> None:
    assert wrong(what) == {}


@pytest.mark.parametrize(
    ("what", "pointers"),
    [
        ({}, {"/what/body"}),
        ({"body": "Hi", "template_id": "t"}, {"/what/template_id"}),
        ({"provider_id": "msg91", "body": "Hi"}, {"/what/body", "/what/template_id"}),
        ({"provider_id": "msg91", **TEMPLATE, "fallback_body": "Hi"}, {"/what/fallback_body"}),
        ({"provider_id": "msg91", **TEMPLATE, "template_id": "{{ Profile.t }}"}, {"/what/template_id"}),
        ({"provider_id": "msg91", **TEMPLATE, "template_variables": ["a", "{{ x"]}, {"/what/template_variables/1"}),
        ({"provider_id": "msg91", **TEMPLATE, "template_variables": ["@Event.x"]}, {"/what/template_variables/0"}),
        ({"provider_id": "gateway", "body": "Hi"}, {f"/what/{name}" for name in PAIRS}),
        (
            {"provider_id": "gateway", "body": "Hi", **PAIRS, "global_pairs": {"shop": "{{ Profile.shop }}"}},
            {"/what/global_pairs/shop"},
        ),
        (
            {"provider_id": "gateway", "body": "Hi", **PAIRS, "header_pairs": {"route": "@Profile.r"}},
            {"/what/header_pairs/route"},
        ),
        ({"provider_group_id": "unlike", "body": "Hi"}, {"/what/body", "/what/template_id"}),
        (
            {"provider_group_id": "unlike", "body": "Hi", "by_provider": {"msg91": {"body": "x"}}},
            {"/what/by_provider/msg91/body", "/what/by_provider/msg91/template_id"},
        ),
        ({"body": "Hi", "by_provider": {"twilio": {"body": "{% if %}"}}}, {"/what/by_provider/twilio/body"}),
        ({"body": "Hi", "by_provider": {"msg91": TEMPLATE}}, {"/what/by_provider/msg91"}),
    ],
)
def test_what_cannot_be_sent_points_into_its_field(what: dict[str, Any], pointers: set[str]) -> None:
    assert set(wrong(what)) == pointers


def test_in_a_group_the_message_names_the_provider() -> None:
    assert wrong({"provider_group_id": "unlike", "body": "Hi"})["/what/template_id"].endswith("(msg91)")


def test_an_edit_of_a_provider_that_does_not_fit_is_seen() -> None:
    what = {"provider_id": "gateway", "body": "Hi", **PAIRS}
    settings = GATEWAY | {"headers": {"X-Route": "$$route", "X-Key": "$$key"}}
    after = replace(AROUND, takes={**AROUND.takes, "gateway": what_fields("generic", settings)})
    assert misfits(what, AROUND) == []
    assert [problem.pointer for problem in misfits(what, after)] == ["/what/header_pairs/key"]


def test_what_is_published_names_every_value_that_a_template_asks_for() -> None:
    given = {
        "body": "@Profile.a",
        "template_variables": ["@Event.b"],
        "message_pairs": {"uid": "@Profile.c"},
        "by_provider": {"msg91": {"template_id": "t", "template_variables": ["@Profile.d", "@Event.e"]}},
    }
    what = what_of(given, {})
    assert (what.references.profile, what.references.event) == (["a", "c", "d"], ["b", "e"])
    assert what.content_for("msg91") == Content(template_id="t", template_variables=["@Profile.d", "@Event.e"])
    assert what.content_for("twilio").message_pairs == {"uid": "@Profile.c"}


def test_a_version_that_was_kept_before_templates_is_the_same_what() -> None:
    body = {"what": {"body": "Hi"}}
    made = with_what({}, body, {})
    old = {name: made["whats"]["1"][name] for name in ("body", "references", "fallback_body", "provider_id",
           "provider_group_id", "on_doubt", "max_parts", "transliterate")}  # fmt: skip
    kept = {"whats": {"1": old}, "what_version": 1}
    assert with_what(kept, body, {}) == kept


def test_a_preview_is_what_the_first_provider_gets() -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    what = {"body": "Hi @Profile.name", "by_provider": {"msg91": TEMPLATE}}
    campaign = Resource("cmp_1", "campaign", 1, "draft", {"kind": "one_time", "name": "N", "what": what}, {}, now, now)
    template = preview(campaign, "msg91", {}, {"name": "Ada"}, {})
    assert (template["body"], template["parts"], template["reason"]) == (None, None, None)
    assert (template["template_id"], template["template_variables"]) == ("promo", ["Ada"])
    assert preview(campaign, "twilio", {}, {"name": "Ada"}, {})["body"] == "Hi Ada"
    assert preview(campaign, "msg91", {}, {}, {})["reason"].startswith("personalisation_failed: missing_value")


def test_a_route_counts_as_the_group_s_own_list_does() -> None:
    """Its providers have to take the campaign's `what`, may have one of their own, and one of them has to be active."""
    routed = replace(AROUND, routes={"same": {"IN": ("msg91", "gone"), "FR": ("twilio",)}})
    assert set(wrong({"body": "Hi"}, routed)) == {"/what/body", "/what/template_id"}
    assert wrong({"body": "Hi", "by_provider": {"msg91": TEMPLATE}}, routed) == {}
    left = replace(routed, providers={**AROUND.providers, "msg91": "archived"})
    problem = wrong({"body": "Hi", "by_provider": {"msg91": TEMPLATE}}, left)
    assert problem == {"/what/provider_group_id": "every provider of its route to IN is archived"}

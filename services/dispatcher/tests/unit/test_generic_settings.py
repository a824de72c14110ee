"""Configurations of generic providers: every rule of the placeholders and classes, each refusal at its place."""

from __future__ import annotations

from typing import Any

import pytest

from postrider.contracts.generic_provider import GenericConfig, read_generic
from postrider.contracts.provider_fields import check_kept_credentials, check_provider

URL = "https://gw.example/send"
GET = {"url": f"{URL}?to=$$To&text=$$Body", "method": "GET"}
FORM = {"url": URL, "form": {"to": "$$To", "text": "$$Body"}}
JSON = {"url": URL, "json": {"to": "$$To", "text": "$$Body"}}
BATCH = {
    "url": URL,
    "json": {"hid": "$$hid", "tid": "$$TemplateID", "cid": "$$CampaignID",
             "msgs": [{"to": "$$To", "mid": "$$MessageID", "uid": "$$uid", "variables": "$$TemplateVariables"}]},
    "batch": {"key": "msgs", "size": 100},
}  # fmt: skip


def problems(settings: dict[str, Any], credentials: dict[str, Any] | None = None) -> dict[str, str]:
    return {each.pointer: each.message for each in check_provider("generic", settings, credentials)}


def config(settings: dict[str, Any]) -> GenericConfig:
    assert problems(settings) == {}
    return read_generic(settings)


@pytest.mark.parametrize("settings", [GET, FORM, JSON, BATCH])
def test_good(settings: dict[str, Any]) -> None:
    assert problems(settings, {}) == {}


@pytest.mark.parametrize(
    ("settings", "pointer", "words"),
    [
        ({}, "/settings/url", "is required"),
        (GET | {"url": f"{URL}?text=$$Body"}, "/settings/url", "$$To is required"),
        (GET | {"url": f"{URL}?to=$$to&text=$$Body"}, "/settings/url", "case matters"),
        (FORM | {"form": {"to": "$$To"}}, "/settings/form", "one of $$Body and $$TemplateID"),
        (GET | {"url": "https://$$host.example/?to=$$To&text=$$Body"}, "/settings/url", "in the host"),
        (GET | {"url": "https://gw.example:$$port/?to=$$To&text=$$Body"}, "/settings/url", "in the host"),
        (GET | {"url": f"{URL}?$$To=1&text=$$Body"}, "/settings/url", "name of a parameter"),
        (GET | {"url": "/send?to=$$To&text=$$Body"}, "/settings/url", "needs base_url"),
        (GET | {"url": "http://2130706433/?to=$$To&text=$$Body"}, "/settings/url", "four decimal numbers"),
        (GET | {"url": "https://u:p@gw.example/?to=$$To&text=$$Body"}, "/settings/url", "password"),
        (GET | {"url": 7}, "/settings/url", "must be text"),
        (FORM | {"form": {"$$To": "to", "text": "$$To $$Body"}}, "/settings/form/$$To", "cannot stand in a name"),
        (JSON | {"json": {"$$To": "$$To $$Body"}}, "/settings/json", "cannot stand in a name"),
        (JSON | {"json": "{}"}, "/settings/json", "the document itself"),
        (JSON | {"json": {"to": "$$To", "text": "$$Body", "x": "y" * 40_000}}, "/settings/json", "longer than"),
        (JSON | {"method": "GET"}, "/settings/method", "sent by POST"),
        (JSON | {"form": {"a": "b"}}, "/settings/form", "either form or json"),
        (JSON | {"content_type": "form"}, "/settings/json", "not with content_type form"),
        (FORM | {"content_type": "json"}, "/settings/json", "is required with content_type json"),
        (FORM | {"method": "PUT"}, "/settings/method", "must be one of: GET, POST"),
        (FORM | {"surprise": 1}, "/settings/surprise", "unknown field"),
        (FORM | {"timeout_seconds": 0}, "/settings/timeout_seconds", "must be a number"),
        (FORM | {"headers": {"X Y": "a"}}, "/settings/headers/X Y", "no name of a header"),
        (FORM | {"headers": {"Host": "a"}}, "/settings/headers/Host", "HTTP client"),
        (FORM | {"headers": {"X-A": "a\r\nb"}}, "/settings/headers/X-A", "one line"),
        (FORM | {"headers": {"X-A": "a", "x-a": "b"}}, "/settings/headers/x-a", "twice"),
        (FORM | {"headers": {"Authorization": "x"}, "auth": {"type": "basic", "username": "u"}},
         "/settings/headers/Authorization", "set by auth"),
        (FORM | {"auth": {"type": "digest"}}, "/settings/auth/type", "must be one of: none, basic, oauth2"),
        (FORM | {"auth": {"type": "basic"}}, "/settings/auth/username", "is required"),
        (FORM | {"auth": {"type": "basic", "username": "a:b"}}, "/settings/auth/username", "without colons"),
        (FORM | {"auth": {"type": "none", "username": "u"}}, "/settings/auth/username", "unknown field"),
        (FORM | {"auth": {"type": "oauth2", "client_id": "c"}}, "/settings/auth/token_url", "is required"),
        (FORM | {"auth": {"type": "oauth2", "client_id": "c", "token_url": "http://127.1/"}},
         "/settings/auth/token_url", "four decimal numbers"),
        (FORM | {"auth": {"type": "oauth2", "client_id": "c", "token_url": f"{URL}/$$x"}},
         "/settings/auth/token_url", "cannot have placeholders"),
        (FORM | {"auth": {"type": "oauth2", "client_id": "c", "token_url": URL, "extra": {"scope": "$$To"}}},
         "/settings/auth/extra/scope", "only placeholders of secrets"),
        (FORM | {"auth": {"type": "oauth2", "client_id": "c", "token_url": URL, "extra": {"grant_type": "x"}}},
         "/settings/auth/extra/grant_type", "by itself"),
        (FORM | {"batch": {"key": "a", "size": 2}}, "/settings/batch", "needs a JSON document"),
        (BATCH | {"batch": {"key": "tid", "size": 2}}, "/settings/batch/key", "exactly one element"),
        (BATCH | {"batch": {"key": "nope", "size": 2}}, "/settings/batch/key", "exactly one element"),
        (BATCH | {"batch": {"key": "msgs", "size": 1_001}}, "/settings/batch/size", "from 1 to 1000"),
        (BATCH | {"batch": {"key": "msgs"}}, "/settings/batch/size", "is required"),
        (BATCH | {"url": f"{URL}?to=$$To"}, "/settings/url", "$$To outside the batched array"),
        (BATCH | {"headers": {"X-Id": "$$MessageID"}}, "/settings/headers", "$$MessageID outside the batched array"),
        (BATCH | {"json": {"body": "$$Body", "msgs": [{"to": "$$To"}]}}, "/settings/json", "$$Body outside"),
        (BATCH | {"json": {"to": "$$To", "msgs": [{"t": "$$Body"}]}}, "/settings/json", "$$To"),
        (BATCH | {"json": {"msgs": [{"to": "$$To", "t": "$$Body"}, {}]}}, "/settings/batch/key", "exactly one element"),
        (FORM | {"campaign_pairs": {"global": True}}, "/settings/campaign_pairs", "there is no batch"),
        (FORM | {"campaign_pairs": {"message": "yes"}}, "/settings/campaign_pairs/message", "true or false"),
        (BATCH | {"json": {"tid": "$$TemplateID", "msgs": ["$$To"]}, "campaign_pairs": {"message": True}},
         "/settings/campaign_pairs", "need an object"),
        (FORM | {"secrets": ["To"]}, "/settings/secrets", "names of placeholders of your own"),
        (FORM | {"secrets": "key"}, "/settings/secrets", "must be a list"),
        (FORM | {"receipts": "clevertap"}, "/settings/receipts", "needs $$MessageID"),
        (FORM | {"receipts": "twilio"}, "/settings/receipts", "must be one of"),
        (FORM | {"variables_joiner": ""}, "/settings/variables_joiner", "1 to 8"),
        (FORM | {"reply": []}, "/settings/reply", "must be an object"),
        (FORM | {"reply": {"statuses": {"200": "ok"}}}, "/settings/reply/statuses/200", "must be one of"),
        (FORM | {"reply": {"statuses": {"2xx": "accepted"}}}, "/settings/reply/statuses/2xx", "HTTP status"),
        (FORM | {"reply": {"statuses": {"400": "accepted"}}}, "/settings/reply/statuses/400", "only a 2xx"),
        (FORM | {"reply": {"statuses": {"500": "rejected_later"}}}, "/settings/reply/statuses/500", "in doubt"),
        (FORM | {"reply": {"statuses": {"503": "rejected_later"}}}, "/settings/reply/statuses/503", "Retry-After"),
        (FORM | {"reply": {"codes": {"1": "accepted"}}}, "/settings/reply/error_code", "where the code is"),
        (FORM | {"reply": {"message_id": "id"}}, "/settings/reply/message_id", "JSON pointer"),
        (FORM | {"reply": {"message_id": "<a>*<b>*"}}, "/settings/reply/message_id", "JSON pointer"),
        (FORM | {"reply": {"message_id": "/a~2"}}, "/settings/reply/message_id", "JSON pointer"),
        (FORM | {"reply": {"message_id": []}}, "/settings/reply/message_id", "JSON pointer"),
        (FORM | {"reply": {"records": {"list": "/m", "key": "/to", "match": "to"}}},
         "/settings/reply/records", "there is no batch"),
        (BATCH | {"reply": {"records": {"list": "/m"}}}, "/settings/reply/records/key", "is required"),
        (BATCH | {"reply": {"records": {"list": "<a>*", "key": "/id"}}}, "/settings/reply/records/list", "pointer"),
        (BATCH | {"json": {"tid": "$$TemplateID", "msgs": ["$$To"]}, "reply": {"records": {"list": "/m", "key": "/i"}}},
         "/settings/reply/records/match", "needs $$MessageID"),
    ],
)  # fmt: skip
def test_refused(settings: dict[str, Any], pointer: str, words: str) -> None:
    found = problems(settings)
    assert words in found.get(pointer, ""), found


@pytest.mark.parametrize(
    ("settings", "credentials", "wrong"),
    [
        (FORM, {}, set()),
        (FORM, None, set()),
        (FORM, {"password": "x"}, {"/credentials/password"}),
        (FORM | {"auth": {"type": "basic", "username": "u"}}, {}, {"/credentials/password"}),
        (FORM | {"auth": {"type": "basic", "username": "u"}}, {"password": "p w"}, set()),
        (FORM | {"auth": {"type": "oauth2", "token_url": URL, "client_id": "c"}}, {}, {"/credentials/client_secret"}),
        (FORM | {"secrets": ["key"]}, {}, {"/credentials/secrets"}),
        (FORM | {"secrets": ["key"]}, {"secrets": {}}, {"/credentials/secrets/key"}),
        (FORM | {"secrets": ["key"]}, {"secrets": {"key": "a\nb"}}, {"/credentials/secrets/key"}),
        (FORM | {"secrets": ["key"]}, {"secrets": {"key": "ok"}}, set()),
        (FORM, {"secrets": {"key": "ok"}}, {"/credentials/secrets/key"}),
    ],
)
def test_credentials(settings: dict[str, Any], credentials: dict[str, Any] | None, wrong: set[str]) -> None:
    assert set(problems(settings, credentials)) == wrong


@pytest.mark.parametrize(
    ("after", "again"),
    [
        ({}, None),
        ({"headers": {"X-A": "b"}, "url": f"{URL}/v2"}, None),
        ({"url": "https://GW.example:443/send"}, None),
        ({"secrets": ["key", "more"]}, ""),
        ({"secrets": []}, ""),
        ({"auth": {"type": "basic", "username": "u"}}, ""),
        ({"url": "https://elsewhere.example/send"}, "/secrets/key"),
        ({"url": "http://gw.example/send"}, "/secrets/key"),
        ({"url": "https://gw.example:8443/send"}, "/secrets/key"),
        ({"url": "/send", "base_url": "https://elsewhere.example"}, "/secrets/key"),
    ],
)
def test_credentials_are_given_again_when_they_would_be_others_or_go_elsewhere(
    after: dict[str, Any], again: str | None
) -> None:
    """Stored ones can be read by nobody: not by us, so the dispatcher would be left with a provider it cannot use, and
    not by whoever may change a provider, so they are not sent to a host that this person chose."""
    before = FORM | {"secrets": ["key"]}
    found = [problem.pointer for problem in check_kept_credentials("generic", before, before | after)]
    assert found == ([] if again is None else [f"/credentials{again}"])
    without = FORM | {"secrets": []}
    assert check_kept_credentials("generic", without, without | {"url": "https://elsewhere.example/"}) == []


@pytest.mark.parametrize(
    ("url", "auth", "again"),
    [
        (URL, {"client_id": "other"}, []),
        (URL, {"token_url": "https://elsewhere.example/token"}, ["client_secret", "secrets/key"]),
        ("https://elsewhere.example/send", {}, ["client_secret", "secrets/key"]),
        ("https://login.example/send", {"token_url": "https://gw.example/token"}, ["client_secret"]),
    ],
)
def test_tokens_and_the_secrets_that_they_are_asked_for_with_go_where_they_went(
    url: str, auth: dict[str, Any], again: list[str]
) -> None:
    """Also when two hosts that both know something change places."""
    oauth = {
        "type": "oauth2", "token_url": "https://login.example/token", "client_id": "id", "extra": {"k": "$$key"},
    }  # fmt: skip
    before = FORM | {"secrets": ["key"], "auth": oauth}
    after = before | {"url": url, "auth": oauth | auth}
    found = [problem.pointer for problem in check_kept_credentials("generic", before, after)]
    assert found == [f"/credentials/{name}" for name in again]


def test_netcore_s_too() -> None:
    before, after = {"feed_id": "1"}, {"feed_id": "1", "base_url": "https://elsewhere.example"}
    assert check_kept_credentials("netcore", before, {"feed_id": "2"}) == []
    assert [problem.pointer for problem in check_kept_credentials("netcore", before, after)] == [
        "/credentials/username", "/credentials/password",
    ]  # fmt: skip


def test_a_problem_never_repeats_a_value() -> None:
    found = problems(
        FORM | {"headers": {"Host": "hush"}, "auth": {"type": "hush"}, "url": "hush"}, {"password": "hush"}
    )
    assert found
    assert not any("hush" in message for message in found.values())


def test_without_a_batch_pairs_of_url_and_parameters_are_of_the_message() -> None:
    found = config(
        {"url": "https://gw.example/$$route", "json": {"to": "$$To", "text": "$$Body", "deep": [{"a": "x $$uid"}]},
         "headers": {"X-K": "$$k $$uid"}}
    )  # fmt: skip
    assert found.pairs("message") == ("route", "uid")
    assert found.pairs("header") == ("k", "uid"), "one name in two places is two pairs"
    assert found.pairs("global") == ()


def test_with_a_batch_only_its_element_is_of_the_message() -> None:
    found = config(BATCH | {"url": f"{URL}/$$route", "headers": {"X-K": "$$k"}})
    assert found.pairs("message") == ("uid",)
    assert found.pairs("global") == ("route", "hid")
    assert found.pairs("header") == ("k",)


def test_names_are_exact_and_case_sensitive() -> None:
    found = config(FORM | {"form": {"to": "$$To", "a": "$$Body $$body $$TEMPLATEID", "b": "$$5 $$ $To cost$$"}})
    assert found.pairs("message") == ("body", "TEMPLATEID")


def test_secrets_are_no_pairs() -> None:
    found = config(FORM | {"headers": {"X-K": "$$key $$k"}, "secrets": ["key"]})
    assert found.pairs("header") == ("k",)


def test_a_path_is_of_the_base_url() -> None:
    assert config({"base_url": "http://127.0.0.1:4010/", "url": "/s?to=$$To&b=$$Body"}).url == (
        "http://127.0.0.1:4010/s?to=$$To&b=$$Body"
    )


def test_a_document_deeper_than_anybody_needs() -> None:
    document: Any = "$$To $$Body"
    for _ in range(5_000):
        document = [document]
    assert problems({"url": URL, "json": document})["/settings/json"] == "is deeper than 20"

"""`keyword_replies` of the settings: what is taken, and what the dispatcher is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from campaign_api.api.models.account import PREFILLED, SettingsIn
from campaign_api.domain.resource import Resource
from campaign_api.domain.snapshots import snapshot_of
from postrider.contracts.definitions import AccountSettings, KeywordReplies

AT = datetime(2026, 12, 1, tzinfo=UTC)


def told(given: dict[str, Any] | None) -> KeywordReplies:
    body = SettingsIn.model_validate({"keyword_replies": given}).content()
    definition = snapshot_of(Resource("account", "settings", 3, "", body, {}, AT, AT)).definition
    assert isinstance(definition, AccountSettings)
    return definition.keyword_replies


def test_what_the_dispatcher_is_told() -> None:
    assert told(None) == told({}) == KeywordReplies()
    assert told({"language": "es", "stop": {"es": "Adiós", "en": "Bye"}, "help": None, "off": ["start"]}) == (
        KeywordReplies("es", {"stop": {"es": "Adiós", "en": "Bye"}}, ["start"])
    )


def test_settings_of_before_have_none() -> None:
    body = {name: value for name, value in PREFILLED.items() if name != "keyword_replies"}
    definition = snapshot_of(Resource("account", "settings", 1, "", body, {}, AT, AT)).definition
    assert isinstance(definition, AccountSettings)
    assert definition.keyword_replies == KeywordReplies()


@pytest.mark.parametrize(
    "given",
    [
        {"language": "english"},
        {"language": None},
        {"stop": {"EN": "Bye"}},
        {"stop": {"en": ""}},
        {"stop": {"en": "  "}},
        {"stop": {"en": "a\x00b"}},
        {"stop": {"en": "x" * 481}},
        {"stop": "Bye"},
        {"stop": {"en": None}},
        {"off": ["info"]},
        {"off": "stop"},
        {"unsubscribe": {"en": "Bye"}},
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SettingsIn.model_validate({"keyword_replies": given})

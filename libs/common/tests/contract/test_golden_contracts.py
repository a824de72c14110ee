"""Golden examples: records as they were written by earlier versions must be readable for ever, meaning the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources

import pytest
from msgspec import Struct

from postrider.contracts import audience, codec, definitions, delivery_events, qualified, send_jobs, suppressions
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import envelope_of, headers_of
from postrider.contracts.ids import former_message_id, message_id, run_id
from postrider.contracts.topics import TOPICS
from postrider.contracts.user_events import EventProblem, Ignored, UserEvent, parse, parse_bytes

STRUCTS: dict[str, type[Struct]] = {
    audience.SNAPSHOT_REQUESTED: audience.SnapshotRequested,
    audience.ZONE_REQUESTED: audience.ZoneRequested,
    audience.UNEXPANDED_SETTLED: audience.UnexpandedSettled,
    audience.SNAPSHOTTED: audience.AudienceSnapshotted,
    audience.REFUSED: audience.AudienceRefused,
    audience.PAGE: audience.AudiencePage,
    qualified.QUALIFIED: qualified.QualifiedUser,
    send_jobs.SEND_JOB: send_jobs.SendJob,
    delivery_events.FUNNEL_MOVED: delivery_events.FunnelMoved,
    delivery_events.MESSAGE_CHANGED: delivery_events.MessageChanged,
    delivery_events.RUN_CHANGED: delivery_events.RunChanged,
    suppressions.SUPPRESSION_CHANGED: suppressions.SuppressionChanged,
    definitions.CAMPAIGN_TYPE: definitions.CampaignDefinition,
    definitions.SEGMENT_TYPE: definitions.SegmentDefinition,
    definitions.PROVIDER_TYPE: definitions.ProviderDefinition,
    definitions.GROUP_TYPE: definitions.ProviderGroupDefinition,
    definitions.SETTINGS_TYPE: definitions.AccountSettings,
}
NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
GOLDEN = resources.files("postrider.contracts") / "golden"


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_a_golden_record_is_read_and_written_back_unchanged(name: str) -> None:
    golden = (GOLDEN / f"{name}.v1.json").read_bytes()
    value = codec.decode(golden, STRUCTS[name])
    assert is_kept(json.loads(golden), json.loads(codec.encode(value)))


@pytest.mark.parametrize("kind", ["live_action", "live_inaction", "live_date_attribute", "live_date_event"])
def test_a_golden_live_campaign_is_read_and_written_back(kind: str) -> None:
    golden = (GOLDEN / f"campaign.defined.{kind}.v1.json").read_bytes()
    value = codec.decode(golden, definitions.CampaignDefinition)
    assert value.who.trigger is not None
    assert is_kept(json.loads(golden), json.loads(codec.encode(value)))
    assert codec.decode(codec.encode(value), definitions.CampaignDefinition) == value


def test_a_golden_campaign_of_templates_is_read_and_written_back() -> None:
    golden = (GOLDEN / "campaign.defined.templates.v1.json").read_bytes()
    value = codec.decode(golden, definitions.CampaignDefinition)
    assert value.what.content_for("prv_1").template_variables[1] == "20%"
    assert value.what.content_for("prv_2").body.startswith("Hi ")
    assert is_kept(json.loads(golden), json.loads(codec.encode(value)))


def is_kept(golden: object, written: object) -> bool:
    """Whether all that was said is still said; a field that came later may stand beside it."""
    if isinstance(golden, dict) and isinstance(written, dict):
        return all(name in written and is_kept(value, written[name]) for name, value in golden.items())
    return golden == written


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_a_record_with_a_field_of_the_future_is_still_read(name: str) -> None:
    body = json.loads((GOLDEN / f"{name}.v1.json").read_bytes())
    codec.decode(json.dumps(body | {"a_field_of_the_future": [1]}).encode(), STRUCTS[name])


def test_golden_user_events_are_read() -> None:
    track = parse_bytes((GOLDEN / "user-events.track.v1.json").read_bytes(), NOW)
    assert track == UserEvent(
        "track", "u-42", "m-1", "Added to Cart", datetime(2026, 12, 1, 8, tzinfo=UTC), NOW,
        {"cart_id": "c-9", "amount": 59.9}, False, datetime(2026, 12, 1, 8, tzinfo=UTC),
    )  # fmt: skip
    identify = parse_bytes((GOLDEN / "user-events.identify.v1.json").read_bytes(), NOW)
    assert isinstance(identify, UserEvent)
    assert identify.values["timezone"] == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({"type": "track", "userId": "u"}, "/event"),
        ({"type": "purchase", "userId": "u"}, "/type"),
        ({"type": "track", "event": "E"}, "/userId"),
        ({"type": "track", "event": "E", "userId": {"a": 1}}, "/userId"),
        ({"type": "track", "event": "E", "userId": "u\ud800"}, "/userId"),
        ({"type": "track", "event": "E", "userId": "u", "messageId": "x" * 257}, "/messageId"),
        ({"type": "track", "event": "E", "userId": "u", "properties": [1]}, "/properties"),
        ({"type": "track", "event": "E", "userId": "u", "properties": {"a/b": "x" * 513}}, "/properties/a~1b"),
        ({"type": "track", "event": "E", "userId": "u", "properties": {"a": [1] * 101}}, "/properties/a"),
        ({"type": "track", "event": "E", "userId": "u", "properties": {"a": "\x00"}}, "/properties/a"),
        ({"type": "track", "event": "E", "userId": "u", "properties": {str(i): i for i in range(257)}}, "/properties"),
        ({"type": "track", "event": "E", "userId": "u", "timestamp": "yesterday"}, "/timestamp"),
        ({"type": "track", "event": "E", "userId": "u", "timestamp": 5}, "/timestamp"),
        ({"type": "identify", "userId": "u", "traits": {"k" * 121: 1}}, "/traits"),
    ],
)
def test_a_message_over_a_limit_is_refused_and_the_field_is_named(body: object, pointer: str) -> None:
    with pytest.raises(EventProblem) as caught:
        parse(body, NOW)
    assert caught.value.pointer == pointer


def test_what_no_profile_can_own_is_ignored_with_its_reason() -> None:
    assert parse({"type": "track", "event": "E", "anonymousId": "a", "userId": None}, NOW) == Ignored("anonymous")
    assert parse({"type": "page", "userId": "u"}, NOW) == Ignored("type_page")


def test_times() -> None:
    def at(**times: str) -> datetime:
        event = parse({"type": "track", "event": "E", "userId": "u", **times}, NOW)
        assert isinstance(event, UserEvent)
        return event.at

    assert at() == NOW
    assert at(timestamp="2999-01-01T00:00:00Z") == datetime(2026, 12, 1, 9, 5, tzinfo=UTC)
    assert at(timestamp="1997-01-01T00:00:00Z") == datetime(1997, 1, 1, tzinfo=UTC)
    assert at(timestamp="2026-12-01T10:00:00+05:30", originalTimestamp="2020-01-01T00:00:00Z") == datetime(
        2026, 12, 1, 4, 30, tzinfo=UTC
    )


@pytest.mark.parametrize("data", [None, b"", b"{", b"[" * 100_000, b"\xff", b'{"type": NaN}', b"null", b"5"])
def test_no_bytes_break_the_reader(data: bytes | None) -> None:
    with pytest.raises(Unreadable):
        parse_bytes(data, NOW)


def test_a_reason_never_repeats_a_value() -> None:
    with pytest.raises(Unreadable) as caught:
        codec.decode(b'{"message_id": "+12025550142"}', send_jobs.SendJob)
    assert "+1202" not in caught.value.reason
    assert "campaign_id" in caught.value.reason


def test_the_send_key_knows_no_version_and_no_instant() -> None:
    assert message_id("cmp_1", "once", "u-1") == "14ebc4c3ff391e39e8bbc2f2df86f7b6"
    assert former_message_id("cmp_1", "once", "u-1") == "ff391e39e8bbc2f2df86f7b67efa6359"
    assert message_id("cmp_1", "once", "u-1") != message_id("cmp_1", "once", "u-2")
    assert message_id("cmp_1", "once", "u-1")[:8] == message_id("cmp_1", "once", "u-2")[:8], "neighbours in a run"
    assert message_id("cmp_1", "once", "u-1")[:8] != message_id("cmp_1", "twice", "u-1")[:8]
    assert run_id("cmp_1", "once") == run_id("cmp_1", "once")


def test_envelope_round_trip() -> None:
    headers = headers_of("id-1", "send.requested", "scheduler", NOW)
    envelope = envelope_of(headers)
    assert (envelope.id, envelope.type, envelope.source) == ("id-1", "send.requested", "scheduler")


def test_topics_are_declared_once_and_personal_ones_are_kept_briefly() -> None:
    names = [topic.full_name() for topic in TOPICS]
    assert len(set(names)) == len(names)
    assert "postrider.user-events.v1" in names
    for topic in TOPICS:
        assert topic.owner
        assert topic.consumers
        if topic.personal:
            assert topic.retention_seconds is not None
            assert topic.retention_seconds <= 7 * 86_400

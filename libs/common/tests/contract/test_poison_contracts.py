"""What has the right shape and would still break whoever works with it: refused at decoding, by name of field."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from msgspec import Struct

from postrider.contracts import audience, codec, definitions, delivery_events, qualified, send_jobs, suppressions
from postrider.contracts.codec import Unreadable
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, Definition, name_of, require_whole
from postrider.contracts.envelope import MAX_RECORD_BYTES

GOLDEN = resources.files("postrider.contracts") / "golden"
JOB, MOVED, CHANGED = send_jobs.SEND_JOB, delivery_events.FUNNEL_MOVED, delivery_events.MESSAGE_CHANGED
KINDS: dict[str, type[Struct]] = {
    JOB: send_jobs.SendJob,
    MOVED: delivery_events.FunnelMoved,
    CHANGED: delivery_events.MessageChanged,
    delivery_events.RUN_CHANGED: delivery_events.RunChanged,
    qualified.QUALIFIED: qualified.QualifiedUser,
    audience.SNAPSHOT_REQUESTED: audience.SnapshotRequested,
    audience.ZONE_REQUESTED: audience.ZoneRequested,
    audience.UNEXPANDED_SETTLED: audience.UnexpandedSettled,
    audience.SNAPSHOTTED: audience.AudienceSnapshotted,
    audience.PAGE: audience.AudiencePage,
    suppressions.SUPPRESSION_CHANGED: suppressions.SuppressionChanged,
    definitions.CAMPAIGN_TYPE: CampaignDefinition,
    definitions.SETTINGS_TYPE: AccountSettings,
}


def golden(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((GOLDEN / f"{name}.v1.json").read_bytes())
    return body


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (JOB, {"due_at": "2026-01-01T00:00:00"}, "due_at"),
        (JOB, {"due_at": "0001-01-01T00:00:00+14:00"}, "due_at"),
        (JOB, {"send_by": "9999-12-31T23:59:59-14:00"}, "send_by"),
        (JOB, {"send_by": "2026-01-01T00:00:00+99:99"}, "send_by"),
        (JOB, {"user_id": "a\x00b"}, "U+0000"),
        (JOB, {"profile": {"a": [{"b\x00": 1}]}}, "U+0000"),
        (JOB, {"campaign_id": "x" * 129}, "campaign_id"),
        (JOB, {"user_id": "é" * 513}, "user_id"),
        (JOB, {"what_version": 2**31}, "what_version"),
        (JOB, {"allowed": [{"start": "2026-01-01T00:00:00", "end": "2026-01-01T00:00:00Z"}]}, "allowed"),
        (MOVED, {"n": -1}, "$.n"),
        (MOVED, {"n": 2**53 + 1}, "$.n"),
        (MOVED, {"reason": "x" * 513}, "reason"),
        (CHANGED, {"seq": 2**63}, "seq"),
        (CHANGED, {"parts": 65_536}, "parts"),
        (CHANGED, {"body": "\x00"}, "U+0000"),
        (delivery_events.RUN_CHANGED, {"total": 10**25}, "total"),
        (delivery_events.RUN_CHANGED, {"at": "2026-01-01T00:00:00"}, "at"),
        (qualified.QUALIFIED, {"campaign_version": -1}, "campaign_version"),
        (qualified.QUALIFIED, {"occurrence": "x" * 513}, "occurrence"),
        (audience.SNAPSHOT_REQUESTED, {"seed": 2**64}, "seed"),
        (audience.SNAPSHOT_REQUESTED, {"rule": {"any": ["\x00"]}}, "U+0000"),
        (audience.ZONE_REQUESTED, {"page_size": 0}, "page_size"),
        (audience.ZONE_REQUESTED, {"page_size": 10**9}, "page_size"),
        (audience.UNEXPANDED_SETTLED, {"zones": {"UTC": -1}}, "zones"),
        (audience.SNAPSHOTTED, {"zones": {"UTC": 2**31}}, "zones"),
        (audience.PAGE, {"page": 2**40}, "page"),
        (suppressions.SUPPRESSION_CHANGED, {"phone_hash": "x" * 1_000}, "phone_hash"),
        (definitions.CAMPAIGN_TYPE, {"version": -1}, "version"),
        (definitions.CAMPAIGN_TYPE, {"version": 2**31}, "version"),
        (definitions.CAMPAIGN_TYPE, {"scheduled_at": "2026-01-01T00:00:00"}, "scheduled_at"),
        (definitions.CAMPAIGN_TYPE, {"when": {"send_by_seconds": 10**15}}, "send_by_seconds"),
        (definitions.CAMPAIGN_TYPE, {"when": {"end": "2026-01-01T00:00:00"}}, "end"),
        (definitions.SETTINGS_TYPE, {"send_by_live_seconds": -1}, "send_by_live_seconds"),
    ],
)
def test_what_no_reader_could_keep_is_unreadable_and_its_field_is_named(
    name: str, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        codec.decode(json.dumps(golden(name) | change).encode(), KINDS[name])
    assert told in refused.value.reason


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_value_that_only_a_compressed_batch_can_carry_is_not_even_parsed(name: str) -> None:
    body = json.dumps(golden(name)).encode()
    with pytest.raises(Unreadable, match="larger than"):
        codec.decode(body + b" " * MAX_RECORD_BYTES, KINDS[name])


def test_a_backslash_before_a_u_is_no_nul() -> None:
    job = codec.decode(json.dumps(golden(JOB) | {"profile": {"path": "C:\\u0000"}}).encode(), send_jobs.SendJob)
    assert job.profile == {"path": "C:\\u0000"}


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (definitions.CAMPAIGN_TYPE, {"whats": {}}, "what_version"),
        (definitions.CAMPAIGN_TYPE, {"what_version": 77}, "what_version"),
        (definitions.SETTINGS_TYPE, {"account_time_zone": "Mars/Phobos"}, "account_time_zone"),
        (definitions.SETTINGS_TYPE, {"account_time_zone": "../../etc/passwd"}, "account_time_zone"),
    ],
)
def test_a_definition_that_is_not_whole_is_unreadable(name: str, change: dict[str, Any], told: str) -> None:
    definition = codec.decode(json.dumps(golden(name) | change).encode(), KINDS[name])
    assert isinstance(definition, Definition)
    with pytest.raises(Unreadable, match=told):
        require_whole(definition)


def test_the_golden_definitions_are_whole_and_known_by_their_keys() -> None:
    campaign = codec.decode(json.dumps(golden(definitions.CAMPAIGN_TYPE)).encode(), CampaignDefinition)
    settings = codec.decode(json.dumps(golden(definitions.SETTINGS_TYPE)).encode(), AccountSettings)
    for definition in (campaign, settings):
        require_whole(definition)
    assert (name_of(campaign), name_of(settings)) == (campaign.campaign_id, "account")

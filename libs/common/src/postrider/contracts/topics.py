"""The topic registry: every topic of the suite, declared once. Topics are created from it and never auto-created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Topic:
    """`name` is without prefix; `full_name` is what Kafka sees. `compacted` topics hold whole snapshots by id."""

    name: str
    owner: str
    consumers: tuple[str, ...]
    key: str
    partitions: int
    personal: bool
    retention_seconds: int | None
    compacted: bool = False
    version: int = 1
    timestamp: Literal["CreateTime", "LogAppendTime"] = "LogAppendTime"
    max_message_bytes: int = 1_048_576

    def full_name(self, prefix: str = "postrider.") -> str:
        return f"{prefix}{self.name}.v{self.version}"

    def dead_letter_name(self, group: str, prefix: str = "postrider.") -> str:
        return f"{self.full_name(prefix)}.{group}.dlq"


USER_EVENTS = Topic("user-events", "other services, campaign-api", ("segment-engine-live", "segment-engine-history"),
                    "user_id", 6, True, 7 * DAY_SECONDS)  # fmt: skip
QUALIFIED_USERS = Topic("qualified-users", "segment-engine", ("scheduler",), "user_id", 6, True, 2 * DAY_SECONDS)
QUALIFIED_USERS_BULK = Topic("qualified-users-bulk", "segment-engine", ("scheduler-bulk",), "run, zone", 6, True,
                             2 * DAY_SECONDS, max_message_bytes=2_097_152)  # fmt: skip
AUDIENCE_REQUESTS = Topic("audience-requests", "scheduler", ("segment-engine-audiences",), "run_id", 6, False,
                          2 * DAY_SECONDS)  # fmt: skip
SEND_JOBS = Topic("send-jobs", "scheduler", ("dispatcher",), "user_id", 6, True, 2 * DAY_SECONDS)
SEND_JOBS_BULK = Topic("send-jobs-bulk", "scheduler", ("dispatcher-bulk",), "user_id", 6, True, 2 * DAY_SECONDS)
DELIVERY_EVENTS = Topic("delivery-events", "scheduler, dispatcher", ("campaign-api", "segment-engine-messages"),
                        "campaign_id (funnel, runs), user_id (messages)", 6, True, 7 * DAY_SECONDS)  # fmt: skip
CAMPAIGN_DEFINITIONS = Topic("campaign-definitions", "campaign-api", ("everyone",), "campaign_id", 1, False, None, True)
SEGMENT_DEFINITIONS = Topic("segment-definitions", "campaign-api", ("segment-engine",), "segment_id", 1, False, None,
                            True)  # fmt: skip
PROVIDER_DEFINITIONS = Topic("provider-definitions", "campaign-api", ("dispatcher",), "provider or group id", 1, False,
                             None, True)  # fmt: skip
ACCOUNT_SETTINGS = Topic("account-settings", "campaign-api", ("everyone",), "account", 1, False, None, True)
SUPPRESSIONS = Topic("suppressions", "dispatcher", ("segment-engine",), "HMAC of the phone", 6, False, None, True)

TOPICS: tuple[Topic, ...] = (
    USER_EVENTS, QUALIFIED_USERS, QUALIFIED_USERS_BULK, AUDIENCE_REQUESTS, SEND_JOBS, SEND_JOBS_BULK, DELIVERY_EVENTS,
    CAMPAIGN_DEFINITIONS, SEGMENT_DEFINITIONS, PROVIDER_DEFINITIONS, ACCOUNT_SETTINGS, SUPPRESSIONS,
)  # fmt: skip

"""Metrics of campaign-api, in one table."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

EVENTS_ACCEPTED = Counter("postrider_campaign_api_events_accepted_total", "Messages acknowledged by the broker.")
EVENTS_IGNORED = Counter(
    "postrider_campaign_api_events_ignored_total",
    "Messages of no use here, by reason: anonymous, type_page, …",
    ["reason"],
)
EVENTS_REFUSED = Counter("postrider_campaign_api_events_refused_total", "Messages refused, each with an error.")
INGESTION_FAILURES = Counter("postrider_campaign_api_ingestion_failures_total", "Bodies answered 503: no broker.")
DEFINITIONS_PUBLISHED = Counter("postrider_campaign_api_definitions_published_total", "Snapshots acknowledged.")
DEFINITIONS_WAITING = Gauge("postrider_campaign_api_definitions_waiting", "Changes that are saved and not published.")
MOVES_APPLIED = Counter("postrider_campaign_api_moves_applied_total", "Funnel moves added to the counters.")
MOVES_REPEATED = Counter("postrider_campaign_api_moves_repeated_total", "Funnel moves that came again.")
TO_RESEAL = Gauge(
    "postrider_campaign_api_credentials_to_reseal", "Providers whose credentials are sealed to another key than ours."
)
UPSTREAM_FAILURES = Counter("postrider_campaign_api_upstream_failures_total", "Internal calls that failed.", ["part"])

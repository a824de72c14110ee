"""Metrics of the segment-engine, in one table."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS_READ = Counter("postrider_segment_engine_events_read_total", "Records of user-events read.", ["group"])
EVENTS_IGNORED = Counter(
    "postrider_segment_engine_events_ignored_total", "Readable records of no use, by reason.", ["reason"]
)
EVENTS_STORED = Counter("postrider_segment_engine_events_stored_total", "Track events put into the history.")
EVENTS_DUPLICATE = Counter(
    "postrider_segment_engine_duplicates_total", "Messages dropped because their messageId was known.", ["type"]
)
EVENTS_FORWARDED = Counter(
    "postrider_segment_engine_forwarded_total", "Misplaced records re-published to their user's partition."
)
PROFILES_CHANGED = Counter("postrider_segment_engine_profiles_changed_total", "Profile rows written.")
PROFILES_COPIED = Counter("postrider_segment_engine_profiles_copied_total", "Profiles written to the event store.")
QUALIFIED = Counter("postrider_segment_engine_qualified_total", "Live qualifications published.", ["verdict"])
PAGES = Counter("postrider_segment_engine_pages_total", "Audience pages published.")
MESSAGES_LOGGED = Counter("postrider_segment_engine_messages_logged_total", "States written to the message log.")
BARRIER_SECONDS = Histogram(
    "postrider_segment_engine_barrier_seconds", "Seconds until history had passed the logs' ends."
)
SNAPSHOT_SECONDS = Histogram("postrider_segment_engine_snapshot_seconds", "Seconds to evaluate and store an audience.")
ESTIMATE_SECONDS = Histogram("postrider_segment_engine_estimate_seconds", "Seconds to evaluate an estimate.")
UNUSABLE_CAMPAIGNS = Gauge(
    "postrider_segment_engine_unusable_campaigns", "Live campaigns whose trigger cannot be compiled."
)
EVENT_STORE_FREE = Gauge(
    "postrider_segment_engine_event_store_free_bytes", "Free bytes on the event store's disk at the last write."
)

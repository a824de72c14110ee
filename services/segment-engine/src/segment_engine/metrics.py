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
PEOPLE_ERASED = Counter("postrider_segment_engine_people_erased_total", "People erased everywhere here.")
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
WAITS_ARMED = Counter("postrider_segment_engine_waits_armed_total", "Timers of live campaigns armed.", ["kind"])
WAITS_DISARMED = Counter(
    "postrider_segment_engine_waits_disarmed_total", "Armed timers that send nothing, by why.", ["kind", "reason"]
)
WAITS_NOT_ARMED = Counter(
    "postrider_segment_engine_waits_not_armed_total", "Events that match a trigger and arm nothing, by why.", ["reason"]
)
FILTERS_FAILED = Counter(
    "postrider_segment_engine_filters_failed_total",
    "Filters of live campaigns that could not be evaluated: none passed.",
)
WAITS_FIRED = Counter("postrider_segment_engine_waits_fired_total", "Timers that fired: someone qualified.", ["kind"])
WAITS = Gauge(
    "postrider_segment_engine_waits", "Armed timers of the partitions owned here, counted each minute.", ["kind"]
)
WAIT_LATENESS = Histogram(
    "postrider_segment_engine_wait_lateness_seconds",
    "Seconds from a timer's due time to the commit that fires it.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 15, 60, 300, 900),
)

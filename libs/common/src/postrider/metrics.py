"""Metrics of the kernel, in one table. Each service has a table of its own; all appear on its /metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS_READ = Counter("postrider_records_read_total", "Records handled and committed.", ["group", "topic"])
RECORDS_DEAD = Counter("postrider_dead_letters_total", "Records put on a dead-letter topic.", ["group", "topic"])
BATCH_SECONDS = Histogram("postrider_batch_seconds", "Seconds from a batch's first record to its commit.", ["group"])
BATCH_FAILURES = Counter(
    "postrider_batch_failures_total", "Batches rolled back, by kind of failure.", ["group", "kind"]
)
LAG = Gauge("postrider_lag_records", "Records between the committed offset and the log's end.", ["group", "topic"])
OFFSET_LOST = Gauge("postrider_offset_lost", "1 when a stored offset is outside the log: needs a decision.", ["group"])
CONSUMER_STOPPED = Gauge(
    "postrider_consumer_stopped", "1 when too many dead letters have stopped a group: look at them.", ["group"]
)
RECORDS_PUBLISHED = Counter("postrider_records_published_total", "Records acknowledged by the broker.", ["topic"])
PUBLISH_FAILURES = Counter("postrider_publish_failures_total", "Publish calls that failed and were repeated.")
OUTBOX_RELAYED = Counter("postrider_outbox_relayed_total", "Outbox rows that a crash left behind, published later.")
UNREADABLE = Counter(
    "postrider_unreadable_total", "Records of compacted topics that could not be read and were passed over.", ["topic"]
)
DEFINITIONS_CONFIRMED = Gauge(
    "postrider_definitions_confirmed_seconds", "Monotonic second at which definitions were last read to the end."
)

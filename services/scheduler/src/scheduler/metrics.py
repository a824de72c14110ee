"""Metrics of the scheduler, in one table."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

RUNS = Counter("postrider_scheduler_runs_total", "Runs that entered a state.", ["state"])
CAMPAIGNS_UNUSABLE = Counter(
    "postrider_scheduler_campaigns_unusable_total", "Definitions that could not be planned: nothing is sent for them."
)
ZONES_FIRED = Counter(
    "postrider_scheduler_zones_total", "Zone timers that came due, by what became of them.", ["outcome"]
)
TIMER_LATENESS = Histogram(
    "postrider_scheduler_timer_lateness_seconds",
    "Seconds from a zone's due time to its firing.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600),
)
PAGES = Counter("postrider_scheduler_pages_total", "Pages of audiences expanded.")
ANSWERS_IGNORED = Counter("postrider_scheduler_answers_ignored_total", "Snapshots and pages without effect.", ["why"])
JOBS = Counter("postrider_scheduler_jobs_total", "Send jobs emitted.", ["lane"])
SETTLED = Counter("postrider_scheduler_settled_total", "People who got no job.", ["lane"])
LIVE_REPEATS = Counter("postrider_scheduler_live_repeats_total", "Qualified users that were made into messages before.")
SLOTS_GIVEN_BACK = Counter(
    "postrider_scheduler_slots_given_back_total", "Slots of a limit whose text was definitely not sent."
)
LETTERS = Counter("postrider_scheduler_letters_total", "E-mails to owners of campaigns.", ["outcome"])
LIVE_SWEPT = Counter("postrider_scheduler_live_swept_total", "Remembered live messages past their time, forgotten.")

"""Every metric of the dispatcher, in one table."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)

JOBS = Counter("postrider_dispatcher_jobs_total", "Send jobs read, by lane; repeats are those known before.",
               ["lane", "result"])  # fmt: skip
CALLS = Counter("postrider_dispatcher_calls_total", "Provider calls that ended, by outcome.", ["provider", "outcome"])
CALL_SECONDS = Histogram("postrider_dispatcher_call_seconds", "Length of provider calls.", ["provider"],
                         buckets=_CALL_BUCKETS)  # fmt: skip
CALLS_UNDER_WAY = Gauge("postrider_dispatcher_calls_under_way", "Calls that have not ended.", ["provider"])
BUFFERED = Gauge("postrider_dispatcher_buffered_texts", "Claimed texts that wait for their call.", ["provider"])
MARK_SECONDS = Histogram("postrider_dispatcher_mark_seconds", "Length of the transaction that marks SUBMITTING.",
                         buckets=_CALL_BUCKETS)  # fmt: skip
SETTLE_SECONDS = Histogram("postrider_dispatcher_settle_seconds", "Length of the transaction that settles.",
                           buckets=_CALL_BUCKETS)  # fmt: skip
SETTLED = Counter("postrider_dispatcher_settled_total", "Messages moved, by new state.", ["state"])
SETTLED_LATE = Counter("postrider_dispatcher_settled_late_total",
                       "Settlements that came after the lease: no row changed.")  # fmt: skip
UNMARKED = Counter("postrider_dispatcher_unmarked_total", "Marked texts whose call did not begin, by why.", ["why"])
BREAKER = Gauge("postrider_dispatcher_breaker_open", "0 closed, 1 half open, 2 open.", ["provider"])
THROTTLED = Gauge("postrider_dispatcher_throttled", "1 while a provider wants no calls for a time.", ["provider"])
RETRIES_LEFT = Gauge("postrider_dispatcher_retries_left",
                     "Calls that a provider may get now for texts refused before; 0: they wait.",
                     ["provider"])  # fmt: skip
UNKNOWN_CODES = Counter("postrider_dispatcher_unknown_codes_total", "Replies and receipts in no table: look into them.",
                        ["provider"])  # fmt: skip
NOT_CLAIMING = Counter("postrider_dispatcher_not_claiming_total",
                       "Times nobody was allowed to claim: definitions not confirmed a moment ago.")  # fmt: skip
DOUBTS = Counter("postrider_dispatcher_doubts_total", "Messages that went in doubt, by how.", ["how"])
LOOK_UPS = Counter("postrider_dispatcher_look_ups_total", "Look-ups, by answer.", ["provider", "answer"])
RESOLVED = Counter("postrider_dispatcher_resolved_total", "Doubts that ended, by how.", ["how"])
RECEIPTS = Counter("postrider_dispatcher_receipts_total", "Receipts, by what came of them.", ["result"])
CALLBACKS_REFUSED = Counter("postrider_dispatcher_callbacks_refused_total", "Callbacks refused, by why.", ["why"])
INBOUND = Counter("postrider_dispatcher_inbound_total", "Inbound texts, by keyword.", ["keyword"])
KEYWORD_REPLIES = Counter("postrider_dispatcher_keyword_replies_total",
                          "Answers to STOP, START and HELP, by what came of them.", ["result"])  # fmt: skip
DOUBLES = Counter("postrider_dispatcher_double_evidence_total",
                  "Evidence that one message was accepted twice: look into it.")  # fmt: skip
PROVIDERS_UNUSABLE = Gauge("postrider_dispatcher_provider_unusable",
                           "1 when a definition cannot be served.", ["provider"])  # fmt: skip
SEALED_TO_PREVIOUS = Gauge("postrider_dispatcher_sealed_to_previous_key",
                           "1 while credentials are sealed to the key before the current one.",
                           ["provider"])  # fmt: skip
FORGOTTEN = Counter("postrider_dispatcher_forgotten_total", "Rows deleted because they are past their retention.",
                    ["table"])  # fmt: skip
PUBLISH_BACKLOG = Gauge("postrider_dispatcher_publish_backlog", "Committed outbox rows not published yet.")

"""Send jobs into the ledger: one statement per batch; a job that is there already changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.message import Queue
from dispatcher.store.rows import CLOCK
from postrider.contracts.ids import former_message_id, message_id
from postrider.contracts.send_jobs import Interval, SendJob

_INSERT = text(f"""
WITH {CLOCK}
INSERT INTO ledger (message_id, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, phone_hash,
    country, variables, variant, message_class, zone, due_at, send_by, allowed, on_hit, queue, next_at, created_at,
    updated_at)
SELECT v.message_id, v.campaign_id, v.run_id, v.occurrence, v.user_id, v.what_version, :lane, v.phone, v.phone_hash,
    v.country, v.variables, v.variant, v.message_class, v.zone, v.due_at, v.send_by,
    CAST(v.allowed AS tstzmultirange), v.on_hit, v.queue, greatest(clock.now, v.due_at),
    clock.now, clock.now
FROM clock, unnest(CAST(:message_ids AS uuid[]), CAST(:campaign_ids AS text[]), CAST(:run_ids AS text[]),
    CAST(:occurrences AS text[]), CAST(:user_ids AS text[]), CAST(:what_versions AS int[]), CAST(:phones AS text[]),
    CAST(:phone_hashes AS bytea[]), CAST(:countries AS text[]), CAST(:variables AS bytea[]),
    CAST(:variants AS text[]), CAST(:message_classes AS text[]), CAST(:zones AS text[]),
    CAST(:due_ats AS timestamptz[]), CAST(:send_bys AS timestamptz[]), CAST(:alloweds AS text[]),
    CAST(:on_hits AS text[]), CAST(:queues AS text[]), CAST(:other_ids AS uuid[]))
    AS v(message_id, campaign_id, run_id, occurrence, user_id, what_version, phone, phone_hash, country, variables,
         variant, message_class, zone, due_at, send_by, allowed, on_hit, queue, other_id)
WHERE CASE WHEN EXISTS (SELECT 1 FROM former_ids)
    THEN NOT EXISTS (SELECT 1 FROM ledger o WHERE o.message_id = v.other_id) ELSE true END
ORDER BY v.message_id
ON CONFLICT (message_id) DO NOTHING
""")

_encoder = msgspec.json.Encoder()


async def insert(tx: AsyncConnection, lane: int, jobs: Sequence[tuple[SendJob, bytes]]) -> tuple[int, set[str]]:
    """Jobs with the HMAC of their phones. Returns how many were new, and the queues of all."""
    others = [_other_id(job) for job, _ in jobs]
    if not {job.message_id for job, _ in jobs}.isdisjoint(others):
        jobs, others = _by_one_id(jobs, others)
    queues = [Queue(job.campaign_id, job.what_version, job.country).name for job, _ in jobs]
    result = await tx.execute(
        _INSERT,
        {
            "lane": lane,
            "message_ids": [job.message_id for job, _ in jobs],
            "campaign_ids": [job.campaign_id for job, _ in jobs],
            "run_ids": [job.run_id for job, _ in jobs],
            "occurrences": [job.occurrence for job, _ in jobs],
            "user_ids": [job.user_id for job, _ in jobs],
            "what_versions": [job.what_version for job, _ in jobs],
            "phones": [job.phone for job, _ in jobs],
            "phone_hashes": [phone_hash for _, phone_hash in jobs],
            "countries": [job.country for job, _ in jobs],
            "variables": [_encoder.encode({"profile": job.profile, "event": job.event}) for job, _ in jobs],
            "variants": [job.variant for job, _ in jobs],
            "message_classes": [job.message_class for job, _ in jobs],
            "zones": [job.zone for job, _ in jobs],
            "due_ats": [job.due_at for job, _ in jobs],
            "send_bys": [job.send_by for job, _ in jobs],
            "alloweds": [_multirange(job.allowed) for job, _ in jobs],
            "on_hits": [job.on_hit for job, _ in jobs],
            "queues": queues,
            "other_ids": others,
        },
    )
    return result.rowcount, set(queues)


def _other_id(job: SendJob) -> str:
    """What the other version calls the same text."""
    former = former_message_id(job.campaign_id, job.occurrence, job.user_id)
    return former if job.message_id != former else message_id(job.campaign_id, job.occurrence, job.user_id)


def _by_one_id(
    jobs: Sequence[tuple[SendJob, bytes]], others: Sequence[str]
) -> tuple[list[tuple[SendJob, bytes]], list[str]]:
    """Of a text that is there under both of its ids the first."""
    seen: set[str] = set()
    kept: list[tuple[SendJob, bytes]] = []
    others_kept: list[str] = []
    for each, other in zip(jobs, others, strict=True):
        if other not in seen:
            seen.add(each[0].message_id)
            kept.append(each)
            others_kept.append(other)
    return kept, others_kept


def _multirange(allowed: Sequence[Interval]) -> str | None:
    """None: any time. An interval that ends before it starts holds no moment."""
    if not allowed:
        return None
    ranges = (f"[{each.start.isoformat()},{each.end.isoformat()})" for each in allowed if each.start < each.end)
    return "{" + ",".join(ranges) + "}"

"""The inbox of receipts: kept before the provider is answered, applied later; a repeat is dropped by its key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.parts import PartReceipt
from dispatcher.providers.base import Receipt
from dispatcher.store.rows import CLOCK

_KEEP = text(f"""
WITH {CLOCK}
INSERT INTO receipts (provider_id, provider_message_id, status, raw_status, code, reference, suppress, is_part,
    received_at, next_at)
SELECT v.provider_id, v.provider_message_id, v.status, v.raw_status, v.code, v.reference, v.suppress, v.is_part,
    clock.now, clock.now
FROM clock, unnest(CAST(:providers AS text[]), CAST(:ids AS text[]), CAST(:statuses AS text[]),
    CAST(:raw_statuses AS text[]), CAST(:codes AS text[]), CAST(:references AS text[]), CAST(:suppress AS text[]),
    CAST(:are_parts AS boolean[]))
    AS v(provider_id, provider_message_id, status, raw_status, code, reference, suppress, is_part)
ORDER BY v.provider_message_id, v.status, v.code
ON CONFLICT DO NOTHING
""")

_DUE = text(f"""
WITH {CLOCK}
SELECT r.id, r.provider_id, r.provider_message_id, r.status, r.code, r.reference, r.suppress, r.is_part,
    r.received_at, clock.now
FROM receipts r, clock WHERE r.next_at <= clock.now ORDER BY r.next_at LIMIT :n FOR UPDATE OF r SKIP LOCKED
""")

_OF_PARTS = text("""
SELECT r.provider_id, r.reference, r.provider_message_id, r.status, r.code
FROM unnest(CAST(:providers AS text[]), CAST(:references AS text[])) AS v(provider_id, reference)
JOIN receipts r ON r.reference = v.reference AND r.provider_id = v.provider_id AND r.is_part
""")

_DONE = text(f"""
WITH {CLOCK}
UPDATE receipts r SET result = v.result,
    next_at = CASE WHEN v.wait IS NULL THEN NULL ELSE clock.now + make_interval(secs => v.wait) END
FROM clock, unnest(CAST(:ids AS bigint[]), CAST(:results AS text[]), CAST(:waits AS float8[]))
    AS v(id, result, wait)
WHERE r.id = v.id
""")


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    id: int
    provider_id: str
    provider_message_id: str
    status: str
    code: str
    reference: str | None
    suppress: str | None
    is_part: bool
    received_at: datetime
    now: datetime


async def keep(tx: AsyncConnection, receipts: Sequence[tuple[str, Receipt]]) -> int:
    """(provider_id, receipt) → how many were new. Postgres takes no NUL, and nobody's id or word has one."""
    result = await tx.execute(
        _KEEP,
        {
            "providers": [provider for provider, _ in receipts],
            "ids": [_clean(each.provider_message_id) for _, each in receipts],
            "statuses": [each.status for _, each in receipts],
            "raw_statuses": [_clean(each.raw_status) for _, each in receipts],
            "codes": [_clean(each.code or "") for _, each in receipts],
            "references": [_clean(each.reference) if each.reference else None for _, each in receipts],
            "suppress": [each.suppress for _, each in receipts],
            "are_parts": [each.is_part for _, each in receipts],
        },
    )
    return result.rowcount


async def due(tx: AsyncConnection, limit: int) -> list[StoredReceipt]:
    """Receipts that are not applied yet, locked."""
    return [StoredReceipt(*row) for row in await tx.execute(_DUE, {"n": limit})]


async def of_parts(tx: AsyncConnection, texts: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[PartReceipt]]:
    """(provider_id, reference) → all that was ever said of the parts of that text."""
    rows = await tx.execute(
        _OF_PARTS, {"providers": [provider for provider, _ in texts], "references": [each for _, each in texts]}
    )
    found: dict[tuple[str, str], list[PartReceipt]] = {}
    for row in rows:
        said = PartReceipt(row.provider_message_id, row.status, row.code)
        found.setdefault((row.provider_id, row.reference), []).append(said)
    return found


async def done(tx: AsyncConnection, results: Mapping[int, tuple[str, float | None]]) -> None:
    """id → (what came of it, seconds until it is tried again or None)."""
    await tx.execute(
        _DONE,
        {
            "ids": list(results),
            "results": [result for result, _ in results.values()],
            "waits": [wait for _, wait in results.values()],
        },
    )


def _clean(text: str) -> str:
    return text.replace("\x00", "")[:200]

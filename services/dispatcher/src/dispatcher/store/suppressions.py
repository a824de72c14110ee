"""Phones that must not be texted. This service is their sole writer; others learn of them by Kafka, as hashes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.store.rows import CLOCK

_SUPPRESS = text(f"""
WITH {CLOCK}
INSERT INTO suppressions AS s (phone_hash, suppressed, version, reason, source, phone, at)
SELECT :phone_hash, true, 1, :reason, :source, :phone, clock.now FROM clock
ON CONFLICT (phone_hash) DO UPDATE SET suppressed = true, version = s.version + 1, reason = excluded.reason,
    source = excluded.source, at = excluded.at, phone = excluded.phone
    WHERE NOT s.suppressed
        OR (s.reason <> excluded.reason AND (s.reason = ANY(CAST(:liftable AS text[]))
                                             OR NOT excluded.reason = ANY(CAST(:liftable AS text[]))))
RETURNING version, reason, source, at
""")

_LIFT = text(f"""
WITH {CLOCK}
UPDATE suppressions s SET suppressed = false, version = s.version + 1, source = :source, at = clock.now
FROM clock WHERE s.phone_hash = :phone_hash AND s.suppressed AND s.reason = ANY(CAST(:reasons AS text[]))
RETURNING version, reason, source, at
""")

_SINCE = text(f"""
WITH {CLOCK}
SELECT s.phone, s.suppressed FROM suppressions s, clock WHERE s.at > clock.now - make_interval(secs => :seconds)
""")

_REASON = text("SELECT reason FROM suppressions WHERE phone_hash = :phone_hash AND suppressed")

_LIST = text("""
SELECT phone, reason, source, at, phone_hash FROM suppressions
WHERE suppressed AND (CAST(:phone AS text) IS NULL OR phone = :phone)
  AND (CAST(:after AS timestamptz) IS NULL OR (at, phone_hash) < (CAST(:after AS timestamptz), CAST(:hash AS bytea)))
ORDER BY at DESC, phone_hash DESC LIMIT :n
""")

_INBOUND = text(f"""
WITH {CLOCK}
INSERT INTO inbound (provider_id, provider_message_id, keyword, received_at)
SELECT :provider_id, :provider_message_id, :keyword, clock.now FROM clock
ON CONFLICT DO NOTHING
""")

OPT_OUTS = ("opted_out", "provider_opt_out")
"""What a person may lift by START; `blocked` and `complaint` are not theirs to lift."""


@dataclass(frozen=True, slots=True)
class Suppression:
    phone_hash: bytes
    suppressed: bool
    version: int
    reason: str
    source: str
    at: datetime


async def suppress(tx: AsyncConnection, phone: str, phone_hash: bytes, reason: str, source: str) -> Suppression | None:
    """None when it is suppressed already for the same reason, or for one that the person cannot lift: an opt-out does
    not take its place, or START would end a block."""
    given = {"phone_hash": phone_hash, "phone": phone, "reason": reason, "source": source, "liftable": list(OPT_OUTS)}
    row = (await tx.execute(_SUPPRESS, given)).first()
    return None if row is None else Suppression(phone_hash, True, row.version, row.reason, row.source, row.at)


async def lift(tx: AsyncConnection, phone_hash: bytes, source: str) -> Suppression | None:
    """Ends an opt-out. None when there is none."""
    row = (await tx.execute(_LIFT, {"phone_hash": phone_hash, "source": source, "reasons": list(OPT_OUTS)})).first()
    return None if row is None else Suppression(phone_hash, False, row.version, row.reason, row.source, row.at)


async def reason_of(tx: AsyncConnection, phone_hash: bytes) -> str | None:
    """Why the phone is suppressed, or None."""
    row = (await tx.execute(_REASON, {"phone_hash": phone_hash})).first()
    return None if row is None else str(row.reason)


async def since(tx: AsyncConnection, seconds: float) -> set[str]:
    """Phones whose suppression is not older than this."""
    return {row.phone for row in await tx.execute(_SINCE, {"seconds": seconds}) if row.suppressed}


async def keep_inbound(tx: AsyncConnection, provider_id: str, provider_message_id: str, keyword: str) -> bool:
    """False when this inbound text was here before. What people write is not kept."""
    result = await tx.execute(
        _INBOUND, {"provider_id": provider_id, "provider_message_id": provider_message_id, "keyword": keyword}
    )
    return result.rowcount == 1


async def listing(
    tx: AsyncConnection, phone: str | None, after: tuple[datetime, bytes] | None, limit: int
) -> list[tuple[str, str, str, datetime, bytes]]:
    """(phone, reason, source, at, phone_hash), newest first, after the given one."""
    at, phone_hash = after if after is not None else (None, None)
    rows = await tx.execute(_LIST, {"phone": phone, "after": at, "hash": phone_hash, "n": limit})
    return [(row.phone, row.reason, row.source, row.at, row.phone_hash) for row in rows]

"""Table `suppressions`: what the dispatcher said of phones, by their keyed hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.suppressions import SuppressionChanged
from postrider.phones import phone_hash
from segment_engine.domain.columns import SuppressionRow

_WRITE = text("""
INSERT INTO suppressions AS s (phone_hash, suppressed, version, reason)
SELECT * FROM unnest(CAST(:hashes AS text[]), CAST(:suppressed AS boolean[]), CAST(:versions AS bigint[]),
                     CAST(:reasons AS text[])) AS v(phone_hash, suppressed, version, reason)
ON CONFLICT (phone_hash) DO UPDATE
SET suppressed = EXCLUDED.suppressed, version = EXCLUDED.version, reason = EXCLUDED.reason
WHERE s.version < EXCLUDED.version
""")
_READ = text("""
SELECT phone_hash, reason FROM suppressions WHERE phone_hash = ANY(CAST(:hashes AS text[])) AND suppressed
""")

_ALL = text("SELECT phone_hash, suppressed, version FROM suppressions ORDER BY phone_hash")


async def everything(tx: AsyncConnection) -> list[SuppressionRow]:
    """All that is known, as it was last said."""
    return [SuppressionRow(row.phone_hash, row.suppressed, row.version) for row in await tx.execute(_ALL)]


async def write(tx: AsyncConnection, changes: Sequence[SuppressionChanged]) -> None:
    """The largest version of a phone wins."""
    newest: dict[str, SuppressionChanged] = {}
    for change in changes:
        known = newest.get(change.phone_hash)
        if known is None or known.version < change.version:
            newest[change.phone_hash] = change
    rows = list(newest.values())
    await tx.execute(
        _WRITE,
        {
            "hashes": [row.phone_hash for row in rows],
            "suppressed": [row.suppressed for row in rows],
            "versions": [row.version for row in rows],
            "reasons": [row.reason for row in rows],
        },
    )


async def reasons(tx: AsyncConnection, phones: Iterable[str], key: bytes) -> dict[str, str]:
    """Phone (E.164) → why it is suppressed, for those of `phones` that are."""
    by_hash = {phone_hash(phone, key): phone for phone in phones}
    if not by_hash:
        return {}
    rows = await tx.execute(_READ, {"hashes": list(by_hash)})
    return {by_hash[row.phone_hash]: row.reason for row in rows}

"""The bucket of parts per second that all replicas share: refilled and drawn in one UPDATE.

The rule is domain/budget.py's: `refill`, then `grant`.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.budget import capacity
from dispatcher.store.rows import CLOCK

_OPEN = text("""
INSERT INTO provider_budget (provider_id, tokens, refilled_at) VALUES (:provider_id, 0, db_now())
ON CONFLICT (provider_id) DO NOTHING
""")

_FULL = """LEAST(CAST(:capacity AS float8),
    b.tokens + CAST(:rate AS float8) * GREATEST(EXTRACT(EPOCH FROM (clock.now - b.refilled_at)), 0))"""
_GRANT = f"""CASE WHEN {_FULL} < LEAST(CAST(:at_least AS float8), CAST(:capacity AS float8)) THEN 0
    ELSE GREATEST(CAST(:at_least AS int), LEAST(CAST(:wanted AS int), CAST(floor({_FULL}) AS int))) END"""

# One plain UPDATE: when another replica drew first, Postgres computes it again on the row as that one left it.
_DRAW = text(f"""
WITH {CLOCK}
UPDATE provider_budget b SET tokens = {_FULL} - {_GRANT}, granted = {_GRANT},
    refilled_at = GREATEST(b.refilled_at, clock.now)
FROM clock WHERE b.provider_id = :provider_id
RETURNING b.granted, b.tokens
""")


async def open_bucket(tx: AsyncConnection, provider_id: str) -> None:
    await tx.execute(_OPEN, {"provider_id": provider_id})


async def draw(
    tx: AsyncConnection, provider_id: str, parts_per_second: float, at_least: int, wanted: int
) -> tuple[int, float]:
    """(parts granted, tokens left). The bucket must be open."""
    row = (
        await tx.execute(
            _DRAW,
            {
                "provider_id": provider_id,
                "capacity": capacity(parts_per_second),
                "rate": parts_per_second,
                "at_least": at_least,
                "wanted": wanted,
            },
        )
    ).one()
    return int(row[0]), float(row[1])

"""Answers to keyword texts: ordered once by the inbound text's key, marked before their one call, never begun again
after a doubt. When one is over, phone, sender and text are forgotten.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.providers.base import Keyword
from dispatcher.store.rows import CLOCK

_LOCK = text("SELECT pg_advisory_xact_lock(77118605, hashtext(:phone))")

_ORDER = text(f"""
WITH {CLOCK}
INSERT INTO keyword_replies (provider_id, inbound_id, reply_id, keyword, phone_hash, phone, sender, body, next_at,
    created_at, updated_at)
SELECT :provider_id, :inbound_id, CAST(:reply_id AS uuid), :keyword, :phone_hash, :phone, :sender, :body, clock.now,
    clock.now, clock.now
FROM clock
WHERE (SELECT count(*) FROM keyword_replies k WHERE k.phone_hash = :phone_hash
       AND k.created_at > clock.now - make_interval(secs => :window)) < :most
ON CONFLICT DO NOTHING
""")

_DUE = text(f"""
WITH {CLOCK}
SELECT k.provider_id, k.inbound_id, k.reply_id, k.keyword, k.phone, k.sender, k.body, k.created_at, clock.now
FROM keyword_replies k, clock WHERE k.next_at <= clock.now AND k.state = 'waiting'
  AND NOT k.provider_id = ANY(CAST(:busy AS text[])) ORDER BY k.next_at LIMIT :n
""")

_MARK = text(f"""
WITH {CLOCK}
UPDATE keyword_replies k SET state = 'calling', owner = :owner, updated_at = clock.now,
    next_at = clock.now + make_interval(secs => :lease)
FROM clock
WHERE k.provider_id = :provider_id AND k.inbound_id = :inbound_id AND k.state = 'waiting' AND k.next_at <= clock.now
RETURNING k.reply_id
""")

_LATER = text(f"""
WITH {CLOCK}
UPDATE keyword_replies k SET state = 'waiting', code = :code, owner = NULL, updated_at = clock.now,
    next_at = clock.now + make_interval(secs => :wait)
FROM clock
WHERE k.provider_id = :provider_id AND k.inbound_id = :inbound_id AND k.state = :from_state
  AND k.owner IS NOT DISTINCT FROM CAST(:owner AS text)
""")

_ABANDON = text(f"""
WITH {CLOCK}
UPDATE keyword_replies k SET state = 'in_doubt', code = 'lease_over', owner = NULL, next_at = NULL, phone = '',
    sender = '', body = '', updated_at = clock.now
FROM clock WHERE k.state = 'calling' AND k.next_at <= clock.now
""")

_END = text(f"""
WITH {CLOCK}
UPDATE keyword_replies k SET state = :state, code = :code, provider_message_id = :provider_message_id, owner = NULL,
    next_at = NULL, phone = '', sender = '', body = '', updated_at = clock.now
FROM clock
WHERE k.provider_id = :provider_id AND k.inbound_id = :inbound_id AND k.state = :from_state
  AND k.owner IS NOT DISTINCT FROM CAST(:owner AS text)
""")


@dataclass(frozen=True, slots=True)
class Heard:
    """A keyword text. `said`: its words. `sender`: the number that was written to; empty: the provider's own."""

    provider_id: str
    inbound_id: str
    keyword: Keyword
    said: str
    phone: str
    phone_hash: bytes
    sender: str


@dataclass(frozen=True, slots=True)
class Reply:
    provider_id: str
    inbound_id: str
    reply_id: uuid.UUID
    keyword: str
    phone: str
    sender: str
    body: str
    created_at: datetime
    now: datetime


async def order(tx: AsyncConnection, heard: Heard, body: str, most: int, window_seconds: float) -> bool:
    """False: there is one for this inbound text, or the phone has had `most` of them in the window. Texts of one phone
    that come at the same moment are counted one after the other."""
    await tx.execute(_LOCK, {"phone": heard.phone_hash.hex()})
    result = await tx.execute(
        _ORDER,
        {
            "provider_id": heard.provider_id, "inbound_id": heard.inbound_id, "reply_id": uuid.uuid4(),
            "keyword": heard.keyword, "phone": heard.phone, "phone_hash": heard.phone_hash,
            "sender": heard.sender.replace("\x00", "")[:64], "body": body, "most": most, "window": window_seconds,
        },
    )  # fmt: skip
    return result.rowcount == 1


async def due(tx: AsyncConnection, limit: int, busy: Sequence[str]) -> list[Reply]:
    """What waits for its call, but of providers whose calls are all taken."""
    return [Reply(*row) for row in await tx.execute(_DUE, {"n": limit, "busy": list(busy)})]


async def mark(tx: AsyncConnection, reply: Reply, owner: str, lease_seconds: float) -> bool:
    """Committed before the first byte goes out. False: somebody else has it. Nothing is asked of suppressions: whether
    this phone may be answered was decided when it was ordered."""
    row = await tx.execute(
        _MARK,
        {"provider_id": reply.provider_id, "inbound_id": reply.inbound_id, "owner": owner, "lease": lease_seconds},
    )
    return row.first() is not None


async def later(tx: AsyncConnection, reply: Reply, owner: str | None, code: str, wait_seconds: float) -> bool:
    """Proven not sent, or not begun. `owner`: of our mark; None: it waits."""
    result = await tx.execute(_LATER, {**_whose(reply, owner), "code": code, "wait": wait_seconds})
    return result.rowcount == 1


async def end(
    tx: AsyncConnection, reply: Reply, owner: str | None, state: str, code: str, provider_message_id: str = ""
) -> bool:
    """False: somebody else's word came first. `owner` as of `later`."""
    result = await tx.execute(
        _END,
        {**_whose(reply, owner), "state": state, "code": code, "provider_message_id": provider_message_id},
    )
    return result.rowcount == 1


async def abandon(tx: AsyncConnection) -> int:
    """Marks whose time is over, by whoever was stopped or killed: what became of the call is not known, and that is the
    end of it."""
    return (await tx.execute(_ABANDON)).rowcount


def _whose(reply: Reply, owner: str | None) -> dict[str, object]:
    return {
        "provider_id": reply.provider_id,
        "inbound_id": reply.inbound_id,
        "owner": owner,
        "from_state": "waiting" if owner is None else "calling",
    }

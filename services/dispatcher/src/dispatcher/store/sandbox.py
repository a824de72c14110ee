"""The texts sandbox providers "delivered", in Postgres: implements the port of providers/sandbox_inbox.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from dispatcher.group_commit import GroupCommit
from dispatcher.providers.sandbox_inbox import InboxUnavailable, SandboxText
from dispatcher.store.rows import CLOCK
from postrider.postgres.database import Database, is_outage

_PUT = text(f"""
WITH {CLOCK}
INSERT INTO sandbox_inbox (provider_id, message_id, attempt, provider_message_id, sent_to, sent_from, body, parts, at)
SELECT v.provider_id, v.message_id, v.attempt, v.provider_message_id, v.sent_to, v.sent_from, v.body, v.parts,
    clock.now
FROM clock, unnest(CAST(:providers AS text[]), CAST(:messages AS uuid[]), CAST(:attempts AS int[]),
    CAST(:ids AS text[]), CAST(:tos AS text[]), CAST(:froms AS text[]), CAST(:bodies AS text[]),
    CAST(:parts AS int[])) AS v(provider_id, message_id, attempt, provider_message_id, sent_to, sent_from, body, parts)
ON CONFLICT (message_id, attempt, provider_id) DO NOTHING
""")

_FIND = text("""
SELECT provider_message_id FROM sandbox_inbox
WHERE message_id = CAST(:message_id AS uuid) AND provider_id = :provider_id ORDER BY id
""")

_LIST = text("""
SELECT s.id, s.sent_to, s.sent_from, s.body, s.provider_id, s.parts, s.at, s.message_id,
    COALESCE(CASE l.campaign_id WHEN 'test' THEN l.run_id ELSE l.campaign_id END, '') AS campaign_id,
    COALESCE(l.user_id, '') AS user_id
FROM sandbox_inbox s LEFT JOIN ledger l ON l.message_id = s.message_id
WHERE (CAST(:phone AS text) IS NULL OR s.sent_to = :phone) AND (CAST(:before AS bigint) IS NULL OR s.id < :before)
ORDER BY s.id DESC LIMIT :n
""")


@dataclass(frozen=True, slots=True)
class InboxText:
    id: int
    to: str
    from_: str
    body: str
    provider_id: str
    parts: int
    at: datetime
    message_id: str
    campaign_id: str
    user_id: str


class PostgresInbox:
    """A put returns after its commit; puts that come together share one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._puts: GroupCommit[SandboxText, str] = GroupCommit(self._write)

    async def put(self, text: SandboxText) -> str:
        try:
            return await self._puts.put(text)
        except Exception as error:
            if not is_outage(error):
                raise
            raise InboxUnavailable from error

    async def find(self, provider_id: str, message_id: str) -> list[str]:
        try:
            async with self._database.begin() as tx:
                rows = await tx.execute(_FIND, {"provider_id": provider_id, "message_id": message_id})
                return [row.provider_message_id for row in rows]
        except Exception as error:
            if not is_outage(error):
                raise
            raise InboxUnavailable from error

    async def listing(self, phone: str | None, before: int | None, limit: int) -> list[InboxText]:
        """Newest first; `before` is the id of the last one seen."""
        async with self._database.begin() as tx:
            rows = await tx.execute(_LIST, {"phone": phone, "before": before, "n": limit})
            return [
                InboxText(
                    row.id, row.sent_to, row.sent_from, row.body, row.provider_id, row.parts, row.at,
                    row.message_id.hex, row.campaign_id, row.user_id,
                )
                for row in rows
            ]  # fmt: skip

    async def _write(self, texts: Sequence[SandboxText]) -> list[str]:
        """The id is a function of the key (providers/sandbox.py), so the first put's id is also this one's."""
        async with self._database.begin() as tx:
            await tx.execute(
                _PUT,
                {
                    "providers": [each.provider_id for each in texts],
                    "messages": [each.message_id for each in texts],
                    "attempts": [each.attempt for each in texts],
                    "ids": [each.provider_message_id for each in texts],
                    "tos": [each.to for each in texts],
                    "froms": [each.from_ for each in texts],
                    "bodies": [each.body for each in texts],
                    "parts": [each.parts for each in texts],
                },
            )
        return [each.provider_message_id for each in texts]

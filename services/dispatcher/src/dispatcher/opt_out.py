"""Opt-outs and other suppressions: written here alone, told to everybody by Kafka, obeyed by the mark of every call."""

from __future__ import annotations

from collections.abc import Callable

from dispatcher import metrics
from dispatcher.announcer import Announcer
from dispatcher.providers.base import InboundText
from dispatcher.replies import Replies
from dispatcher.store import suppressions
from dispatcher.store.replies import Heard
from dispatcher.store.suppressions import Suppression
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from postrider.phones import normalise, phone_hash
from postrider.postgres.database import Database


class OptOut:
    """`on_suppressed` hears the hash of a phone after the commit."""

    def __init__(
        self,
        database: Database,
        announcer: Announcer,
        hash_key: bytes,
        on_suppressed: Callable[[bytes], None],
        replies: Replies,
    ) -> None:
        self._database = database
        self._announcer = announcer
        self._hash_key = hash_key
        self._on_suppressed = on_suppressed
        self._replies = replies

    async def suppress(self, phone: str, reason: str, source: str) -> None:
        """Returns after the commit: from then on no call to this phone begins. `phone` in E.164."""
        hashed = self._hash(phone)
        async with self._database.begin() as tx:
            changed = await suppressions.suppress(tx, phone, hashed, reason, source)
            pending = await self._announcer.add(tx, self._told(changed))
        self._announcer.publish_later(pending)
        if changed is not None:
            self._on_suppressed(hashed)

    async def receive(self, provider_id: str, text: InboundText) -> None:
        """An inbound text: STOP suppresses, START lifts what the person may lift, the rest is counted. A repeat of the
        callback changes nothing, even when the person has changed their mind since."""
        keyword = text.keyword or "none"
        phone = normalise(text.from_).e164
        if phone is None:
            metrics.INBOUND.labels("unreadable_phone").inc()
            log.warning("inbound_phone_unreadable", provider=provider_id)
            return
        hashed = self._hash(phone)
        source = f"inbound:{provider_id}"
        changed: Suppression | None = None
        async with self._database.begin() as tx:
            inbound_id = text.provider_message_id.replace("\x00", "")[:200]
            if await suppressions.keep_inbound(tx, provider_id, inbound_id, keyword):
                metrics.INBOUND.labels(keyword).inc()
                if text.keyword == "stop":
                    changed = await suppressions.suppress(tx, phone, hashed, "opted_out", source)
                elif text.keyword == "start":
                    changed = await suppressions.lift(tx, hashed, source)
                if text.keyword is not None:
                    heard = Heard(provider_id, inbound_id, text.keyword, text.body, phone, hashed, text.to)
                    await self._replies.order(tx, heard, has_changed=changed is not None)
            pending = await self._announcer.add(tx, self._told(changed))
        self._announcer.publish_later(pending)
        self._replies.wake()
        if changed is not None and changed.suppressed:
            self._on_suppressed(hashed)

    def _told(self, changed: Suppression | None) -> list[Outgoing]:
        return [] if changed is None else [self._announcer.suppression(changed)]

    def _hash(self, phone: str) -> bytes:
        return bytes.fromhex(phone_hash(phone, self._hash_key))

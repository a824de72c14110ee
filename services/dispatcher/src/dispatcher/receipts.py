"""Receipts: kept before the provider is answered (`keep`), applied afterwards (`run`), in whatever order they came.

A receipt that comes before our own settlement waits for it. A receipt alone never causes a text to be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import evidence, metrics
from dispatcher.announcer import Announcer
from dispatcher.domain.message import parse_reference, reference
from dispatcher.domain.parts import FURTHEST, PartReceipt, whole_of
from dispatcher.evidence import Evidence
from dispatcher.group_commit import GroupCommit
from dispatcher.providers.base import OPTED_IN, REPLY_ATTEMPT, Receipt
from dispatcher.providers.clevertap_callback import said_of
from dispatcher.replies import Replies
from dispatcher.sending import woken_at
from dispatcher.store import evidence as store
from dispatcher.store import receipts, suppressions
from dispatcher.store.receipts import StoredReceipt
from dispatcher.store.replies import Heard
from postrider.contracts.envelope import Outgoing
from postrider.logs import failure, log
from postrider.phones import phone_hash
from postrider.postgres.database import Database, is_outage

BATCH = 500
PAUSE_SECONDS = 0.25
IDLE_SECONDS = 1.0
"""What another process kept and could not apply is found after this."""
PATIENCE_SECONDS = 600.0
"""How long a receipt that fits no message of ours is tried again."""


class Receipts:
    """A component (`run`)."""

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
        self._kept: GroupCommit[tuple[str, Receipt], None] = GroupCommit(self._keep_all)
        self._wake = asyncio.Event()
        self._has_early = False
        self._batch = BATCH

    async def keep(self, provider_id: str, found: Sequence[Receipt]) -> None:
        """Returns when they are committed. A repeat is not kept twice."""
        await asyncio.gather(*(self._kept.put((provider_id, receipt)) for receipt in found))

    async def _keep_all(self, found: Sequence[tuple[str, Receipt]]) -> list[None]:
        async with self._database.begin() as tx:
            new = await receipts.keep(tx, found)
        metrics.RECEIPTS.labels("kept").inc(new)
        metrics.RECEIPTS.labels("repeated").inc(len(found) - new)
        for provider_id, receipt in found:
            if receipt.status == "unknown":
                metrics.UNKNOWN_CODES.labels(provider_id).inc()
                log.error("unknown_receipt_status", provider=provider_id, status=receipt.raw_status)
        self._wake.set()
        return [None] * len(found)

    def settled(self) -> None:
        """Texts were accepted: receipts that came early, if there are any, may fit now."""
        if self._has_early:
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        with woken_at(stop, self._wake):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if await self._apply_some(self._batch) == self._batch:
                    self._batch = min(self._batch * 2, BATCH)
                    continue
                self._batch = BATCH
            except Exception as error:  # noqa: BLE001  # one receipt that cannot be applied must not end all applying
                if is_outage(error):
                    log.warning("receipts_wait", **failure(error))
                    await asyncio.sleep(0.5)
                else:
                    await self._isolate(error)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PAUSE_SECONDS if self._has_early else IDLE_SECONDS)
            self._wake.clear()

    async def _isolate(self, error: Exception) -> None:
        """Smaller and smaller batches, until it is known which receipt it is: that one is put aside."""
        log.error("receipts_failed", n=self._batch, **failure(error))
        if self._batch > 1:
            self._batch //= 2
            return
        async with self._database.begin() as tx:
            found = {receipt.id: ("failed", None) for receipt in await receipts.due(tx, 1)}
            await receipts.done(tx, found)
        metrics.RECEIPTS.labels("failed").inc(len(found))
        self._batch = BATCH

    async def _apply_some(self, limit: int) -> int:
        """One batch in one transaction: messages, inbox, outbox."""
        suppressed: list[bytes] = []
        async with self._database.begin() as tx:
            due = await receipts.due(tx, limit)
            if not due:
                return 0
            named = await self._name(tx, due)
            ordered = sorted(await self._whole(tx, named), key=lambda pair: FURTHEST[pair[1].status])
            believed = await evidence.believe(tx, self._announcer, [item for _, item in ordered])
            results: dict[int, tuple[str, float | None]] = {}
            for (receipt, _), result in zip(ordered, believed.results, strict=True):
                results[receipt.id] = _verdict(receipt, result)
            for receipt in due:
                results.setdefault(receipt.id, _verdict(receipt, "no_such_message"))
            outgoing = [*believed.outgoing, *await self._suppress(tx, ordered, believed.results, suppressed)]
            await receipts.done(tx, results)
            pending = await self._announcer.add(tx, outgoing)
        self._announcer.publish_later(pending)
        self._replies.wake()
        for hashed in suppressed:
            self._on_suppressed(hashed)
        self._has_early = any(wait is not None for _, wait in results.values())
        for word, _ in results.values():
            metrics.RECEIPTS.labels(word).inc()
        return len(due)

    async def _name(self, tx: AsyncConnection, due: Sequence[StoredReceipt]) -> list[tuple[StoredReceipt, Evidence]]:
        """Which message each speaks of: by the provider's id, or by our reference when that id is new to us."""
        ids = {receipt.id: (receipt.provider_id, receipt.provider_message_id) for receipt in due}
        references = {receipt.id: parse_reference(receipt.reference) for receipt in due}
        known = await store.new_attempts_by_provider_id(tx, list(ids.values()))
        unnamed = [ids[id] for id, named in references.items() if named is None and ids[id] not in known]
        known |= await store.attempts_by_provider_id(tx, unnamed)
        named = []
        for receipt in due:
            found = known.get(ids[receipt.id]) or references[receipt.id]
            if found is not None:
                item = Evidence(*found, receipt.provider_id, receipt.provider_message_id, receipt.status, receipt.code)
                named.append((receipt, item))
        return named

    async def _whole(
        self, tx: AsyncConnection, named: list[tuple[StoredReceipt, Evidence]]
    ) -> list[tuple[StoredReceipt, Evidence]]:
        """What was said of a part, as what all that was said so far means for its text. The text keeps the id that it
        has, or gets the first part's; what is read here holds, for the texts are locked."""
        parts = [item for receipt, item in named if receipt.is_part]
        if not parts:
            return named
        messages = await store.lock(tx, [item.message_id for _, item in named])
        ids = await store.given_ids(tx, [(item.message_id, item.attempt) for item in parts])
        said = await receipts.of_parts(
            tx, {(item.provider_id, reference(item.message_id, item.attempt)) for item in parts}
        )
        wholes = []
        for receipt, item in named:
            message = messages.get(item.message_id)
            if receipt.is_part and message is not None:
                id = ids.setdefault((item.message_id, item.attempt), item.provider_message_id)
                known = said.get((item.provider_id, reference(item.message_id, item.attempt)), [])
                this = PartReceipt(item.provider_message_id, item.status, item.code)
                whole = whole_of([*known, this], message.parts)
                item = replace(item, provider_message_id=id, status=whole.status, code=whole.code)
            wholes.append((receipt, item))
        return wholes

    async def _suppress(
        self,
        tx: AsyncConnection,
        named: Sequence[tuple[StoredReceipt, Evidence]],
        results: Sequence[evidence.Result],
        suppressed: list[bytes],
    ) -> list[Outgoing]:
        """Receipts that say that the person opted out with the provider, or in a reply, or took it back; and replies
        that ask for help."""
        wanted = [
            (receipt, item.message_id)
            for (receipt, item), result in zip(named, results, strict=True)
            if (receipt.suppress is not None or said_of(receipt.code)) and result in ("applied", "nothing_new")
        ]
        if not wanted:
            return []
        outgoing = []
        messages = await store.lock(tx, [message_id for _, message_id in wanted])
        for receipt, message_id in wanted:
            message = messages[message_id]
            hashed = bytes.fromhex(phone_hash(message.phone, self._hash_key))
            source = f"provider:{receipt.provider_id}"
            changed = None
            if receipt.suppress == OPTED_IN:
                changed = await suppressions.lift(tx, hashed, source)
            elif receipt.suppress is not None:
                changed = await suppressions.suppress(tx, message.phone, hashed, receipt.suppress, source)
            if keyword := said_of(receipt.code):
                inbound_id = f"{receipt.reference} {receipt.code}"
                heard = Heard(receipt.provider_id, inbound_id, keyword, keyword, message.phone, hashed, "")
                await self._replies.order(tx, heard, has_changed=changed is not None)
            if changed is not None:
                outgoing.append(self._announcer.suppression(changed))
                if changed.suppressed:
                    suppressed.append(hashed)
        return outgoing


def _verdict(receipt: StoredReceipt, result: evidence.Result) -> tuple[str, float | None]:
    """The inbox's note, and when to try again: soon for a text being settled, for a while for an id not seen yet."""
    if result == "wait":
        return result, PAUSE_SECONDS
    named = parse_reference(receipt.reference)
    if result == "no_such_message" and named is not None and named[1] == REPLY_ATTEMPT:
        return "reply", None
    age = (receipt.now - receipt.received_at).total_seconds()
    if result == "no_such_message" and age < PATIENCE_SECONDS:
        return result, min(max(age, PAUSE_SECONDS), 30.0)
    return result, None

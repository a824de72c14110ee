"""Attempts are kept by the day of their text: which day that is, and that an id is one message's over all days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from dispatcher import evidence
from dispatcher.announcer import Announcer
from dispatcher.domain.ledger import Event, State
from dispatcher.domain.message import Message
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.evidence import Evidence
from dispatcher.store import doubts, marks, settles
from dispatcher.store import evidence as evidence_store
from postrider.postgres.database import open_database
from postrider.postgres.migrate import migrate
from postrider.postgres.outbox import Outbox
from tests.support.dispatching import Stage, pipeline_bench
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
TODAY = datetime.now(UTC).date()
"""Of the run: what comes later, after a midnight too, is at most a day off."""


BEFORE = (
    "DROP TABLE attempts",
    "CREATE TABLE attempts (message_id uuid NOT NULL, attempt integer NOT NULL, provider_id text NOT NULL,"
    " started_at timestamptz NOT NULL, outcome text NOT NULL, code text NOT NULL DEFAULT '', provider_message_id text,"
    " ended_at timestamptz, PRIMARY KEY (message_id, attempt))",
    "INSERT INTO attempts SELECT message_id, 1, 'prv_a', db_now(), 'accepted', '7', message_id::text, marked_at"
    " FROM ledger",
    "DROP INDEX ledger_calling",
    "CREATE INDEX ledger_submitting ON ledger (lease_until) WHERE state = 'SUBMITTING'",
    "DROP TABLE former_ids",
    "UPDATE alembic_version SET version_num = '0006'",
)
"""How the version before kept them."""


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def marked(stage: Stage, days_old: int) -> Message:
    """A text that the ledger got some days ago, in its first call."""
    message = await pipeline_bench(stage).claimed()
    async with stage.database.begin() as tx:
        rendered = marks.Rendered(message.message_id, 0, "Hi", "GSM-7", 1)
        await marks.mark(tx, "me", f"m-{message.message_id}", "prv_a", "", [rendered], 60)
    await stage.execute(
        "UPDATE ledger SET created_at = created_at - make_interval(days => :days)"
        " WHERE message_id = CAST(:id AS uuid)",
        days=days_old, id=message.message_id,
    )  # fmt: skip
    return replace(
        message, state=State.SUBMITTING, attempt=1, owner=f"m-{message.message_id}", provider_id="prv_a",
        marked_at=datetime.now(UTC),
    )  # fmt: skip


async def settle(stage: Stage, message: Message, event: Event, outcome: str, given_id: str | None = None) -> None:
    attempt = Attempt(1, "prv_a", datetime.now(UTC), outcome, "", given_id)
    async with stage.database.begin() as tx:
        settlement = Settlement(message, event, attempt=attempt, provider_message_id=given_id or "")
        written, _ = await settles.settle(tx, [settlement])
    assert len(written) == 1


async def days(stage: Stage) -> dict[str, int]:
    """How many days ago, by message."""
    rows = await stage.rows("SELECT message_id, day FROM attempts")
    return {row.message_id.hex: (TODAY - row.day).days for row in rows}


async def test_the_keys_of_attempts_begin_with_the_day_of_their_text(stage: Stage) -> None:
    """Texts of a day share their pages of the indexes, whatever the ledger remembers of other days."""
    old, new = await marked(stage, 5), await marked(stage, 0)
    await settle(stage, old, Event.ACCEPT, "accepted", "SM-old")
    await settle(stage, new, Event.ACCEPT, "accepted", "SM-new")
    found = await days(stage)
    assert found[old.message_id] - found[new.message_id] == 5
    leading = await stage.rows(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indrelid = CAST('attempts' AS regclass)"
    )
    assert [row.attname for row in leading] == ["day", "day"]
    async with stage.database.begin() as tx:
        history = await settles.history(tx, [old.message_id, new.message_id])
        assert {id: [each.outcome for each in ends] for id, ends in history.items()} == {
            old.message_id: ["accepted"], new.message_id: ["accepted"]
        }  # fmt: skip
        ids = await evidence_store.given_ids(tx, [(old.message_id, 1), (new.message_id, 1)])
        assert ids == {(old.message_id, 1): "SM-old", (new.message_id, 1): "SM-new"}
        named = [("prv_a", "SM-old"), ("prv_a", "SM-new")]
        assert (await evidence_store.new_attempts_by_provider_id(tx, named)) == {named[1]: (new.message_id, 1)}
        assert (await evidence_store.attempts_by_provider_id(tx, named))[named[0]] == (old.message_id, 1)
        assert await doubts.held_by_others(tx, "prv_a", new.message_id, ["SM-old", "SM-new"]) == {"SM-old"}


async def test_an_id_is_claimed_once_though_its_texts_are_of_two_days(stage: Stage) -> None:
    """Two look-ups at the same time: the second waits for the first, and then knows whose the provider's text is."""
    first, second = await marked(stage, 1), await marked(stage, 0)
    for message in (first, second):
        await settle(stage, message, Event.DOUBT, "in_doubt")
    announcer = Announcer(Outbox(stage.database, stage.publisher, "dispatcher", stage.prefix))

    async def claim(message: Message) -> None:
        async with stage.database.begin() as tx:
            found = Evidence(message.message_id, 1, "prv_a", "SM1", "accepted")
            await evidence.believe(tx, announcer, [found], is_guess=True)

    async with stage.database.begin() as tx:
        found = Evidence(first.message_id, 1, "prv_a", "SM1", "accepted")
        assert (await evidence.believe(tx, announcer, [found], is_guess=True)).results == ["applied"]
        claiming = asyncio.create_task(claim(second))

        async def waits_or_is_through() -> bool:
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return claiming.done() or bool(await stage.rows(waiting))

        await eventually(waits_or_is_through)
    with pytest.raises(evidence.Taken):
        await claiming
    with pytest.raises(evidence.Taken):
        await claim(second)
    states = {row.message_id.hex: row.state for row in await stage.rows("SELECT message_id, state FROM ledger")}
    assert states == {first.message_id: "ACCEPTED", second.message_id: "IN_DOUBT"}


async def test_attempts_of_before_are_carried_over(stage: Stage) -> None:
    """As the version before kept them, with the day of the text and not of its call."""
    old, new = await marked(stage, 9), await marked(stage, 0)
    owner = open_database(stage.database_url, "dispatcher", 1)
    async with owner.begin() as tx:
        for statement in BEFORE:
            await tx.execute(text(statement))
    await owner.close()
    await migrate(stage.database_url, "dispatcher", "dispatcher")
    found = await days(stage)
    assert found[old.message_id] - found[new.message_id] == 9
    rows = await stage.rows(
        "SELECT DISTINCT a.attempt, a.provider_id, a.outcome, a.code FROM attempts a JOIN ledger l USING (message_id)"
        " WHERE a.provider_message_id = CAST(a.message_id AS text) AND a.ended_at = l.marked_at"
    )
    assert [tuple(row) for row in rows] == [(1, "prv_a", "accepted", "7")]
    await stage.execute(
        "INSERT INTO attempts (message_id, attempt, provider_id, started_at, outcome)"
        " SELECT message_id, 2, 'prv_a', db_now(), 'accepted' FROM ledger"
    )
    ends = await stage.rows("SELECT TRUE FROM attempts WHERE attempt = 2 AND day >= :today", today=TODAY)
    assert len(ends) == 2, "a dispatcher of the version before can go on"

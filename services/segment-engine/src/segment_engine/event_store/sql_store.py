"""The event store over anything that runs ClickHouse SQL: the port's promises, statement by statement.

Must not know how a statement is carried (chDB, HTTP): that is the `Runner`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from postrider.logs import failure, log
from postrider.rules import Rule, RuleErrors, names_in
from postrider.rules.tree import Filter
from segment_engine.domain.columns import (
    EventRow,
    MessageRow,
    OutcomeRow,
    ProfileRow,
    SuppressionRow,
    microseconds,
    profile_row,
)
from segment_engine.domain.compile_params import render
from segment_engine.domain.compile_rule import Listed, compile_rule
from segment_engine.event_store import dated_events, reach, statements
from segment_engine.event_store.audiences import audience
from segment_engine.event_store.catalog import Catalog
from segment_engine.event_store.listed_names import ListedNames
from segment_engine.event_store.port import (
    NOBODY,
    Activity,
    AudienceMember,
    BestTimes,
    CatalogPage,
    DatedEvent,
    Estimate,
    EvaluationContext,
    LeftOut,
    MessageFilter,
    MessagePage,
    Refill,
    Snapshot,
    StoreDamaged,
    StoreFailed,
    UnexpandedOutcome,
)
from segment_engine.event_store.schema import MIGRATIONS, Migrations

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_FOR_EVER = 2**63 - 1


class Runner(Protocol):
    """Carries statements. Raises `StoreFailed` when one fails, `StoreInUse` from `open`."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def execute(self, sql: str, params: Mapping[str, str] | None = None) -> None: ...

    async def insert(self, sql: str, lines: bytes) -> None:
        """`sql` ends with its FORMAT clause; `lines` is the data."""
        ...

    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]: ...


class SqlEventStore:
    """`port.EventStore` over a `Runner`. `sole`: nobody else writes there."""

    def __init__(self, runner: Runner, migrations: Migrations = MIGRATIONS, *, sole: bool = False) -> None:
        self._runner = runner
        self._migrations = migrations
        self._snapshotting = asyncio.Lock()
        self._catalog = Catalog(runner)
        self._sole = sole
        self._listed = ListedNames()
        self._open = False

    async def open(self) -> None:
        await self._runner.open()
        try:
            await self._migrate()
            if self._sole:
                await self._listed.load(self._runner)
        except StoreFailed:
            await self._runner.close()
            raise
        self._open = True

    async def close(self) -> None:
        if self._open:
            # A part that was cut has been told already, or will be at the next start.
            with contextlib.suppress(StoreDamaged):
                await self._catalogued(self._catalog.flush())
        self._open = False
        await self._runner.close()

    async def insert_events(self, rows: Sequence[EventRow], token: str) -> None:
        self._listed.will_insert_events(rows)
        await self._insert("events", statements.EVENT_COLUMNS, rows, token)
        await self._catalogued(self._catalog.saw_events(rows))

    async def upsert_profiles(self, rows: Sequence[ProfileRow]) -> None:
        self._listed.will_insert_profiles(rows)
        await self._insert("profiles", statements.PROFILE_COLUMNS, rows)
        await self._catalogued(self._catalog.saw_profiles(rows))

    async def upsert_suppressions(self, rows: Sequence[SuppressionRow]) -> None:
        await self._insert("suppressions", statements.SUPPRESSION_COLUMNS, rows)

    async def insert_messages(self, rows: Sequence[MessageRow]) -> None:
        await self._insert("messages", statements.MESSAGE_COLUMNS, rows)

    async def insert_outcomes(self, rows: Sequence[OutcomeRow]) -> None:
        await self._insert("outcomes", statements.OUTCOME_COLUMNS, rows)

    async def add_to_list(self, list_id: str, user_ids: Sequence[str]) -> None:
        rows = [(list_id, user_id) for user_id in user_ids]
        await self._insert("user_list_members", statements.LIST_MEMBER_COLUMNS, rows)

    async def complete_list(self, list_id: str) -> int:
        rows = await self._runner.rows(statements.COUNT_LIST_MEMBERS, {"list_id": render(list_id)})
        members = int(rows[0][0])
        await self._insert("user_lists", statements.LIST_COLUMNS, [(list_id, members)])
        return members

    async def drop_list(self, list_id: str) -> None:
        for statement in (statements.DROP_LIST, statements.DROP_LIST_MEMBERS):
            await self._runner.execute(statement, {"list_id": render(list_id)})

    async def erase(
        self, user_id: str, version: int, *, until: datetime | None = None, texts: Sequence[str] = ()
    ) -> None:
        params = {"user_id": render(user_id), "until": render(_FOR_EVER if until is None else microseconds(until))}
        said = await self._runner.rows(statements.TEXTS_OF, params)
        await self.upsert_profiles([profile_row(user_id, version, {}, deleted=True)])
        for statement in (statements.ERASE_EVENTS, statements.ERASE_OUTCOMES, statements.ERASE_MESSAGES):
            await self._runner.execute(statement, params)
        await self._catalog.forget_examples([*texts, *(text for (text,) in said)])

    async def flush_catalog(self) -> None:
        await self._catalog.flush()
        await self._catalog.prune()

    async def catalog_events(self, prefix: str, after: str, limit: int) -> CatalogPage:
        return await self._catalog.events(prefix, after, limit)

    async def catalog_attributes(self, prefix: str, after: str, limit: int) -> CatalogPage:
        return await self._catalog.attributes(prefix, after, limit)

    async def estimate(
        self,
        rule: Rule,
        context: EvaluationContext,
        *,
        once_per_phone: bool = True,
        sample_size: int = 0,
        people_size: int = 0,
        seed: str = "",
        campaign_id: str = "",
        left_out: LeftOut = NOBODY,
    ) -> Estimate:
        await self._require_lists(rule)
        return await self._evaluated(
            lambda listed: reach.estimate(
                self._runner,
                compile_rule(rule, now=context.now, account_zone=context.account_zone, listed=listed),
                context,
                once_per_phone=once_per_phone,
                sample_size=sample_size,
                people_size=people_size,
                seed=seed,
                campaign_id=campaign_id,
                left_out=left_out,
            )
        )

    async def activity(
        self, event: str, where: Sequence[Filter], since: datetime, context: EvaluationContext
    ) -> Activity:
        return await reach.activity(self._runner, event, where, since, context)

    async def latest_values(
        self,
        event: str,
        where: Sequence[Filter],
        since: datetime,
        context: EvaluationContext,
        user_ids: Sequence[str],
    ) -> dict[str, dict[str, Any]]:
        return await reach.latest_values(self._runner, event, where, since, context, user_ids)

    async def dated_events(
        self, event: str, property: str, since: datetime | None, after: DatedEvent | None, limit: int
    ) -> list[DatedEvent]:
        return await dated_events.page(self._runner, event, property, since, after, limit)

    async def matching(self, rule: Rule, context: EvaluationContext, user_ids: Sequence[str]) -> set[str]:
        if not user_ids:
            return set()
        await self._require_lists(rule)

        async def matched(listed: Listed) -> list[list[Any]]:
            now, zone = context.now, context.account_zone
            compiled = compile_rule(rule, now=now, account_zone=zone, user_ids=user_ids, listed=listed)
            return await self._runner.rows(statements.matching(compiled.sql), compiled.params)

        return {user_id for (user_id,) in await self._evaluated(matched)}

    async def snapshot(
        self,
        run_id: str,
        campaign_id: str,
        occurrence: str,
        seed: int,
        rule: Rule,
        context: EvaluationContext,
        left_out: LeftOut = NOBODY,
        best_times: BestTimes | None = None,
    ) -> Snapshot:
        async with self._snapshotting:
            stored = await self.stored_snapshot(run_id)
            if stored is not None:
                return stored
            zones = await self._audience_zones(run_id)
            if not zones:
                await self._require_lists(rule)
                compiled = compile_rule(rule, now=context.now, account_zone=context.account_zone)
                sql, more = audience(compiled.sql, run_id, campaign_id, context, left_out, best_times)
                params = {
                    **compiled.params,
                    **reach.people_params(context),
                    **more,
                    "run_id": render(run_id),
                    "campaign_id": render(campaign_id),
                    "occurrence": render(occurrence),
                    "seed": render(str(seed)),
                }
                await self._runner.execute(sql, params)
                zones = await self._audience_zones(run_id)
            snapshot = Snapshot(
                total=sum(people for _, people, _ in zones),
                reachable=sum(reachable for _, _, reachable in zones),
                zones={zone: people for zone, people, _ in zones},
            )
            # Also remembers that nobody qualified, which no row of the audience can.
            row = (run_id, snapshot.total, snapshot.reachable, snapshot.zones)
            await self._insert("snapshots", statements.SNAPSHOT_COLUMNS, [row])
            return snapshot

    async def stored_snapshot(self, run_id: str) -> Snapshot | None:
        rows = await self._runner.rows(statements.STORED_SNAPSHOT, {"run_id": render(run_id)})
        return Snapshot(*rows[0]) if rows else None

    async def page(self, run_id: str, zone: str, after_rank: int, limit: int) -> list[AudienceMember]:
        params = {
            "run_id": render(run_id),
            "zone": render(zone),
            "after_rank": render(after_rank),
            "limit": render(limit),
        }
        return [AudienceMember(*row) for row in await self._runner.rows(statements.PAGE, params)]

    async def unexpanded_to_messages(self, outcome: UnexpandedOutcome) -> None:
        if not outcome.expanded:
            return
        params = {
            "run_id": render(outcome.run_id),
            "zones": render(list(outcome.expanded)),
            "expanded": render(list(outcome.expanded.values())),
            "status": render(outcome.status),
            "reason": render(outcome.reason),
            "due_at": render(microseconds(outcome.due_at or outcome.at)),
            "updated_at": render(microseconds(outcome.at)),
            "seq": render(outcome.seq),
        }
        await self._runner.execute(statements.UNEXPANDED, params)

    async def messages(self, where: MessageFilter, cursor: str | None, limit: int) -> MessagePage:
        given = {name: getattr(where, name) for name in statements.MESSAGE_FILTERS}
        params = {name: render(value) for name, value in given.items() if value is not None}
        sql = statements.messages(tuple(params), after=cursor is not None, test=where.test)
        params["limit"] = render(limit + 1)
        if cursor is not None:
            params["after_campaign"], params["after_id"] = map(render, _read_cursor(cursor))
        items = [MessageRow(*row) for row in await self._runner.rows(sql, params)]
        page = items[:limit]
        more = len(items) > limit
        return MessagePage(page, _cursor(page[-1]) if more and page else None)

    async def refill(self) -> Refill | None:
        rows = await self._runner.rows(statements.REFILLS)
        if not rows:
            return None
        return Refill(rows[0][0], rows[0][1], {part: (position, upto) for _, _, part, position, upto in rows})

    async def note_refill(self, refill: Refill) -> None:
        rows = [(refill.source, refill.run, part, *place) for part, place in refill.parts.items()]
        await self._insert("refills", statements.REFILL_COLUMNS, rows)

    async def finish_refill(self) -> None:
        await self._runner.execute(statements.FINISH_REFILL)

    async def kept_after(self, table: str, after: Sequence[Any] | None, limit: int) -> list[list[Any]]:
        kept = statements.KEPT[table]
        params = {"limit": render(limit)}
        if after is not None:
            params |= {f"after_{name}": render(after[kept.columns.index(name)]) for name in kept.key}
        return await self._runner.rows(statements.kept(table, after=after is not None), params)

    async def put_back(self, table: str, rows: Sequence[Sequence[Any]], token: str) -> None:
        await self._insert(table, statements.KEPT[table].columns, [tuple(row) for row in rows], token)

    async def known_runs(self) -> set[str]:
        return {run_id for (run_id,) in await self._runner.rows(statements.KNOWN_RUNS)}

    async def count_events(self, user_id: str | None = None, event: str | None = None) -> int:
        given = {"user_id": user_id, "event": event}
        params = {name: render(value) for name, value in given.items() if value is not None}
        rows = await self._runner.rows(statements.count_events(tuple(params)), params)
        return int(rows[0][0])

    async def events_after(self, after: EventRow | None, limit: int) -> list[EventRow]:
        params = {"limit": render(limit)}
        if after is not None:
            params |= {f"after_{name}": render(getattr(after, name)) for name in statements.EVENT_ORDER}
        rows = await self._runner.rows(statements.events(after=after is not None), params)
        return msgspec.convert(rows, list[EventRow])  # 1 is the number 1.0 again

    async def clear_events(self) -> None:
        await self._runner.execute(statements.CLEAR_EVENTS)
        await self.finish_refill()
        await self._catalog.clear_events()

    async def _migrate(self) -> None:
        """Writes nothing when there is nothing to do: a process must start on a full disk, to say so."""
        if not await self._runner.rows(statements.HAS_SCHEMA_VERSIONS):
            await self._runner.execute(statements.CREATE_SCHEMA_VERSIONS)
        known = {version for (version,) in await self._runner.rows(statements.SCHEMA_VERSIONS)}
        for version in sorted({version for version, _ in self._migrations} - known):
            for statement in (statement for number, statement in self._migrations if number == version):
                await self._runner.execute(statement)
            await self._insert("schema_versions", ("version",), [(version,)])

    async def _evaluated(self, evaluate: Callable[[Listed], Awaitable[T]]) -> T:
        """A list that came under a new name while the statement was on its way may have been read as nothing."""
        grown = self._listed.grown
        found = await evaluate(self._listed.known())
        return found if self._listed.grown == grown else await evaluate(Listed())

    async def _require_lists(self, rule: Rule) -> None:
        """Raises `RuleErrors` unless every user list that the rule names is complete."""
        named = [mention for mention in names_in(rule) if mention.kind == "user_list"]
        if not named:
            return
        params = {"list_ids": render(sorted({mention.id for mention in named}))}
        complete = {list_id for (list_id,) in await self._runner.rows(statements.COMPLETE_LISTS, params)}
        missing = [mention for mention in named if mention.id not in complete]
        if missing:
            raise RuleErrors([(mention.pointer, f"user list {mention.id} is not in the store") for mention in missing])

    async def _catalogued(self, counting: Awaitable[None]) -> None:
        """The rows are stored: what the catalogue cannot write now it keeps, and nobody has to wait for it."""
        try:
            await counting
        except StoreFailed as error:
            log.warning("catalog_waits", **failure(error))

    async def _audience_zones(self, run_id: str) -> list[list[Any]]:
        return await self._runner.rows(statements.AUDIENCE_ZONES, {"run_id": render(run_id)})

    async def _insert(
        self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]], token: str | None = None
    ) -> None:
        if rows:
            await self._runner.insert(statements.insert_rows(table, columns, token), b"\n".join(map(_encode, rows)))


def _cursor(row: MessageRow) -> str:
    return base64.urlsafe_b64encode(_encode([row.campaign_id, row.message_id])).decode()


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=tuple[str, str])
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise ValueError("not a cursor of the message log") from error

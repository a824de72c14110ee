"""The event store over anything that runs ClickHouse SQL: the port's promises, statement by statement.

Must not know how a statement is carried (chDB, HTTP): that is the `Runner`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from postrider.rules import Rule
from segment_engine.domain.columns import (
    EventRow,
    MessageRow,
    ProfileRow,
    SuppressionRow,
    microseconds,
    profile_row,
)
from segment_engine.domain.compile_params import render
from segment_engine.domain.compile_rule import Compiled, compile_rule
from segment_engine.event_store import statements
from segment_engine.event_store.port import (
    AudienceMember,
    Estimate,
    EvaluationContext,
    MessageFilter,
    MessagePage,
    Snapshot,
    StoreFailed,
    UnexpandedOutcome,
)
from segment_engine.event_store.schema import MIGRATIONS

_encode = msgspec.json.Encoder().encode


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
    """`port.EventStore` over a `Runner`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._snapshotting = asyncio.Lock()

    async def open(self) -> None:
        await self._runner.open()
        try:
            await self._migrate()
        except StoreFailed:
            await self._runner.close()
            raise

    async def close(self) -> None:
        await self._runner.close()

    async def insert_events(self, rows: Sequence[EventRow], token: str) -> None:
        await self._insert("events", statements.EVENT_COLUMNS, rows, token)

    async def upsert_profiles(self, rows: Sequence[ProfileRow]) -> None:
        await self._insert("profiles", statements.PROFILE_COLUMNS, rows)

    async def upsert_suppressions(self, rows: Sequence[SuppressionRow]) -> None:
        await self._insert("suppressions", statements.SUPPRESSION_COLUMNS, rows)

    async def insert_messages(self, rows: Sequence[MessageRow]) -> None:
        await self._insert("messages", statements.MESSAGE_COLUMNS, rows)

    async def erase(self, user_id: str, version: int) -> None:
        await self.upsert_profiles([profile_row(user_id, version, {}, deleted=True)])
        await self._runner.execute(statements.ERASE_EVENTS, {"user_id": render(user_id)})

    async def estimate(self, rule: Rule, context: EvaluationContext) -> Estimate:
        compiled = _compile(rule, context)
        rows = await self._runner.rows(
            statements.estimate(compiled.sql), {**compiled.params, **_people_params(context)}
        )
        verdicts: dict[str, int] = {}
        zones: dict[str, int] = {}
        for zone, verdict, n in rows:
            verdicts[verdict] = verdicts.get(verdict, 0) + n
            zones[zone] = zones.get(zone, 0) + n
        return Estimate(
            qualified=sum(verdicts.values()),
            reachable=verdicts.get("", 0),
            unreachable=verdicts.get("unreachable", 0),
            suppressed=verdicts.get("suppressed", 0),
            duplicate_phone=verdicts.get("duplicate_phone", 0),
            zones=zones,
        )

    async def matching(self, rule: Rule, context: EvaluationContext, user_ids: Sequence[str]) -> set[str]:
        if not user_ids:
            return set()
        compiled = compile_rule(rule, now=context.now, account_zone=context.account_zone, user_ids=user_ids)
        rows = await self._runner.rows(statements.matching(compiled.sql), compiled.params)
        return {user_id for (user_id,) in rows}

    async def snapshot(
        self, run_id: str, campaign_id: str, occurrence: str, seed: int, rule: Rule, context: EvaluationContext
    ) -> Snapshot:
        async with self._snapshotting:
            stored = await self.stored_snapshot(run_id)
            if stored is not None:
                return stored
            zones = await self._audience_zones(run_id)
            if not zones:
                compiled = _compile(rule, context)
                params = {
                    **compiled.params,
                    **_people_params(context),
                    "run_id": render(run_id),
                    "campaign_id": render(campaign_id),
                    "occurrence": render(occurrence),
                    "seed": render(str(seed)),
                }
                await self._runner.execute(statements.store_audience(compiled.sql, run_id), params)
                zones = await self._audience_zones(run_id)
            snapshot = Snapshot(
                total=sum(people for _, people, _ in zones),
                reachable=sum(reachable for _, _, reachable in zones),
                zones={zone: people for zone, people, _ in zones},
            )
            # Also remembers that nobody qualified, which no row of the audience can.
            row = (run_id, snapshot.total, snapshot.reachable, snapshot.zones)
            await self._insert("snapshots", ("run_id", "total", "reachable", "zones"), [row])
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
        sql = statements.messages(tuple(params), after=cursor is not None)
        params["limit"] = render(limit + 1)
        if cursor is not None:
            params["after_campaign"], params["after_id"] = map(render, _read_cursor(cursor))
        items = [MessageRow(*row) for row in await self._runner.rows(sql, params)]
        page = items[:limit]
        more = len(items) > limit
        return MessagePage(page, _cursor(page[-1]) if more and page else None)

    async def count_events(self, user_id: str | None = None, event: str | None = None) -> int:
        given = {"user_id": user_id, "event": event}
        params = {name: render(value) for name, value in given.items() if value is not None}
        rows = await self._runner.rows(statements.count_events(tuple(params)), params)
        return int(rows[0][0])

    async def _migrate(self) -> None:
        """Writes nothing when there is nothing to do: a process must start on a full disk, to say so."""
        if not await self._runner.rows(statements.HAS_SCHEMA_VERSIONS):
            await self._runner.execute(statements.CREATE_SCHEMA_VERSIONS)
        known = {version for (version,) in await self._runner.rows(statements.SCHEMA_VERSIONS)}
        for version, statement in MIGRATIONS:
            if version not in known:
                await self._runner.execute(statement)
                await self._insert("schema_versions", ("version",), [(version,)])

    async def _audience_zones(self, run_id: str) -> list[list[Any]]:
        return await self._runner.rows(statements.AUDIENCE_ZONES, {"run_id": render(run_id)})

    async def _insert(
        self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]], token: str | None = None
    ) -> None:
        if rows:
            await self._runner.insert(statements.insert_rows(table, columns, token), b"\n".join(map(_encode, rows)))


def _compile(rule: Rule, context: EvaluationContext) -> Compiled:
    return compile_rule(rule, now=context.now, account_zone=context.account_zone)


def _people_params(context: EvaluationContext) -> dict[str, str]:
    return {
        "countries": render(list(context.country_zones)),
        "country_zones": render(list(context.country_zones.values())),
        "account_zone": render(context.account_zone),
        "consent_default": "false" if context.require_consent else "true",
    }


def _cursor(row: MessageRow) -> str:
    return base64.urlsafe_b64encode(_encode([row.campaign_id, row.message_id])).decode()


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=tuple[str, str])
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise ValueError("not a cursor of the message log") from error

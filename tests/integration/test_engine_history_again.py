"""History from elsewhere: rebuilt from the log or from a file, imported, and shared by two engines on one server."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from postrider.clock import SystemClock
from postrider.contracts.audience import (
    PAGE,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceSnapshotted,
    SnapshotRequested,
    ZoneRequested,
)
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.ids import message_id
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.suppressions import SUPPRESSION_CHANGED, SuppressionChanged
from postrider.contracts.topics import (
    AUDIENCE_REQUESTS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS,
    QUALIFIED_USERS_BULK,
    SUPPRESSIONS,
    USER_EVENTS,
)
from postrider.imports.__main__ import _job, _parser
from postrider.imports.job import run
from postrider.kafka.reread import LogCutOff
from postrider.local.home import Home, HomeLock
from postrider.phones import phone_hash
from postrider.runtime import CannotStart
from segment_engine.event_store.port import StoreInUse
from segment_engine.loops import history
from segment_engine.replay.__main__ import export, replay
from segment_engine.replay.rebuild import NotEmpty
from segment_engine.replay.sources import WrongExport
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.engine_process import EngineProcess
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration
BOUGHT = {"did": {"event": "Bought"}}
TWICE = {"did": {"event": "Bought", "count": {"op": "eq", "value": 2}}}
DEAR = {"did": {"event": "Bought", "where": [{"property": "amount", "op": "gt", "value": 50}]}}
EVERYBODY: dict[str, Any] = {"all": []}


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


async def counts(http: httpx.AsyncClient, *rules: dict[str, Any]) -> list[int]:
    found = []
    for rule in rules:
        answer = await http.post("/internal/estimate", json={"rule": rule})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["qualified"])
    return found


async def reachable(http: httpx.AsyncClient) -> int:
    return int((await http.post("/internal/estimate", json={"rule": EVERYBODY})).json()["reachable"])


async def _past(made: Engine) -> None:
    """Twenty people, ten of whom bought twice; doubles, a wrong partition, a dead letter, a suppressed phone, a text
    in the log, and somebody who was erased."""
    people = [identify(f"u-{n}", f"i-{n}", phone=f"+1555{2000000 + n}") for n in range(20)]
    events = [track(f"u-{n % 20}", f"m-{n}", "Bought", amount=n * 4) for n in range(30)]
    await made.send(*people, *events, *events[:7])
    await made.send({"type": "track", "userId": "u-1", "event": "x" * 600})
    wrong = (made.partition_of("u-2") + 1) % USER_EVENTS.partitions
    await made.send(track("u-2", "m-wrong", "Viewed", tags=["a", "b"]), partition=wrong)
    hashed = phone_hash("+15552000003", made.settings.phone_hash_key_bytes)
    stop = SuppressionChanged(hashed, True, 1, "opted_out", "keyword", SystemClock().now())
    await made.tell(SUPPRESSIONS, hashed, SUPPRESSION_CHANGED, stop)
    now = SystemClock().now()
    id = message_id("cmp_1", "once", "u-4")
    told = MessageChanged(id, "cmp_1", "", "once", "u-4", "delivered", 3, now, now, "+15552000004")
    await made.tell(DELIVERY_EVENTS, "u-4", MESSAGE_CHANGED, told)


async def _fill_list(http: httpx.AsyncClient) -> None:
    lines = b'["u-1","u-2","u-3"]\n3\n'
    assert (await http.put(f"/internal/user-lists/{LIST}", content=lines)).status_code == 200


VIEWED = {"did": {"event": "Viewed", "where": [{"property": "tags", "op": "contains", "value": "b"}]}}
LIST = "lst_" + "0" * 26
LISTED = {"user_list": LIST}
TEXTED = {"messaged": {"campaign_id": "cmp_1", "status": "delivered"}}
RULES = (EVERYBODY, BOUGHT, TWICE, DEAR, VIEWED)
COUNTS = [19, 19, 9, 16, 1]


async def test_a_lost_store_is_rebuilt_from_the_log(made: Engine) -> None:
    await _past(made)
    async with made.running() as http:
        await eventually(lambda: _is(http, TEXTED, 1))
        assert (await http.delete("/internal/profile", params={"user_id": "u-5"})).status_code == 204
        before = await counts(http, *RULES), await reachable(http)
        assert before == (COUNTS, 18)
        with pytest.raises(StoreInUse, match="belongs to process"):
            await replay(made.settings, "kafka", replace=False)
    assert made.settings.event_store_path is not None
    shutil.rmtree(made.settings.event_store_path)
    await made.send(track("u-19", "m-late", "Bought", amount=1), track("u-19", "m-19", "Bought", amount=76))
    await replay(made.settings, "kafka", replace=False)
    async with made.running() as http:
        # u-19 bought once more, after the history group had stopped: that is the service's, once.
        after = await counts(http, *RULES), await reachable(http)
        assert after == ([19, 19, 10, 16, 1], 18)
        await eventually(lambda: _is(http, TEXTED, 1))
    with pytest.raises(NotEmpty, match="--replace"):
        await replay(made.settings, "kafka", replace=False)
    await replay(made.settings, "kafka", replace=True)
    async with made.running() as http:
        assert await counts(http, *RULES) == [19, 19, 10, 16, 1]


async def _catalog(http: httpx.AsyncClient) -> dict[str, int]:
    items = (await http.get("/internal/catalog/events")).json()["items"]
    return {item["name"]: item["count"] for item in items}


async def _pages_to_the_last(made: Engine) -> list[AudiencePage]:
    pages = await made.published(QUALIFIED_USERS_BULK, PAGE, AudiencePage)
    return pages if pages and pages[-1].last else []


async def _is(http: httpx.AsyncClient, rule: dict[str, Any], n: int) -> bool:
    return await counts(http, rule) == [n]


async def test_an_export_fills_another_store_with_the_same_history(made: Engine, tmp_path: Path) -> None:
    await _past(made)
    asked = SnapshotRequested("run_1", "cmp_1", "once", 7, SystemClock().now(), rule=BOUGHT)
    await made.tell(AUDIENCE_REQUESTS, "run_1", SNAPSHOT_REQUESTED, asked)
    async with made.running() as http:
        assert await counts(http, *RULES) == [20, 20, 10, 17, 1]
        await eventually(lambda: _is(http, TEXTED, 1))
        await _fill_list(http)
        (fixed,) = await eventually(lambda: made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted))
        names = await _catalog(http)
        assert names["Bought"] == 30
    file = tmp_path / "events.jsonl.gz"
    await export(made.settings, file)
    assert file.stat().st_mode & 0o077 == 0
    moved = made.settings.model_copy(update={"event_store_path": tmp_path / "other"})
    await replay(moved, f"file={file}", replace=False)
    await replay(moved, f"file={file}", replace=True)  # again, over what is there
    made.settings = moved
    (zone,) = fixed.zones
    await made.tell(AUDIENCE_REQUESTS, "run_1", ZONE_REQUESTED, ZoneRequested("run_1", "cmp_1", "once", zone, 1, [], 9))
    async with made.running() as http:
        assert await counts(http, *RULES) == [20, 20, 10, 17, 1]
        assert await counts(http, TEXTED, LISTED) == [1, 3]
        assert await reachable(http) == 19
        assert await _catalog(http) == names
        pages = await eventually(lambda: _pages_to_the_last(made))
    # The audience that was fixed goes on in the other store, everybody once.
    assert [user.rank for page in pages for user in page.users] == list(range(20))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"postrider":"events","version":1}\n["u-1"]\n')
    with pytest.raises(WrongExport, match="line 2"):
        await replay(moved, f"file={broken}", replace=True)


async def test_a_log_that_has_lost_records_is_told_and_not_waited_for(made: Engine) -> None:
    await made.send(track("u-1", "m-1", "Bought"))
    async with made.running() as http:
        assert await counts(http, BOUGHT) == [1]
    async with made.database.begin() as tx:
        forward = "UPDATE consumer_progress SET next_offset = next_offset + 5 WHERE consumer_group = :group"
        await tx.execute(text(forward), {"group": history.GROUP})
    with pytest.raises(LogCutOff, match="there should be records up to"):
        await replay(made.settings, "kafka", replace=True)


@pytest.mark.parametrize("source", ["kafka", "file"])
async def test_a_replay_that_is_killed_goes_on_and_stores_everything_once(
    made: Engine, tmp_path: Path, source: str
) -> None:
    chance = random.Random(20261125)
    count, users = 90_000, 300
    times = count // users
    if source == "kafka":
        async with made.running() as http:
            for start in range(0, count, 10_000):
                await made.send(*(track(f"u-{n % users}", f"m-{n}", "Bought") for n in range(start, start + 10_000)))
            await eventually(
                lambda: _is(http, {"did": {"event": "Bought", "count": {"op": "eq", "value": times}}}, users), 60
            )
        assert made.settings.event_store_path is not None
        shutil.rmtree(made.settings.event_store_path)
    else:
        await made.send(*(identify(f"u-{n}", f"i-{n}") for n in range(users)))
        source = f"file={tmp_path / 'published.jsonl'}"
        lines = (
            {**track(f"u-{n % users}", f"m-{n}", "Bought"), "timestamp": "2026-01-05T10:00:00Z"} for n in range(count)
        )
        (tmp_path / "published.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        async with made.running():
            pass
    said = ""
    for turn in range(4):
        process = await _replaying(made, source)
        if turn == 0:
            await eventually(functools.partial(_has_stored, made), 30)
        else:
            await asyncio.sleep(chance.uniform(0.7, 2.5))
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        output, _ = await process.communicate()
        said += output.decode()
        if process.returncode == 0:
            break
        with pytest.raises(CannotStart, match="half a history"):
            async with made.running():
                pass
    else:
        process = await _replaying(made, source)
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        said += output.decode()
    assert "going on with the replay" in said
    async with made.running() as http:
        exactly = {"did": {"event": "Bought", "count": {"op": "eq", "value": times}}}
        assert await counts(http, exactly, BOUGHT) == [users, users]
        assert count <= (await _catalog(http))["Bought"] <= count + 20_000  # a kill may count one chunk twice


async def _replaying(made: Engine, source: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "segment_engine.replay", "--from", source, env=EngineProcess(made).environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def _has_stored(made: Engine) -> bool:
    """Some of the events are on the disk, by their size."""
    assert made.settings.event_store_path is not None
    files = made.settings.event_store_path.glob("chdb/store/*/*/all_*/*")
    return sum(file.stat().st_size for file in files if file.exists()) > 200_000


async def test_published_messages_kept_in_a_file_are_a_history_too(made: Engine, tmp_path: Path) -> None:
    event = {**track("u-1", "m-1", "Bought", amount=60), "timestamp": "2026-01-05T10:00:00Z"}
    lines = [event, event, identify("u-2", "i-2"), {**event, "messageId": "m-2"}, {"type": "track"}]
    undated = track("u-1", "m-3", "Bought")
    file = tmp_path / "published.jsonl"
    file.write_text("\n".join(map(json.dumps, [*lines, undated])) + "\n")
    await made.send(identify("u-1", "i-1"))
    async with made.running() as http:
        assert await counts(http, BOUGHT) == [0]
    await replay(made.settings, f"file={file}", replace=False)
    async with made.running() as http:
        assert await counts(http, BOUGHT, TWICE) == [1, 1]


async def test_the_commands_of_make_find_the_parts_and_the_store(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": await fresh_database(),
        "POSTRIDER_TOPIC_PREFIX": topic_prefix + ".",
        "POSTRIDER_HOME": str(tmp_path / "home"),
    }

    async def command(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "postrider.local.replay", *arguments, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    file = tmp_path / "events.jsonl"
    event = {**track("u-1", "m-1", "Bought"), "timestamp": "2026-01-05T10:00:00Z"}
    file.write_text(json.dumps(event) + "\n")
    code, output = await command("--from", f"file={file}")
    assert (code, "1 events stored" in output) == (0, True), output
    code, output = await command("--from", "kafka")
    assert (code, "--replace deletes" in output) == (1, True), output
    code, output = await command("--to", str(tmp_path / "out.jsonl"))
    assert (code, "1 events" in output) == (0, True), output
    with HomeLock(Home(tmp_path / "home")):
        code, output = await command("--from", "kafka")
    assert code == 1
    assert output.startswith("error: ")


async def test_an_import_counts_for_segments_and_fires_nothing(made: Engine, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    rows = [f"u-{n % 50},2026-01-0{n % 9 + 1},{n},Pune" for n in range(400)]
    path.write_text("customer,day,amount,city\n" + "\n".join(rows) + "\n")
    arguments = [str(path), "--user", "customer", "--time", "day", "--event-name", "Bought", "--number", "amount"]
    job = _job(_parser().parse_args([*arguments, "--rate", "0"]), USER_EVENTS.full_name(made.config.topic_prefix))
    await made.define(live_campaign("Bought"))
    async with made.running() as http:
        state = await run(job, made.publisher.publish, SystemClock())
        assert (state.accepted, state.rejected) == (400, 0)
        eight = {"did": {"event": "Bought", "count": {"op": "eq", "value": 8}}}
        spring = {"did": {"event": "Bought", "window": {"between": ["2026-01-01", "2026-01-31"]}}}
        assert await counts(http, EVERYBODY, eight, spring) == [50, 50, 50]
        # A second run from the first row doubles nothing.
        again = _job(_parser().parse_args([*arguments, "--restart"]), USER_EVENTS.full_name(made.config.topic_prefix))
        await run(again, made.publisher.publish, SystemClock())
        assert await counts(http, eight) == [50]
        await made.send(track("u-1", "m-now", "Bought", amount=1))
        qualified = await eventually(lambda: _qualified(made))
    assert [(user.user_id, user.occurrence) for user in qualified] == [("u-1", "m-now")]


async def _qualified(made: Engine) -> list[QualifiedUser]:
    return await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)


async def test_two_engines_share_a_clickhouse_server_and_one_takes_over(made: Engine, tmp_path: Path) -> None:
    events = [track(f"u-{n % 40}", f"m-{n}", "Bought", amount=n) for n in range(400)]
    ten = {"did": {"event": "Bought", "count": {"op": "eq", "value": 10}}}
    async with ClickHouse(tmp_path / "server").serving() as server:
        made.settings = made.settings.model_copy(
            update={
                "event_store_path": None,
                "clickhouse_url": server.url,
                "clickhouse_user": USER,
                "clickhouse_password": SecretStr(PASSWORD),
            }
        )
        await made.define(live_campaign("Bought"))
        async with made.running() as first:
            async with made.running() as second:
                for start in range(0, 200, 40):
                    await made.send(*events[start : start + 40])
                server.faults += [("INSERT INTO events", "cut after"), ("INSERT INTO events", "busy")]
                answers = await asyncio.gather(counts(first, EVERYBODY), counts(second, EVERYBODY))
                assert list(answers) == [[40], [40]]
                five = {"did": {"event": "Bought", "count": {"op": "eq", "value": 5}}}
                assert await counts(second, five) == [40]
            await made.send(*events[200:], *events[:100])
            assert await counts(first, ten) == [40]
        assert server.faults == []
        async with made.running() as third:
            assert await counts(third, ten) == [40]
    qualified = await _qualified(made)
    assert {(user.user_id, user.occurrence) for user in qualified} == {(e["userId"], e["messageId"]) for e in events}

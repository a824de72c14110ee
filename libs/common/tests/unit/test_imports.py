"""Imports: what a row becomes, what is refused and where that is written, and that a second run goes on."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from postrider.clock import FakeClock
from postrider.contracts.envelope import Outgoing
from postrider.contracts.user_events import Ignored, UserEvent, parse_bytes
from postrider.imports.__main__ import _job, _parser
from postrider.imports.job import Job, run
from postrider.imports.mapping import Columns, RowRefused, message_of
from postrider.imports.progress import ProgressBar, State
from postrider.imports.reading import Source, WrongFile, format_of

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CSV = """customer,day,amount,first,note
c-1,1997-01-12,11.77,yes,
c-2,1997-01-13,12,no,"two
lines"
c-3,1997-01-13,nan,no,bad number
c-4,sometime,1,no,bad time
c-5,1997-01-14,89.00,no,"quo""te"
"""
ARGUMENTS = [
    "--user", "customer", "--event-name", "Order Completed", "--time", "day", "--number", "amount", "--bool", "first",
]  # fmt: skip


class Topic:
    """A broker that fails from the `fails_at`-th call on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.records: list[Outgoing] = []
        self.calls = 0
        self.fails_at = fails_at

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.calls += 1
        if self.fails_at is not None and self.calls >= self.fails_at:
            raise OSError("away")
        self.records += records

    @property
    def events(self) -> list[UserEvent]:
        found = [parse_bytes(record.value, NOW) for record in self.records]
        return [event for event in found if isinstance(event, UserEvent)]


def job_of(path: Path, *arguments: str) -> Job:
    return _job(_parser().parse_args([str(path), *arguments]), "t")


async def import_(path: Path, topic: Topic, *arguments: str, chunk_rows: int = 5_000) -> State:
    job = replace(job_of(path, *arguments, "--rate", "0"), chunk_rows=chunk_rows)
    return await run(job, topic.publish, FakeClock(NOW))


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def rejects(path: Path) -> list[dict[str, Any]]:
    lines = path.with_name(path.name + ".rejects.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def test_a_csv_file_becomes_historic_events(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(CSV)
    topic = Topic()
    state = await import_(path, topic, *ARGUMENTS)
    assert (state.accepted, state.rejected, state.done) == (3, 2, True)
    first, second, third = topic.events
    assert first.historic
    assert first.at == datetime(1997, 1, 12, tzinfo=UTC)
    assert (first.user_id, first.event, first.values) == ("c-1", "Order Completed", {"amount": 11.77, "first": True})
    assert second.values == {"amount": 12, "first": False, "note": "two\nlines"}
    assert third.values["note"] == 'quo"te'
    assert [record.key for record in topic.records] == [b"c-1", b"c-2", b"c-5"]
    refused = rejects(path)
    assert [(each["line"], each["reason"]) for each in refused] == [
        (5, "column amount: not a number"), (6, "/timestamp: must be an RFC 3339 time")
    ]  # fmt: skip
    assert refused[0]["row"] == "c-3,1997-01-13,nan,no,bad number"
    assert path.with_name("orders.csv.rejects.jsonl").stat().st_mode & 0o077 == 0


async def test_rows_that_look_alike_are_different_events_and_a_second_run_names_them_the_same(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("userId,event,timestamp\nu,E,2026-01-01\nu,E,2026-01-01\n")
    first, again = Topic(), Topic()
    await import_(path, first)
    await import_(path, again, "--restart")
    names = [event.message_id for event in first.events]
    assert len(set(names)) == 2
    assert [event.message_id for event in again.events] == names


async def test_json_lines_in_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    lines: list[Any] = [
        {"type": "track", "userId": "a", "event": "E", "messageId": "m-1", "timestamp": "2026-01-01T00:00:00Z",
         "properties": {"amount": 1, "tags": ["x"]}},
        {"type": "identify", "userId": "a", "traits": {"phone": "+12025550142"}},
        {"user_id": "b", "event": "F", "timestamp": "2026-01-02T00:00:00Z", "amount": 2.5, "gone": None},
        {"anonymousId": "x", "event": "F", "timestamp": "2026-01-02T00:00:00Z"},
        {"user_id": "c", "event": "F"},
        ["no object"],
        {"type": "track", "event": "F", "anonymousId": "x", "properties": {}, "timestamp": "2026-01-02T00:00:00Z"},
    ]  # fmt: skip
    body = "\n".join(map(json.dumps, lines)) + "\n{broken\n\n"
    path.write_bytes(gzip.compress(body.encode()))
    topic = Topic()
    state = await import_(path, topic)
    track, identify, flat = topic.events
    assert (track.message_id, track.values, track.historic) == ("m-1", {"amount": 1, "tags": ["x"]}, True)
    assert (identify.type, identify.values) == ("identify", {"phone": "+12025550142"})
    assert (flat.user_id, flat.event, flat.values) == ("b", "F", {"amount": 2.5})
    assert state.ignored == 1
    assert [(each["line"], each["reason"].split(":")[0]) for each in rejects(path)] == [
        (4, "/userId"), (5, "no time"), (6, "not a JSON object"), (8, "not JSON")
    ]  # fmt: skip


async def test_a_run_that_died_goes_on_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    rows = [f"u-{n},E,{'never' if n % 7 == 0 else '2026-01-01'}" for n in range(95)]
    path.write_text("userId,event,timestamp\n" + "\n".join(rows) + "\n")
    wanted = [f"u-{n}" for n in range(95) if n % 7]
    whole = Topic()
    for fails_at in (1, 3, 4, 2, None):
        topic = Topic(fails_at)
        try:
            state = await import_(path, topic, chunk_rows=10)
        except OSError:
            whole.records += topic.records
            continue
        whole.records += topic.records
    assert state.done
    assert state.accepted == len(wanted)
    assert sorted({event.message_id: event.user_id for event in whole.events}.values()) == sorted(wanted)
    assert [each["line"] for each in rejects(path)] == [n + 2 for n in range(95) if n % 7 == 0]
    assert len(whole.records) < 2 * len(wanted)  # it did go on, and did not begin anew
    nothing = Topic()
    await import_(path, nothing)
    assert nothing.calls == 0


async def test_a_file_that_has_grown_goes_on_and_another_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("userId,event,timestamp\na,E,2026-01-01\n")
    await import_(path, Topic())
    path.write_text(path.read_text() + "b,E,2026-01-01\n")
    topic = Topic()
    await import_(path, topic)
    assert [event.user_id for event in topic.events] == ["b"]
    path.write_text("userId,event,timestamp\nz,E,2026-01-01\ny,E,2026-01-01\nx,E,2026-01-01\n")
    with pytest.raises(WrongFile, match="another file"):
        await import_(path, Topic())
    with pytest.raises(WrongFile, match=r"another file|other arguments"):
        await import_(path, Topic(), "--event-name", "F")
    topic = Topic()
    await import_(path, topic, "--restart")
    assert len(topic.events) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("userId,event,timestamp\nu,E\n", "2 cells, the header has 3"),
        ("userId,event,timestamp\nu\udcff,E,2026-01-01\n", "not UTF-8"),
        ('userId,event,timestamp\n"u"x,E,2026-01-01\n', "not CSV"),
        ("userId,event,timestamp\n" + "u" * 257 + ",E,2026-01-01\n", "/userId: is longer"),
        ("userId,event,timestamp,p\nu,E,2026-01-01," + "x" * 513 + "\n", "/properties/p: is longer"),
        ("userId,event,timestamp\nu,E,\n", "no time"),
        (
            'userId,event,timestamp\nu,"E\nE"x,2026-01-01\n',
            "not CSV: ',' expected after '\"', in a row that begins at line 2",
        ),
        ("userId,event,timestamp\n,E,2026-01-01\n", "/userId"),
    ],
)
async def test_a_bad_row_is_refused_and_the_next_one_follows(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(
        (text + "good,E,2026-01-01" + "," * (text.splitlines()[0].count(",") - 2) + "\n").encode(
            "utf-8", "surrogateescape"
        )
    )
    topic = Topic()
    await import_(path, topic)
    assert [event.user_id for event in topic.events] == ["good"]
    [refused] = rejects(path)
    assert refused["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "first line"), ("a,,b\n", "every column"), ("a,b,a\n", "once")],
)
def test_a_file_without_names_is_refused_as_a_whole(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text)
    with pytest.raises(WrongFile, match=message):
        with closing(Source(path, "csv")) as source:
            list(source.rows())


@pytest.mark.parametrize(
    ("header", "arguments", "message"),
    [
        ("userId,event,timestamp", ["--user", "custmer"], "no column custmer: the file has userId, event, timestamp"),
        ("userId,event,timestamp", ["--number", "amount,timestamp"], "no column amount"),
        ("userId,event,timestamp", ["--only", "color", "--rename", "size=s"], "no column color, size"),
        ("customer,event,timestamp", [], "no column userId or user_id: say --user"),
        ("userId,event,day", [], "no column timestamp or originalTimestamp: say --time"),
        ("userId,what,timestamp", [], "no column event: say --event or --event-name"),
        ("customer,name", ["--type", "identify"], "say --user"),
    ],
)
async def test_columns_that_are_not_there_are_told_before_every_row_is_refused(
    tmp_path: Path, header: str, arguments: list[str], message: str
) -> None:
    path = tmp_path / "events.csv"
    path.write_text(f"{header}\na,b,2026-01-01\n")
    with pytest.raises(WrongFile, match=message):
        await import_(path, Topic(), *arguments)
    assert names_in(tmp_path) == ["events.csv"]


def test_what_is_no_gzip_and_what_has_no_known_name_is_said(tmp_path: Path) -> None:
    path = tmp_path / "events.csv.gz"
    path.write_bytes(b"plain")
    with pytest.raises(WrongFile, match="gzip"):
        with closing(Source(path, "csv")) as source:
            list(source.rows())
    with pytest.raises(WrongFile, match="--format"):
        format_of(tmp_path / "events.parquet")


@pytest.mark.parametrize(
    ("format", "zone", "cell", "at"),
    [
        ("iso", ZoneInfo("Asia/Kolkata"), "2026-01-01T05:30", datetime(2026, 1, 1, tzinfo=UTC)),
        ("iso", ZoneInfo("Asia/Kolkata"), "2026-01-01T05:30Z", datetime(2026, 1, 1, 5, 30, tzinfo=UTC)),
        ("seconds", UTC, "852076800", datetime(1997, 1, 1, tzinfo=UTC)),
        ("milliseconds", UTC, 852076800123, datetime(1997, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ("%d/%m/%Y", ZoneInfo("Europe/Paris"), "01/07/2026", datetime(2026, 6, 30, 22, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_told(format: str, zone: Any, cell: Any, at: datetime) -> None:
    columns = Columns("s", time="t", time_format=format, time_zone=zone)
    message = message_of({"userId": "u", "event": "E", "t": cell}, 1, b"", columns, NOW)
    assert not isinstance(message, Ignored)
    event = parse_bytes(message.value, NOW)
    assert isinstance(event, UserEvent)
    assert event.at == at
    with pytest.raises(RowRefused, match="time"):
        message_of({"userId": "u", "event": "E", "t": "nonsense"}, 1, b"", columns, NOW)


def test_the_bar_tells_share_and_speed_on_a_terminal_and_lines_in_a_log() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    screen, log = Terminal(), io.StringIO()
    bars = [ProgressBar("f", 200, out=out, monotonic=clock) for out in (screen, log)]
    for done in range(0, 201, 10):
        now[0] = done / 10
        for bar in bars:
            bar.show(done, done * 5, last=done == 200)
    assert "[###############...............]  50% 500 rows, 50/s, 10 s left" in screen.getvalue()
    assert screen.getvalue().endswith("100% 1,000 rows, 50/s   \n")
    assert len(log.getvalue().splitlines()) == 2

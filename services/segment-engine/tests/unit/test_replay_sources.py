"""Histories from files: exports as they are, published messages once each, however often the file has to be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segment_engine.domain.columns import EventRow, split
from segment_engine.replay.export import HEADER
from segment_engine.replay.sources import CHUNK, FIRST_HEADER, Seen, WrongExport, from_file

KEY = b"k" * 16


def track(n: int, **more: Any) -> dict[str, Any]:
    event = {"type": "track", "userId": f"u-{n % 3}", "messageId": f"m-{n}", "event": "E"}
    return {**event, "timestamp": "2026-01-05T10:00:00Z", "properties": {"n": n}, **more}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("max_seen", [1_000, 40, 7])
def test_published_messages_are_stored_once_each(tmp_path: Path, max_seen: int) -> None:
    path = write(tmp_path / "e.jsonl", [track(n % 60) for n in range(100)])
    chunks = list(from_file(path, Seen(KEY), max_seen))
    rows = [row for chunk in chunks for row in chunk.rows]
    assert sorted(row.message_id for row in rows) == sorted(f"m-{n}" for n in range(60))
    assert {row.received_at for row in rows} == {row.at for row in rows}
    assert [chunk.done for chunk in chunks] == sorted(chunk.done for chunk in chunks)
    assert chunks[-1].done == path.stat().st_size


@pytest.mark.parametrize("max_seen", [1_000, 3])
def test_what_is_no_event_of_the_history_is_skipped_and_counted_once(tmp_path: Path, max_seen: int) -> None:
    lines = [
        track(1), {"type": "identify", "userId": "u", "traits": {}}, "text", track(2, timestamp=None),
        track(3, userId=None), {**track(4), "event": ""},
    ]  # fmt: skip
    path = write(tmp_path / "e.jsonl", lines)
    chunks = list(from_file(path, Seen(KEY), max_seen))
    assert [row.message_id for chunk in chunks for row in chunk.rows] == ["m-1"]
    assert sum(chunk.skipped for chunk in chunks) == 5


def test_one_messageId_of_two_people_is_two_messages_and_lines_without_one_are_their_own(tmp_path: Path) -> None:
    twins = [track(1, userId="a"), track(1, userId="b"), track(9, messageId=None), track(9, messageId=None)]
    path = write(tmp_path / "e.jsonl", twins)
    [chunk] = from_file(path, Seen(KEY))
    assert [row.message_id for row in chunk.rows] == ["m-1", "m-1", "e.jsonl-3", "e.jsonl-4"]


def test_an_export_comes_back_as_it_was_written(tmp_path: Path) -> None:
    values = {"s": "x", "n": 1, "b": True, "d": "2026-03-05", "l": ["x", 2, False, "2026-03-05"], "o": {}}
    rows = [EventRow("u", "E", n, n + 1, f"m-{n}", *split(values)) for n in range(5)]
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    path = tmp_path / "e.jsonl.gz"
    for body in (FIRST_HEADER + b"\n" + lines, HEADER + b"\n" + lines + b'{"rows":5}\n'):
        path.write_bytes(gzip.compress(body))
        assert [row for chunk in from_file(path, Seen(KEY)) for row in chunk.rows] == rows
    path.write_bytes(gzip.compress(FIRST_HEADER + b"\n" + lines + b'["u"]\n'))
    with pytest.raises(WrongExport, match="line 7"):
        list(from_file(path, Seen(KEY)))


def test_an_export_brings_rows_of_other_tables_in_chunks_that_are_the_same_every_time(tmp_path: Path) -> None:
    members = [["lst_1", f"u-{n:06}"] for n in range(CHUNK + 5)]
    path = tmp_path / "e.jsonl"
    marks = [{"table": "user_list_members"}, *members, {"table": "user_lists"}, ["lst_1", 9], {"rows": CHUNK + 6}]
    path.write_bytes(HEADER + b"\n" + b"".join(msgspec.json.encode(line) + b"\n" for line in marks))
    chunks = [(chunk.table, len(chunk.others)) for chunk in from_file(path, Seen(KEY))]
    assert [chunk for chunk in chunks if chunk[1]] == [
        ("user_list_members", CHUNK), ("user_list_members", 5), ("user_lists", 1)
    ]  # fmt: skip
    assert chunks == [(chunk.table, len(chunk.others)) for chunk in from_file(path, Seen(KEY))]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['["u","E",1,2,"m",{},{},{},{},{},[]]'], "its end is missing"),
        (['{"rows":1}'], "its end is missing"),
        (['{"table":"passwords"}', '["x"]', '{"rows":1}'], "line 3"),
        (['{"table":"user_lists"}', '["x"]', '{"rows":1}'], "line 3"),
    ],
)
def test_an_export_that_was_cut_or_changed_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(HEADER + b"\n" + "\n".join(lines).encode() + b"\n")
    with pytest.raises(WrongExport, match=message):
        list(from_file(path, Seen(KEY)))
    whole = tmp_path / "e.jsonl.gz"
    whole.write_bytes(gzip.compress(path.read_bytes())[:-6])
    with pytest.raises(WrongExport, match="cut off"):
        list(from_file(whole, Seen(KEY)))

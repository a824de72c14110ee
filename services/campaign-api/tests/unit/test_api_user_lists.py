"""Uploaded lists of user ids: lines, headers, spellings, limits, and the line that is wrong."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_api.domain.user_lists import MAX_IDS, BadLine, ListReader, TooLarge

CSV, JSON_LINES = "text/csv", "application/x-ndjson"


def read(media_type: str, body: bytes, size: int = 7) -> list[str]:
    """In small pieces, so that lines and letters are cut in two."""
    reader = ListReader(media_type)
    ids = [id for start in range(0, len(body), size) for id in reader.feed(body[start : start + size])]
    ids += reader.end()
    assert reader.count == len(ids)
    return ids


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ("u-1\nu-2\n", ["u-1", "u-2"]),
        ("u-1\r\nu-2", ["u-1", "u-2"]),
        ("user_id\nu-1\n", ["u-1"]),
        ('"user_id"\nu-1\n', ["u-1"]),
        ("\ufeffuserId\nu-1\n", ["u-1"]),
        ("\n\nuser_id\nuser_id\n", ["user_id"]),
        ("u-1\nuser_id\n", ["u-1", "user_id"]),
        (" u-1 \nU-1\n", [" u-1 ", "U-1"]),
        ('"a,b"\n"say ""hi"""\n', ["a,b", 'say "hi"']),
        ("é🙂\nnull\n10\n", ["é🙂", "null", "10"]),
        ("x" * 256, ["x" * 256]),
    ],
)
def test_csv_is_one_column_with_or_without_its_header(body: str, ids: list[str]) -> None:
    assert read(CSV, body.encode()) == ids


@pytest.mark.parametrize(
    ("media_type", "body", "line", "reason"),
    [
        (CSV, b"", 1, "no user id"),
        (CSV, b"user_id\n", 2, "no user id"),
        (CSV, b"u-1\n\nu-2,Ada\n", 3, "has 2 columns"),
        (CSV, b"u-1,\n", 1, "has 2 columns"),
        (CSV, b'u-1\n""\n', 2, "is empty"),
        (CSV, b'u-1\n"open\nu-3"\n', 2, "quotation mark"),
        (CSV, b'"a"b\n', 1, "quotation mark"),
        (CSV, b"u-1\n\xff\n", 2, "not UTF-8"),
        (CSV, b"u\x00\n", 1, "NUL"),
        (CSV, b"x" * 257, 1, "longer than 256 characters"),
        (CSV, b"u-1\n" + b"x" * 5_000, 2, "longer than 4096 bytes"),
        (CSV, b"u-1\n" + b"x" * 5_000 + b"\n", 2, "longer than 4096 bytes"),
        (JSON_LINES, b'{"user_id":"u-1"}\n{"user_id":5}\n', 2, "Expected `str`"),
        (JSON_LINES, b'{"user_id":"u-1","name":"Ada"}\n', 1, "unknown field `name`"),
        (JSON_LINES, b"{}\n", 1, "missing required field `user_id`"),
        (JSON_LINES, b'{"user_id":"u-1"}\n["u-2"]\n', 2, "Expected `object`"),
        (JSON_LINES, b'{"user_id":"u-1"}\nu-2\n', 2, "malformed"),
        (JSON_LINES, b'{"user_id":""}\n', 1, "is empty"),
        (JSON_LINES, b'{"user_id":"a\\u0000"}\n', 1, "NUL"),
        (JSON_LINES, b'{"user_id":"\\ud800"}\n', 1, "must be"),
        (JSON_LINES, b'{"user_id":"\xff"}\n', 1, "UTF-8"),
        (JSON_LINES, b'{"user_id":' + b"[" * 4_000 + b"\n", 1, "must be"),
        (JSON_LINES, b"\n\n", 3, "no user id"),
    ],
)
def test_a_line_that_is_wrong_is_named(media_type: str, body: bytes, line: int, reason: str) -> None:
    with pytest.raises(BadLine, match=reason) as error:
        read(media_type, body, size=64)
    assert error.value.line == line
    assert str(error.value).startswith(f"line {line}: ")


def test_a_list_has_a_million_ids_and_no_more() -> None:
    chunk = b"".join(b"%d\n" % n for n in range(10_000))
    reader = ListReader(CSV)
    for _ in range(MAX_IDS // 10_000):
        assert len(reader.feed(chunk)) == 10_000
    with pytest.raises(BadLine, match="at most 1000000 ids") as error:
        reader.feed(b"one more\n")
    assert error.value.line == MAX_IDS + 1


def test_empty_lines_without_end_are_too_large() -> None:
    reader = ListReader(JSON_LINES)
    chunk = b"\n" * (1 << 20)
    with pytest.raises(TooLarge):
        for _ in range(513):
            reader.feed(chunk)


def test_no_more_than_a_chunk_is_kept() -> None:
    chunk = b"".join(b'{"user_id":"user-%d"}\n' % n for n in range(2_000))
    reader = ListReader(JSON_LINES)
    reader.feed(chunk)
    tracemalloc.start()
    for _ in range(50):
        reader.feed(chunk)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * len(chunk)


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r\n"), min_size=1, max_size=20),
        min_size=1,
    ),
    size=st.integers(1, 50),
)
def test_whatever_ids_there_are_they_come_out_as_they_went_in(ids: list[str], size: int) -> None:
    quoted = "".join('"' + id.replace('"', '""') + '"\n' for id in ["user_id", *ids])
    assert read(CSV, quoted.encode(), size) == ids
    lines = "\n".join(json.dumps({"user_id": id}) for id in ids)
    assert read(JSON_LINES, lines.encode(), size) == ids

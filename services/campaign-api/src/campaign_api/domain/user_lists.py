"""An uploaded list of user ids, read as it comes: bytes in, ids out, a line that is wrong named by its number.

Pure, and never holds more than a chunk and a line. Ids are taken exactly, spaces and case included (rules.md T8).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

MAX_IDS: Final = 1_000_000
MAX_ID_CHARACTERS: Final = 256
"""As of a userId in events."""
MAX_LINE_BYTES: Final = 4_096
"""An id of 256 characters fits, each written as two escapes of JSON."""
MAX_BODY_BYTES: Final = 512 * 1024 * 1024
CSV: Final = "text/csv"
JSON_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
MEDIA_TYPES: Final = (CSV, *JSON_LINES)
_HEADERS: Final = frozenset({"user_id", "userId"})
_BOM: Final = b"\xef\xbb\xbf"
_NEXT: Final = re.compile(rb"(?:\n++|\r\n)*+([^\n]*)\n?")
"""Empty lines, however many, and the one behind them: a body of nothing else costs no more than its bytes."""


class BadLine(ValueError):
    """`line` is counted from 1, as editors do."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class TooLarge(ValueError):
    """The whole is larger than a list may be."""


class _Member(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str


class ListReader:
    """`media_type` is one of `MEDIA_TYPES`. After an error it is of no more use."""

    def __init__(self, media_type: str) -> None:
        self._read: Callable[[bytes], str] = _csv_id if media_type == CSV else _json_id
        self._has_header = media_type == CSV
        self._rest = b""
        self._line = 0
        self._bytes = 0
        self.count = 0
        """Ids so far, repeats included."""

    def feed(self, chunk: bytes) -> list[str]:
        """The ids of the lines that this chunk completes. Raises `BadLine`, `TooLarge`."""
        self._bytes += len(chunk)
        if self._bytes > MAX_BODY_BYTES:
            raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
        lines, end, rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = rest
        ids = list(self._ids(lines + end))
        if len(self._rest) > MAX_LINE_BYTES:
            raise BadLine(self._line + 1, f"is longer than {MAX_LINE_BYTES} bytes")
        return ids

    def end(self) -> list[str]:
        """The ids of a last line without an end. Raises `BadLine`, also when there was no id at all."""
        rest, self._rest = self._rest, b""
        ids = list(self._ids(rest or b"\n"))  # an empty one counts, too
        if self.count == 0:
            raise BadLine(max(self._line, 1), "there is no user id")
        return ids

    def _ids(self, lines: bytes) -> Iterator[str]:
        for found in _NEXT.finditer(lines):
            begin, end = found.span(1)
            self._line += lines.count(b"\n", found.start(), begin)
            if begin == end:  # the end
                continue
            self._line += 1
            line = found[1]
            if self._line == 1:
                line = line.removeprefix(_BOM)
            line = line.removesuffix(b"\r")
            if not line:
                continue
            if len(line) > MAX_LINE_BYTES:
                raise BadLine(self._line, f"is longer than {MAX_LINE_BYTES} bytes")
            try:
                id = self._read(line)
                if self._has_header and self.count == 0 and id in _HEADERS:
                    self._has_header = False
                    continue
                _check(id)
            except ValueError as error:
                raise BadLine(self._line, str(error)) from error
            self.count += 1
            if self.count > MAX_IDS:
                raise BadLine(self._line, f"a list has at most {MAX_IDS} ids")
            yield id


def _check(id: str) -> None:
    if not id:
        raise ValueError("the user id is empty")
    if len(id) > MAX_ID_CHARACTERS:
        raise ValueError(f"the user id is longer than {MAX_ID_CHARACTERS} characters")
    if "\x00" in id:
        raise ValueError("the user id contains NUL")


def _csv_id(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    if '"' not in text and "," not in text:
        return text
    try:
        (row,) = csv.reader([text], strict=True)
    except csv.Error as error:
        raise ValueError("a quotation mark is not closed, or not at an end of the value") from error
    if len(row) != 1:
        raise ValueError(f"has {len(row)} columns: one is needed, user_id (quote an id with a comma)")
    return row[0]


_decode = msgspec.json.Decoder(_Member).decode


def _json_id(line: bytes) -> str:
    try:
        return _decode(line).user_id
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, msgspec.DecodeError) else "is not UTF-8"
        raise ValueError(f'must be {{"user_id": "…"}}: {reason}') from error
    except RecursionError as error:
        raise ValueError("is nested too deep") from error

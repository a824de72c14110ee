"""Rows of a CSV or JSON lines file with their line numbers, one at a time, whatever the file holds.

A row that cannot be read is told as such and the next one follows. Must not hold more than one row.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import msgspec

Format: TypeAlias = Literal["csv", "jsonl"]

MAX_LINE_BYTES = 1024 * 1024
_FINGERPRINT_BYTES = 1024 * 1024
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
_decode = msgspec.json.Decoder().decode


class WrongFile(Exception):
    """The file as a whole cannot be imported."""


@dataclass(frozen=True, slots=True)
class Line:
    """`number`: the line of the file at which the row ends. `values` None: it could not be read, `problem` says why."""

    number: int
    raw: bytes
    values: dict[str, Any] | None
    problem: str = ""


def format_of(path: Path) -> Format:
    """Raises `WrongFile`."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    found = _SUFFIXES.get(name.suffix.lower())
    if found is None:
        raise WrongFile(f"{path.name}: say --format csv or --format jsonl")
    return found


def fingerprint(path: Path, size: int) -> str:
    """Tells another file of the same name. `size` is what the file had: one that has only grown is the same."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(min(size, _FINGERPRINT_BYTES))).hexdigest()


class Source:
    """An open file. `position` is the byte of the file (compressed, if it is) that was read last: for progress. `check`
    says what is wrong with the columns of a CSV file, or nothing."""

    def __init__(
        self, path: Path, format: Format, check: Callable[[Sequence[str]], str | None] = lambda columns: None
    ) -> None:
        self._format = format
        self._check = check
        self.size = path.stat().st_size
        self._file = path.open("rb")
        self._text: BinaryIO = self._file
        if path.suffix == ".gz":
            self._text = cast("BinaryIO", gzip.GzipFile(fileobj=self._file))
        self._line = 0

    @property
    def position(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._text.close()
        self._file.close()

    def rows(self) -> Iterator[Line]:
        """Raises `WrongFile` for a CSV file without a header, and for what is no gzip."""
        try:
            yield from self._csv() if self._format == "csv" else self._json_lines()
        except (EOFError, gzip.BadGzipFile) as error:
            raise WrongFile(f"not gzip, or cut off: {error}") from error

    def _lines(self) -> Iterator[bytes]:
        """Without the byte order mark. A line that is too long is cut: it is told by its length."""
        while line := self._text.readline(MAX_LINE_BYTES + 1):
            rest = line
            while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
                rest = self._text.readline(MAX_LINE_BYTES + 1)
            self._line += 1
            yield line.removeprefix(b"\xef\xbb\xbf") if self._line == 1 else line

    def _json_lines(self) -> Iterator[Line]:
        for raw in self._lines():
            if not raw.strip():
                continue
            if len(raw) > MAX_LINE_BYTES:
                yield Line(self._line, raw[:200], None, f"longer than {MAX_LINE_BYTES} bytes")
                continue
            try:
                values = _decode(raw)
            except (msgspec.DecodeError, RecursionError, UnicodeError):
                yield Line(self._line, raw, None, "not JSON")
                continue
            if isinstance(values, dict):
                yield Line(self._line, raw, values)
            else:
                yield Line(self._line, raw, None, "not a JSON object")

    def _csv(self) -> Iterator[Line]:
        seen: list[bytes] = []

        def texts() -> Iterator[str]:
            for raw in self._lines():
                seen.append(raw)
                yield raw.decode("utf-8", "surrogateescape")

        reader = csv.reader(texts(), strict=True)
        header: list[str] | None = None
        while True:
            seen.clear()
            begins = self._line + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                where = f", in a row that begins at line {begins}" if self._line > begins else ""
                yield Line(self._line, b"".join(seen)[:MAX_LINE_BYTES], None, f"not CSV: {error}{where}")
                continue
            if header is None:
                header = self._header(cells)
                continue
            if not cells:
                continue
            raw = b"".join(seen)
            if len(cells) == len(header):
                yield Line(self._line, raw, dict(zip(header, cells, strict=True)))
            else:
                yield Line(self._line, raw, None, f"{len(cells)} cells, the header has {len(header)}")
        if header is None:
            raise WrongFile("empty: the first line of a CSV file names its columns")

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        if len(set(names)) < len(names) or "" in names:
            raise WrongFile("the first line must name every column, each name once")
        wrong = self._check(names)
        if wrong is not None:
            raise WrongFile(wrong)
        return names

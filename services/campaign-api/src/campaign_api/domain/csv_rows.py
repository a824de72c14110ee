"""The message log as CSV: one header, one line a message, safe to open in a spreadsheet.

A cell that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, "CSV Injection"); phone numbers in
E.164 stay as they are, since a plus and digits are a number and nothing else.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

COLUMNS: Final = (
    "id", "campaign_id", "run_id", "occurrence", "user_id", "phone", "status", "reason", "variant", "body", "parts",
    "provider_id", "attempts", "due_at", "updated_at", "test",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_PHONE: Final = re.compile(r"\+[0-9]{1,15}")


def header() -> str:
    return _lines([COLUMNS])


def rows(messages: Iterable[Mapping[str, Any]]) -> str:
    return _lines([_cell(message, column) for column in COLUMNS] for message in messages)


def _cell(message: Mapping[str, Any], column: str) -> str:
    value = message.get(column)
    if column == "attempts":
        return str(len(value or ()))
    if value is None:
        return ""
    text = str(value)
    if text.startswith(_FORMULA) and not _PHONE.fullmatch(text):
        return "'" + text
    return text


def _lines(lines: Iterable[Iterable[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(lines)
    return out.getvalue()

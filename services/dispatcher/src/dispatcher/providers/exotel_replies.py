"""What Exotel's replies hold, in each of the shapes its pages show, and which entry of a batch speaks of which text.

Shapes: JSON `{"SMSMessage": {…}}` or `{"RestException": {…}}`; the same as XML inside `TwilioResponse`; a list of
these (HTTP 207); `{"SMSMessages": [{…}]}`; `{"response": {"sms": [{…}]}}`. Pure; must not decide what a code means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from dispatcher.providers.base import OutgoingText
from dispatcher.providers.replies import json_of

MIN_DIGITS_TO_MATCH = 8
"""A number written without country code names a text by its last digits; fewer would name anybody."""
_MESSAGES = ("SMSMessage", "SMSMessages", "sms")
_ERROR = "RestException"
_ENVELOPES = ("TwilioResponse", "response")
_SID = re.compile(r"[0-9A-Za-z_-]{2,64}")
_CODE = re.compile(r"[0-9A-Za-z_]{1,40}")
_DEEPEST = 6
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One message or one error of a reply. `http`: the status that it names itself. What is not said is None."""

    sid: str | None = None
    to: str | None = None
    status: str | None = None
    detailed: str | None = None
    reference: str | None = None
    is_error: bool = False
    http: int | None = None
    code: str | None = None


def entries_of(body: bytes) -> list[Entry]:
    """In the order of the reply; empty when it is in none of the shapes."""
    return list(_entries(_xml_of(body) if body.lstrip()[:1] == b"<" else json_of(body), None, 0))


def _entries(value: Any, name: str | None, depth: int) -> Iterator[Entry]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for each in value:
            yield from _entries(each, name, depth + 1)
    elif isinstance(value, dict):
        inner = [key for key in (*_ENVELOPES, *_MESSAGES, _ERROR) if isinstance(value.get(key), (dict, list))]
        for key in inner:
            yield from _entries(value[key], None if key in _ENVELOPES else key, depth + 1)
        if not inner and name is not None:
            yield _entry(value, is_error=name == _ERROR)


def _entry(value: dict[str, Any], *, is_error: bool) -> Entry:
    if is_error:
        code = _text(value.get("Code"))
        return Entry(is_error=True, http=_number(value.get("Status")), code=code if _is(_CODE, code) else None)
    sid = _text(value.get("Sid"))
    return Entry(
        sid=sid if _is(_SID, sid) else None,
        to=_text(value.get("To")),
        status=_text(value.get("Status")),
        detailed=_text(value.get("DetailedStatus")),
        reference=_text(value.get("CustomField")),
        http=_number(value.get("StatusCode")),
    )


def assign(entries: Sequence[Entry], texts: Sequence[OutgoingText]) -> list[Entry | None]:
    """The entry of each text, or None. An entry names its text by our reference or by a number that only one of them
    ends with; one that names none counts by its position, if the others prove that the order is ours. Two entries that
    name one text prove nothing.
    """
    named = [_named(entry, texts) for entry in entries]
    in_our_order = all(index in (None, position) for position, index in enumerate(named))
    if in_our_order and len(entries) == len(texts) and any(index is not None for index in named):
        return list(entries)
    found: list[Entry | None] = [None] * len(texts)
    for entry, index in zip(entries, named, strict=True):
        if index not in (None, _NOBODY) and named.count(index) == 1:
            found[index] = entry
    return found


def _named(entry: Entry, texts: Sequence[OutgoingText]) -> int | None:
    """The text's index; None when the entry does not tell one from another, `_NOBODY` when it names none of ours."""
    for index, text in enumerate(texts):
        if entry.reference is not None and entry.reference == text.reference:
            return index
    digits = re.sub(r"[^0-9]", "", entry.to or "").lstrip("0")
    if len(digits) < MIN_DIGITS_TO_MATCH:
        return None
    alike = [index for index, text in enumerate(texts) if text.to.endswith(digits)]
    if not alike:
        return _NOBODY
    return alike[0] if len(alike) == 1 else None


def _xml_of(body: bytes) -> Any:
    """As JSON would have it: an element with children is an object, one with messages a list. A document type is
    refused: entities that grow have no place in a reply."""
    try:
        text = body.decode()
        if "<!" in text:
            return None
        return {(root := ElementTree.fromstring(text)).tag: _element(root)}
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None


def _element(element: ElementTree.Element) -> Any:
    if len(element) == 0:
        return (element.text or "").strip()
    if any(child.tag in (*_MESSAGES, _ERROR) for child in element):
        return [{child.tag: _element(child)} for child in element]  # their order tells which is which
    return {child.tag: _element(child) for child in element}


def _is(pattern: re.Pattern[str], text: str | None) -> bool:
    return text is not None and pattern.fullmatch(text) is not None


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and value and value != "null" else None


def _number(value: object) -> int | None:
    text = _text(value)
    return int(text) if text is not None and re.fullmatch(r"[0-9]{3}", text) else None

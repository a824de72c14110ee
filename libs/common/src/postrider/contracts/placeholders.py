"""Placeholders of generic providers: `$$To` and its like, and what may be told from where they stand.

Pure. A placeholder is `$$` and a name, exact and case-sensitive; `$$` before anything but a letter is just text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

SYSTEM = ("To", "Body", "TemplateID", "TemplateVariables", "CampaignID", "MessageID")
"""What the platform fills in by itself; every other name is a custom replacement."""
PER_PERSON = frozenset({"To", "Body", "TemplateVariables", "MessageID"})
"""Of these each text has its own; the others are one for the campaign."""

PairClass = Literal["message", "header", "global"]
CLASSES: tuple[PairClass, ...] = ("message", "header", "global")

NAME = r"[A-Za-z][A-Za-z0-9_]{0,63}"
_PLACEHOLDER = re.compile(r"\$\$([A-Za-z][A-Za-z0-9_]*)")


class Slot(NamedTuple):
    """A placeholder in a text."""

    name: str


def pieces(text: str) -> tuple[str | Slot, ...]:
    """The text taken apart; what stands between placeholders stays as it is."""
    found: list[str | Slot] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        if match.start() > end:
            found.append(text[end : match.start()])
        found.append(Slot(match[1]))
        end = match.end()
    if end < len(text):
        found.append(text[end:])
    return tuple(found)


def names_in(text: str) -> list[str]:
    return [match[1] for match in _PLACEHOLDER.finditer(text)]


def names_in_document(document: Any) -> Iterator[str]:
    """Those in the texts of a JSON document, in its order; not those in keys, which may have none."""
    if isinstance(document, str):
        yield from names_in(document)
    elif isinstance(document, dict):
        for value in document.values():
            yield from names_in_document(value)
    elif isinstance(document, list):
        for value in document:
            yield from names_in_document(value)

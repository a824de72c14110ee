"""What the reply of a generic provider means, as its configuration says: by HTTP status, a code, a message id, and of a
batch by the record of each text. Pure; the dispatcher reads replies by these rules.

A place in a reply is a JSON pointer (`/data/id`) or a pattern: text with one `*` for the value, such as
`<MID>*</MID>`. No regular expressions: one that a user wrote could keep the process busy for hours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from postrider.contracts.problems import Reader

OUTCOMES: Mapping[str, str] = {
    "accepted": "accepted",
    "rejected_recipient": "rejected_recipient",
    "rejected: recipient": "rejected_recipient",
    "opted_out": "opted_out",
    "rejected_content": "rejected_content",
    "rejected: content": "rejected_content",
    "rejected_provider": "rejected_provider",
    "rejected: provider": "rejected_provider",
    "rejected_later": "rejected_later",
    "rejected: later": "rejected_later",
    "in_doubt": "in_doubt",
}
"""The outcome table, and `opted_out`: rejected_recipient that suppresses the number."""
_ONE_OF = ", ".join(dict.fromkeys(OUTCOMES.values()))

ALWAYS_IN_DOUBT = (500, 502, 504)
"""After these nobody knows whether the text was processed, whatever else the reply says."""

MAX_CODES = 500
MAX_PLACES = 5
Match = Literal["reference", "to", "position"]


@dataclass(frozen=True, slots=True)
class Place:
    """Steps of a JSON pointer (none: the whole), or what stands before and after the value."""

    steps: tuple[str, ...] = ()
    around: tuple[str, str] | None = None


Places = tuple[Place, ...]
"""The first of them where there is something counts."""


@dataclass(frozen=True, slots=True)
class Records:
    """A reply to a batch that names each text. `array`: where they are; the other places are inside a record.

    `match`: what a record is found by: our `$$MessageID`, the number, or the order of the request.
    """

    array: Places
    match: Match
    key: Places
    message_id: Places
    error_code: Places


@dataclass(frozen=True, slots=True)
class ReplyRules:
    """`statuses` and `codes`: outcome by HTTP status and by error code, in the spelling that is kept."""

    statuses: Mapping[int, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)
    message_id: Places = ()
    error_code: Places = ()
    records: Records | None = None


def read_reply(fields: Reader | None, *, batching: bool, has_reference: bool) -> ReplyRules:
    """The rules; what is wrong with them goes into the reader's problems."""
    if fields is None:
        return ReplyRules()
    rules = ReplyRules(
        statuses=_statuses(fields),
        codes=_codes(fields),
        message_id=_places(fields, "message_id"),
        error_code=_places(fields, "error_code"),
        records=_records(fields, batching=batching, has_reference=has_reference),
    )
    if rules.codes and not rules.error_code and (rules.records is None or not rules.records.error_code):
        fields.wrong("error_code", "is required with codes: where the code is")
    fields.done("reply")
    return rules


def _statuses(fields: Reader) -> dict[int, str]:
    found: dict[int, str] = {}
    for name, value in fields.texts("statuses", most=100, longest=32).items():
        outcome = OUTCOMES.get(value)
        if not re.fullmatch(r"[2-5][0-9][0-9]", name):
            fields.wrong_in("statuses", name, "must be an HTTP status from 200 to 599")
        elif outcome is None:
            fields.wrong_in("statuses", name, f"must be one of: {_ONE_OF}")
        elif int(name) in ALWAYS_IN_DOUBT:
            fields.wrong_in("statuses", name, "always leaves the text in doubt: it may have been processed")
        elif outcome == "accepted" and not name.startswith("2"):
            fields.wrong_in("statuses", name, "only a 2xx can mean accepted")
        elif name == "503" and outcome != "in_doubt":
            fields.wrong_in("statuses", name, "is rejected_later with a Retry-After or by a code only; else in doubt")
        else:
            found[int(name)] = outcome
    return found


def _codes(fields: Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    for code, value in fields.texts("codes", most=MAX_CODES, longest=32).items():
        outcome = OUTCOMES.get(value)
        if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?", code):
            fields.wrong_in("codes", code, "a code is 1 to 64 printable characters")
        elif outcome is None:
            fields.wrong_in("codes", code, f"must be one of: {_ONE_OF}")
        else:
            found[code] = outcome
    return found


def _records(fields: Reader, *, batching: bool, has_reference: bool) -> Records | None:
    given = fields.object("records")
    if given is None:
        return None
    if not batching:
        fields.wrong("records", "is for batches: there is no batch")
    array = _places(given, "list", required=True, pointer_only=True)
    match = given.choice("match", {"reference": "reference", "to": "to", "position": "position"}, "reference")
    key = _places(given, "key", required=match != "position", pointer_only=True)
    if match == "reference" and not has_reference:
        given.wrong("match", "by reference needs $$MessageID in the configuration")
    if match == "position" and key:
        given.wrong("key", "not with match by position")
    records = Records(
        array=array,
        match=match,  # type: ignore[arg-type]
        key=key,
        message_id=_places(given, "message_id", pointer_only=True),
        error_code=_places(given, "error_code", pointer_only=True),
    )
    given.done("reply.records")
    return records


def _places(fields: Reader, name: str, *, required: bool = False, pointer_only: bool = False) -> Places:
    """One place, or a list of alternatives."""
    value = fields.get(name, required=required)
    if value is None:
        return ()
    given = value if isinstance(value, list) else [value]
    found = [_place(each, pointer_only=pointer_only) for each in given[:MAX_PLACES]]
    places = tuple(place for place in found if place is not None)
    if len(places) != len(given) or not places:
        hint = "" if pointer_only else ", or a text with one * where the value stands"
        fields.wrong(name, f"must be a JSON pointer such as /data/id{hint} (or a list of up to {MAX_PLACES})")
    return places


def _place(value: object, *, pointer_only: bool) -> Place | None:
    if not isinstance(value, str) or len(value) > 200:
        return None
    if value == "" and pointer_only:
        return Place()
    if value.startswith("/") and not re.search(r"~(?![01])", value):
        return Place(steps=tuple(step.replace("~1", "/").replace("~0", "~") for step in value[1:].split("/")))
    if not pointer_only and value.count("*") == 1 and not value.startswith("/"):
        before, _, after = value.partition("*")
        return Place(around=(before, after))
    return None

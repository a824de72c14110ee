"""Bodies of /v1/track, /v1/identify and /v1/batch → records for the user-events topic. The hot path: no pydantic.

One bad item never spoils its batch (the SDKs drop a whole batch on a 4xx). Only what cannot be read as a batch at all
raises. The checks of a single message are `contracts.user_events.parse`, the same that Kafka's door uses.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from campaign_api.domain.errors import FieldProblem
from postrider.contracts.user_events import MAX_RECORD_BYTES, EventProblem, Ignored, UserEvent, parse

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_ITEMS: Final = 1_000
_MAX_DIGITS: Final = 308

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class BadBody(Exception):
    """The body as a whole is not what the path takes."""

    def __init__(self, problem: FieldProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Intake:
    """`records`: (user id, value) in the order given. `ignored_by`: how many were of no use, by reason."""

    records: list[tuple[str, bytes]] = field(default_factory=list)
    ignored_by: Counter[str] = field(default_factory=Counter)
    errors: list[FieldProblem] = field(default_factory=list)

    @property
    def ignored(self) -> int:
        return self.ignored_by.total()


class _OutOfRange:
    """A number that no double or no JSON can hold: an error of its item if it stands where it matters."""


def read_batch(data: bytes, received_at: datetime) -> Intake:
    """Raises `BadBody`."""
    historic, items = _split_batch(data)
    if len(items) > MAX_BATCH_ITEMS:
        raise BadBody(FieldProblem("/batch", f"has more than {MAX_BATCH_ITEMS} messages"))
    intake = Intake()
    for index, item in enumerate(items):
        _take(intake, item, received_at, historic, f"/batch/{index}")
    return intake


def read_single(data: bytes, received_at: datetime, type: str) -> Intake:
    """A body of /v1/track or /v1/identify: the path says the type. Raises `BadBody`."""
    body: Any
    try:
        body = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = _decode_leniently(data.decode("utf-8", "surrogateescape"))
    if isinstance(body, EventProblem):
        raise BadBody(FieldProblem(body.pointer, body.message))
    if not isinstance(body, dict):
        raise BadBody(FieldProblem("", "must be an object"))
    if body.setdefault("type", type) != type:
        raise BadBody(FieldProblem("/type", f'must be "{type}" here'))
    intake = Intake()
    _take(intake, body, received_at, False, "")
    if intake.errors:
        raise BadBody(intake.errors[0])
    return intake


def _take(intake: Intake, item: object, received_at: datetime, historic: bool, pointer: str) -> None:
    try:
        if isinstance(item, EventProblem):
            raise item
        event = parse(item, received_at)
        if isinstance(event, Ignored):
            intake.ignored_by[event.reason] += 1
            return
        intake.records.append((event.user_id, _normalised(event, historic)))
    except EventProblem as problem:
        intake.errors.append(FieldProblem(pointer + problem.pointer, problem.message))


def _normalised(event: UserEvent, historic: bool) -> bytes:
    """The message as other services publish it: only what the contract knows, in one spelling.

    The time is the client's or none, never ours: a repeat must say the same, or deduplication by its day misses it.
    Who reads the record takes the broker's time for none, and cuts what is in the future.
    """
    message: dict[str, Any] = {
        "type": event.type,
        "messageId": event.message_id or uuid.uuid4().hex,
        "userId": event.user_id,
    }
    if event.type == "track":
        message["event"] = event.event
        message["properties"] = event.values
    else:
        message["traits"] = event.values
    if event.client_at is not None:
        message["timestamp"] = event.client_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if historic or event.historic:
        message["historic"] = True
    try:
        value = _encoder.encode(message)
    except TypeError as error:
        raise EventProblem("", "holds a number that is out of range") from error
    if len(value) > MAX_RECORD_BYTES:
        raise EventProblem("", f"is larger than {MAX_RECORD_BYTES} bytes")
    return value


def _split_batch(data: bytes) -> tuple[bool, list[Any]]:
    envelope: Any
    try:
        envelope = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        envelope = _split_leniently(data.decode("utf-8", "surrogateescape"))
    if not isinstance(envelope, dict):
        raise BadBody(FieldProblem("", "must be an object with a batch"))
    items, historic = envelope.get("batch"), envelope.get("historic", False)
    if not isinstance(items, list):
        raise BadBody(FieldProblem("/batch", "is required and must be a list of messages"))
    if not isinstance(historic, bool):
        raise BadBody(FieldProblem("/historic", "must be true or false"))
    return historic, items


# The slow path: a body that the fast decoder refuses because of one item (half a surrogate pair, NaN, a number no
# double holds, nesting without end). Items are cut out by their brackets and each is decoded alone.

# A text that never ends is one token up to the end of the body: each byte is looked at once, whatever stands there.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


def _split_leniently(text: str) -> Any:
    cut = _cut_items(text)
    if cut is None:
        return _decode_leniently(text)
    start, end, slices = cut
    if len(slices) > MAX_BATCH_ITEMS:
        raise BadBody(FieldProblem("/batch", f"has more than {MAX_BATCH_ITEMS} messages"))
    envelope = _decode_leniently(text[:start] + "[]" + text[end:])
    if isinstance(envelope, dict):
        envelope["batch"] = [_decode_leniently(item) for item in slices]
    return envelope


def _cut_items(text: str) -> tuple[int, int, list[str]] | None:
    """(start, end, items) of the list under the key "batch" of the outermost object; None when there is none."""
    depth, last_text, opened, begun = 0, "", -1, -1
    slices: list[str] = []
    for token in _tokens(text):
        mark = token[0]
        if mark in "[{":
            depth += 1
            if depth == 2 and mark == "[" and last_text == '"batch"' and opened < 0:
                opened, begun = token.start(), token.end()
        elif mark in "]}":
            depth -= 1
            if opened >= 0 and depth == 1:
                rest = text[begun : token.start()]
                if rest.strip() or slices:
                    slices.append(rest)
                return opened, token.end(), slices
        elif mark == ",":
            if opened >= 0 and depth == 2:
                slices.append(text[begun : token.start()])
                begun = token.end()
        elif depth == 1:
            last_text = mark
    return None


def _tokens(text: str) -> Iterator[re.Match[str]]:
    return _TOKEN.finditer(text)


def _decode_leniently(text: str) -> Any:
    """The value; an `EventProblem` (returned) for what is JSON but cannot be held. Raises `BadBody` for what is not."""
    try:
        return json.loads(text, strict=False, parse_float=_float, parse_int=_int, parse_constant=_constant)
    except RecursionError:
        return EventProblem("", "is nested too deep")
    except ValueError as error:
        raise BadBody(FieldProblem("", "is not JSON")) from error


def _float(digits: str) -> float | _OutOfRange:
    value = float(digits)
    return value if math.isfinite(value) else _OutOfRange()


def _int(digits: str) -> int | _OutOfRange:
    return int(digits) if len(digits) <= _MAX_DIGITS else _OutOfRange()


def _constant(name: str) -> _OutOfRange:
    """NaN and Infinity are not JSON, but Python's SDKs write them; they must not cost their neighbours the batch."""
    return _OutOfRange()

"""User events: the public Segment/RudderStack tracking shape, and the limits of semantics.md §1.

`parse` serves both doors: HTTP (one item of a batch) and Kafka (one record's value). Unknown fields are fine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from postrider.contracts.codec import Unreadable

MAX_RECORD_BYTES = 32 * 1024
MAX_KEYS = 256
MAX_KEY_CHARACTERS = 120
MAX_STRING_CHARACTERS = 512
MAX_LIST_ITEMS = 100
MAX_ID_CHARACTERS = 256
MAX_DEPTH = 20
FUTURE_LIMIT = timedelta(minutes=5)
IGNORED_TYPES = frozenset({"page", "screen", "group", "alias"})
RESERVED_TRAITS = frozenset({"phone", "timezone", "language", "country", "sms_consent"})


class UserEvent(msgspec.Struct, frozen=True, gc=False):
    """One accepted message. `at` is the client's time clamped to received + 5 min; `values` are properties or traits.

    `message_id` is "" when the client gave none: the reader names it (topic-partition-offset). `client_at` is the
    client's time as given: a repeat has the same.
    """

    type: str
    user_id: str
    message_id: str
    event: str
    at: datetime
    received_at: datetime
    values: dict[str, Any]
    historic: bool
    client_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """Readable, and of no use here: `reason` is counted."""

    reason: str


class EventProblem(Unreadable):
    """A message over a limit or of a wrong shape. `pointer` is a JSON pointer into the message."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"{pointer or '/'}: {reason}")
        self.pointer = pointer
        self.message = reason


_decoder = msgspec.json.Decoder()

_Id: TypeAlias = Annotated[str, Meta(max_length=MAX_ID_CHARACTERS)]
_Scalar: TypeAlias = Annotated[str, Meta(max_length=MAX_STRING_CHARACTERS)] | int | float | bool | None
_Value: TypeAlias = _Scalar | Annotated[list[_Scalar], Meta(max_length=MAX_LIST_ITEMS)]
_Key: TypeAlias = Annotated[str, Meta(max_length=MAX_KEY_CHARACTERS)]


class _OrdinaryTrack(msgspec.Struct, gc=False):
    """What nearly every record is, checked while it is decoded. Whatever does not fit goes the long way, which knows
    all spellings and says what is wrong; the two read alike what both can read."""

    type: Literal["track"]
    userId: Annotated[_Id, Meta(min_length=1)]  # names of the tracking spec
    event: Annotated[str, Meta(min_length=1, max_length=MAX_STRING_CHARACTERS)]
    messageId: _Id = ""
    timestamp: str | None = None
    originalTimestamp: str | None = None
    properties: Annotated[dict[_Key, _Value], Meta(max_length=MAX_KEYS)] = {}
    historic: bool = False


_ordinary = msgspec.json.Decoder(_OrdinaryTrack)


def parse_bytes(data: bytes | None, received_at: datetime) -> UserEvent | Ignored:
    """A Kafka record's value. Raises `Unreadable`."""
    if data is None:
        raise Unreadable("value is null")
    if len(data) > MAX_RECORD_BYTES:
        raise Unreadable(f"larger than {MAX_RECORD_BYTES} bytes")
    if b"\\u" not in data:  # without escapes JSON holds neither NUL nor half of a surrogate pair
        try:
            track = _ordinary.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
        else:
            client_at = _instant("timestamp", track.timestamp)
            if client_at is None:
                client_at = _instant("originalTimestamp", track.originalTimestamp)
            at = received_at if client_at is None else client_at
            if at > received_at:
                at = min(at, received_at + FUTURE_LIMIT)
            return UserEvent(
                "track", track.userId, track.messageId, track.event, at, received_at, track.properties, track.historic,
                client_at,
            )  # fmt: skip
    try:
        body = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Unreadable("a number is out of range") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unreadable("not JSON: " + type(error).__name__) from error
    return parse(body, received_at)


def parse(body: object, received_at: datetime) -> UserEvent | Ignored:
    """One decoded message. Raises `EventProblem`."""
    if not isinstance(body, dict):
        raise EventProblem("", "must be an object")
    kind = body.get("type")
    if isinstance(kind, str) and kind in IGNORED_TYPES:
        return Ignored(f"type_{kind}")
    if kind not in ("track", "identify"):
        raise EventProblem("/type", 'must be "track" or "identify"')
    user_id = body.get("userId")
    if user_id is None or user_id == "":
        if body.get("anonymousId"):
            return Ignored("anonymous")
        raise EventProblem("/userId", "is required")
    user_id = _identifier("/userId", user_id)
    message_id = body.get("messageId")
    message_id = "" if message_id is None or message_id == "" else _identifier("/messageId", message_id)
    name = ""
    if kind == "track":
        event = body.get("event")
        if not isinstance(event, str) or not event:
            raise EventProblem("/event", "is required and must be text")
        name = event
        _check_text("/event", name, MAX_STRING_CHARACTERS)
        values, pointer = _object(body, "properties")
    else:
        values, pointer = _object(body, "traits")
        context = body.get("context")
        if isinstance(context, dict) and isinstance(context.get("traits"), dict):
            values = {**context["traits"], **values}
    _check_values(pointer, values)
    historic = body.get("historic", False)
    if not isinstance(historic, bool):
        raise EventProblem("/historic", "must be true or false")
    client_at = _client_time(body)
    at = received_at if client_at is None else min(client_at, received_at + FUTURE_LIMIT)
    return UserEvent(kind, user_id, message_id, name, at, received_at, values, historic, client_at)


def _identifier(pointer: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise EventProblem(pointer, "must be text")
    text = str(value)
    _check_text(pointer, text, MAX_ID_CHARACTERS)
    return text


def _object(body: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    value = body.get(name)
    if value is None:
        return {}, f"/{name}"
    if not isinstance(value, dict):
        raise EventProblem(f"/{name}", "must be an object")
    return value, f"/{name}"


def _client_time(body: dict[str, Any]) -> datetime | None:
    at = _instant("timestamp", body.get("timestamp"))
    return _instant("originalTimestamp", body.get("originalTimestamp")) if at is None else at


def _instant(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise EventProblem(f"/{name}", "must be an RFC 3339 time")
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is not UTC:
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise EventProblem(f"/{name}", "must be an RFC 3339 time") from error
    if at.year < 1900:
        raise EventProblem(f"/{name}", "must not be before 1900")
    return at


def _check_values(pointer: str, values: dict[str, Any]) -> None:
    if len(values) > MAX_KEYS:
        raise EventProblem(pointer, f"has more than {MAX_KEYS} keys")
    for key, value in values.items():
        if len(key) > MAX_KEY_CHARACTERS:
            raise EventProblem(pointer, f"has a key longer than {MAX_KEY_CHARACTERS} characters")
        kind = type(value)
        if kind is str:
            if len(value) > MAX_STRING_CHARACTERS or not value.isascii() or "\x00" in value:
                _check_text(f"{pointer}/{_escape(key)}", value, MAX_STRING_CHARACTERS)
        elif (kind is list and not _is_plain(value)) or kind is dict:
            _check_nested(f"{pointer}/{_escape(key)}", value, 1)
        if not key.isascii() or "\x00" in key:
            _check_text(pointer, key, MAX_KEY_CHARACTERS)


def _is_plain(items: list[Any]) -> bool:
    """Whether a list is surely within the limits: the hot path's shortcut."""
    if len(items) > MAX_LIST_ITEMS:
        return False
    for item in items:
        kind = type(item)
        if kind is str:
            if len(item) > MAX_STRING_CHARACTERS or not item.isascii() or "\x00" in item:
                return False
        elif kind is list or kind is dict:
            return False
    return True


def _check_nested(pointer: str, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise EventProblem(pointer, f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        _check_text(pointer, value, MAX_STRING_CHARACTERS)
    elif isinstance(value, list):
        if len(value) > MAX_LIST_ITEMS:
            raise EventProblem(pointer, f"has more than {MAX_LIST_ITEMS} items")
        for item in value:
            _check_nested(pointer, item, depth + 1)
    elif isinstance(value, dict):
        if len(value) > MAX_KEYS:
            raise EventProblem(pointer, f"has more than {MAX_KEYS} keys")
        for key, item in value.items():
            _check_text(pointer, key, MAX_KEY_CHARACTERS)
            _check_nested(pointer, item, depth + 1)


def _check_text(pointer: str, text: str, limit: int) -> None:
    if len(text) <= limit and text.isascii() and "\x00" not in text:
        return
    if len(text) > limit:
        raise EventProblem(pointer, f"is longer than {limit} characters")
    if "\x00" in text:
        raise EventProblem(pointer, "must not contain NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EventProblem(pointer, "must not contain half of a surrogate pair") from error


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")

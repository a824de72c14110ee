"""Dead letters: what a consumer could not take, kept with the reason; and the limit above which it stops instead.

A dead letter keeps key, value and headers of its record (theirs prefixed `original-`), so that it can be replayed:
see `dead_letters_cli`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from postrider.contracts.envelope import Outgoing

VALUE_BYTES = 900_000
KEY_BYTES = 64_000
"""A batch that travels compressed may hold keys, values and headers of any size."""
HEADER_BYTES = 64_000
WINDOW_SECONDS = 60.0
ORIGINAL = "original-"


class TooManyDeadLetters(Exception):
    """A bad deploy, most likely: the batch is left where it is, and somebody has to look."""


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    read: int
    dead: int


class DeadLetterLimit:
    """Pure. More than `per_minute` dead letters within a minute, and more than half of what was read in it: too many.

    The second condition keeps one producer's rubbish among healthy traffic from stopping everybody's records.
    `per_minute` 0: no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._seen: deque[_Seen] = deque()

    def check(self, read: int, dead: int, now: float) -> None:
        """Before a batch of `read` records with `dead` dead letters is committed. Raises `TooManyDeadLetters`."""
        if not self._per_minute:
            return
        while self._seen and self._seen[0].at <= now - WINDOW_SECONDS:
            self._seen.popleft()
        all_read = read + sum(seen.read for seen in self._seen)
        all_dead = dead + sum(seen.dead for seen in self._seen)
        if dead and all_dead > self._per_minute and 2 * all_dead > all_read:
            raise TooManyDeadLetters(
                f"{all_dead} of {all_read} records in a minute cannot be read, the limit is {self._per_minute}"
            )

    def committed(self, read: int, dead: int, now: float) -> None:
        """The batch of the last `check` is committed."""
        if self._per_minute:
            self._seen.append(_Seen(now, read, dead))


def dead_letter(record: ConsumerRecord, reason: str, dead_letter_topic: str) -> Outgoing:
    """The record with `reason` and where it came from; what of it would not fit is cut off."""
    headers = [
        ("reason", reason.encode("utf-8", "replace")),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
    ]
    key, value = record.key and record.key[:KEY_BYTES], record.value and record.value[:VALUE_BYTES]
    room, whole = HEADER_BYTES, len(record.key or b"") + len(record.value or b"")
    for name, content in record.headers:
        size = len(name) + len(content or b"")
        room, whole = room - size, whole + size
        if room >= 0:
            headers.append((ORIGINAL + name, content or b""))  # a header may be null, an outbox row's may not
    if key != record.key or value != record.value or room < 0:
        headers.append(("cut_from_bytes", str(whole).encode()))
    return Outgoing(dead_letter_topic, key, value, tuple(headers))


def original(letter: ConsumerRecord) -> Outgoing:
    """The record as it was, for the topic it came from. Raises `ValueError` when it is not whole."""
    headers = {name: value or b"" for name, value in letter.headers}
    if not headers.get("topic"):
        raise ValueError("no header says which topic it came from")
    if "cut_from_bytes" in headers:
        raise ValueError(f"it was cut from {headers['cut_from_bytes'].decode()} bytes")
    kept = tuple((name[len(ORIGINAL) :], value or b"") for name, value in letter.headers if name.startswith(ORIGINAL))
    return Outgoing(headers["topic"].decode(), letter.key, letter.value, kept)

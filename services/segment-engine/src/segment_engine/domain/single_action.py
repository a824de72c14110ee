"""A single action whose text has to wait: for its delay, or, with a filter, until history has the event itself. Pure.

What was decided stays decided: the row is kept as long as a repeat of the event could arm it anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from segment_engine.domain.waits import Carried, Fired, Kept, Occurrence


@dataclass(frozen=True, slots=True)
class Terms:
    """Microseconds. `delay`: from the event to the due. `send_by`: older on arrival, no event arms."""

    delay: int
    send_by: int


class State(Struct, frozen=True, array_like=True):
    """`at`: the time of the event."""

    name: str
    at: int
    what_version: int
    values: dict[str, Any]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def happened(id: str, at: int, received: int, carried: Carried, terms: Terms) -> Kept:
    state = State(id, at, carried.what_version, dict(carried.values))
    return Kept(max(at + terms.delay, received), None, _encoder.encode(state))


def replanned(known: bytes, now: int, terms: Terms) -> Kept:
    """The armed row under other terms."""
    return Kept(max(_decoder.decode(known).at + terms.delay, now), None, known)


def fire(known: bytes, now: int, terms: Terms) -> Fired:
    """What is due now by these terms, which an edit may have put off."""
    state = _decoder.decode(known)
    due = state.at + terms.delay
    if due > now:
        return Fired([], Kept(due, None, known))
    occurrence = Occurrence(state.name, due, Carried(state.what_version, state.values))
    return Fired([occurrence], Kept(None, due + terms.send_by, _encoder.encode(State(state.name, state.at, 0, {}))))

"""A single action whose campaign has a filter: due at once, and fired when history has the event itself. Pure.

What was decided stays decided: the row is kept as long as a repeat of the event could arm it anew.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from segment_engine.domain.waits import Carried, Fired, Kept, Occurrence


class State(Struct, frozen=True, array_like=True):
    name: str
    due: int
    what_version: int
    values: dict[str, Any]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def happened(id: str, due: int, received: int, carried: Carried) -> Kept:
    """`due`: the start of the text's deadline, the time of the event."""
    state = State(id, due, carried.what_version, dict(carried.values))
    return Kept(received, None, _encoder.encode(state))


def fire(known: bytes, send_by: int) -> Fired:
    """`send_by` in microseconds: older on arrival, no event arms."""
    state = _decoder.decode(known)
    occurrence = Occurrence(state.name, state.due, Carried(state.what_version, state.values))
    return Fired([occurrence], Kept(None, state.due + send_by, _encoder.encode(State(state.name, state.due, 0, {}))))

"""A single action whose campaign has a filter: due at once, and fired when history has the event itself. Pure."""

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


def fire(known: bytes) -> Fired:
    state = _decoder.decode(known)
    return Fired([Occurrence(state.name, state.due, Carried(state.what_version, state.values))], None)

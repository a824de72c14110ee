"""A, and then no B within the span: which arms are timers, given all that is known. Pure, and independent of the order
of arrival (docs/decisions/live-timers.md has the reasons).

Arms and acts are kept until nothing that may still arrive can make a difference: an event older on arrival than
`send_by` arms nothing, so an act tells nothing new once all that was received within `send_by` of it has been read
(`read_until`: whatever was received before it is known).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from segment_engine.domain.waits import Carried, Fired, Kept, Occurrence, hash64

CAP = 100
"""Arms that are no timers, and acts, of one key: the oldest go first."""
MAX_BYTES = 256 * 1024
"""Of one row, which is written with every event: beyond it more of such arms go, with the values they carry."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Microseconds. `restart`: an arm while one is armed takes its place instead of being ignored."""

    within: int
    send_by: int
    restart: bool = False


class Happening(NamedTuple):
    """An event as this key sees it; it may arm, act (be what the campaign waits for), or both. `values`: of those
    that version `what_version` of the texts refers to."""

    id: str
    at: int
    received: int
    arms: bool
    acts: bool
    what_version: int
    values: dict[str, Any]


class Arm(Struct, frozen=True, array_like=True):
    """`disarmed`: an act was found inside its span. It stays so when an edit moves the span away from the act."""

    at: int
    hash: int
    id: str
    what_version: int
    values: dict[str, Any]
    disarmed: bool = False


class Act(Struct, frozen=True, array_like=True, order=True):
    """`arms`: the same event arms too; then it does not disarm itself, nor what comes after it at the same moment."""

    at: int
    hash: int
    arms: bool


class Gone(Struct, frozen=True, array_like=True):
    """A timer that fired, with the span it stood for."""

    at: int
    due: int
    hash: int


class State(Struct, array_like=True):
    """`arms` and `acts` are sorted by time and hash."""

    arms: list[Arm] = []
    acts: list[Act] = []
    fired: list[Gone] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def happened(known: bytes | None, happenings: Sequence[Happening], terms: Terms, read_until: int) -> Kept | None:
    """The row after these events, in whatever order. None: there is nothing to keep."""
    if known is None and len(happenings) == 1:
        only = happenings[0]
        if only.arms:  # the plainest case, and by far the most frequent: a first arm is a timer
            acts = [Act(only.at, hash64(only.id), True)] if only.acts else []
            return Kept(max(only.at + terms.within, only.received), None, _encoder.encode(State([_arm(only)], acts)))
    state = State() if known is None else _decoder.decode(known)
    _add(state, happenings)
    return _settled(state, max(happening.received for happening in happenings), terms, read_until)


def replanned(known: bytes, now: int, terms: Terms, read_until: int) -> Kept | None:
    """The row under other terms."""
    return _settled(_decoder.decode(known), now, terms, read_until)


def fire(known: bytes, now: int, terms: Terms) -> Fired:
    """What is due now, and the row without it; what was received before now has been read. An arm whose span overlaps
    one that fired is a repeat of it."""
    state = _decoder.decode(known)
    due = [arm for arm in timers(state, terms) if arm.at + terms.within <= now]
    state.fired += [Gone(arm.at, arm.at + terms.within, arm.hash) for arm in due]
    occurrences = [Occurrence(arm.id, arm.at + terms.within, Carried(arm.what_version, arm.values)) for arm in due]
    return Fired(occurrences, _settled(state, now, terms, now))


def timers(state: State, terms: Terms) -> list[Arm]:
    """The arms that fire unless something more arrives, in the order of their due times; their spans are disjoint."""
    if terms.restart:
        return _last_ones(state, terms)
    found: list[Arm] = []
    armed: Arm | None = None
    for arm in state.arms:
        if state.fired and _is_repeat(arm, state.fired, terms):
            continue
        if armed is not None:
            if arm.at > armed.at + terms.within:
                if not _is_disarmed(armed, state.acts, terms):
                    found.append(armed)
            elif not _ended_before(armed, arm, state.acts, terms):
                continue
        armed = arm
    if armed is not None and not _is_disarmed(armed, state.acts, terms):
        found.append(armed)
    return found


def _last_ones(state: State, terms: Terms) -> list[Arm]:
    """Arms that no later arm replaces inside their span, one that fired included."""
    return [
        arm
        for arm, later in zip_longest(state.arms, state.arms[1:])
        if not (later is not None and later.at <= arm.at + terms.within)
        and not _is_repeat(arm, state.fired, terms)
        and not _is_disarmed(arm, state.acts, terms)
    ]


def _arm(happening: Happening) -> Arm:
    return Arm(happening.at, hash64(happening.id), happening.id, happening.what_version, happening.values)


def _add(state: State, happenings: Sequence[Happening]) -> None:
    """Each event once. A repeat without a time of its own seems younger: the oldest word of it counts."""
    arms = {arm.hash: arm for arm in state.arms}
    acts = {act.hash: act for act in state.acts}
    for happening in happenings:
        hash = hash64(happening.id)
        if happening.arms:
            arm = arms.get(hash)
            if arm is None or happening.at < arm.at:
                arms[hash] = _arm(happening)
        if happening.acts:
            act = acts.get(hash)
            if act is None or happening.at < act.at:
                acts[hash] = Act(happening.at, hash, happening.arms)
    state.arms = sorted(arms.values(), key=lambda arm: (arm.at, arm.hash))
    state.acts = sorted(acts.values())


def _is_repeat(arm: Arm, fired: Iterable[Gone], terms: Terms) -> bool:
    return any(
        (arm.at <= gone.due and gone.at <= arm.at + terms.within) or arm.hash == gone.hash for gone in fired
    )  # fmt: skip


def _disarming(arm: Arm, acts: Sequence[Act], terms: Terms) -> Iterable[Act]:
    """The acts inside the arm's span, both ends included, the earliest first."""
    for act in acts[bisect_left(acts, arm.at, key=lambda act: act.at) :]:
        if act.at > arm.at + terms.within:
            return
        if not (act.arms and act.at == arm.at and act.hash <= arm.hash):
            yield act


def _disarmed_by(arm: Arm, acts: Sequence[Act], terms: Terms) -> Act | None:
    return next(iter(_disarming(arm, acts, terms)), None) if acts else None


def _is_disarmed(arm: Arm, acts: Sequence[Act], terms: Terms) -> bool:
    return arm.disarmed or _disarmed_by(arm, acts, terms) is not None


def _ended_before(armed: Arm, arm: Arm, acts: Sequence[Act], terms: Terms) -> bool:
    """Whether `armed` was disarmed when `arm` came. Of one moment: first what arms only, then what acts; an event that
    is both acts, then arms."""
    act = _disarmed_by(armed, acts, terms)
    if act is None or act.at > arm.at:
        return False
    if act.at < arm.at:
        return True
    return any(a.arms and a.hash <= arm.hash for a in _disarming(armed, acts, terms) if a.at == arm.at)


def _settled(state: State, now: int, terms: Terms, read_until: int) -> Kept | None:
    """The row, without what can make no difference any more."""
    planned = timers(state, terms)
    state.arms = [
        msgspec.structs.replace(arm, disarmed=True)
        if not arm.disarmed and _disarmed_by(arm, state.acts, terms)
        else arm
        for arm in state.arms
    ]
    _forget(state, planned, read_until, terms)
    _cap(state, planned, terms)
    if planned:
        return Kept(max(planned[0].at + terms.within, now), None, _encoded(state, planned))
    last = max(
        [arm.at for arm in state.arms] + [act.at for act in state.acts] + [gone.due for gone in state.fired],
        default=None,
    )
    return None if last is None else Kept(None, last + terms.send_by, _encoded(state, planned))


def _forget(state: State, planned: Sequence[Arm], read_until: int, terms: Terms) -> None:
    ago = read_until - terms.send_by
    state.arms = [
        arm for arm in state.arms if arm.at >= ago or any(abs(arm.at - timer.at) <= terms.within for timer in planned)
    ]
    state.acts = [
        act
        for act in state.acts
        if act.at >= ago or any(arm.at <= act.at <= arm.at + terms.within for arm in state.arms)
    ]
    state.fired = [
        gone for gone in state.fired if gone.due >= ago or any(_is_repeat(arm, [gone], terms) for arm in state.arms)
    ]


def _cap(state: State, planned: Sequence[Arm], terms: Terms) -> None:
    """An act does not go alone: an arm that it disarmed would come back to life."""
    timers = {timer.hash for timer in planned}
    if len(state.acts) > CAP:
        dropped, state.acts = state.acts[:-CAP], state.acts[-CAP:]
        state.arms = [arm for arm in state.arms if arm.hash in timers or not _disarmed_by(arm, dropped, terms)]
    _drop_idle(state, planned, len(state.arms) - len(timers) - CAP)


def _drop_idle(state: State, planned: Sequence[Arm], surplus: int) -> None:
    """The oldest of the arms that are no timers."""
    if surplus > 0:
        timers = {timer.hash for timer in planned}
        gone = set([arm.hash for arm in state.arms if arm.hash not in timers][:surplus])
        state.arms = [arm for arm in state.arms if arm.hash not in gone]


def _encoded(state: State, planned: Sequence[Arm]) -> bytes:
    encoded = _encoder.encode(state)
    while len(encoded) > MAX_BYTES and len(state.arms) > len(planned):
        _drop_idle(state, planned, (len(state.arms) - len(planned) + 1) // 2)
        encoded = _encoder.encode(state)
    return encoded

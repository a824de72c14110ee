"""The state tables: every move that exists, and that every other raises."""

from __future__ import annotations

from itertools import product

import pytest

from scheduler.domain.run_states import (
    ACTIVE_RUNS,
    OPEN_ZONES,
    RUN_TRANSITIONS,
    ZONE_TRANSITIONS,
    IllegalMove,
    RunEvent,
    RunState,
    ZoneEvent,
    ZoneState,
    apply_run,
    apply_zone,
    finish_event,
)


def test_a_run_from_plan_to_end() -> None:
    state = RunState.PLANNED
    for event in (RunEvent.REQUEST, RunEvent.SNAPSHOT, RunEvent.FINISH):
        state = apply_run(state, event)
    assert state is RunState.EXPANDED


@pytest.mark.parametrize(("state", "event"), list(product(RunState, RunEvent)))
def test_run_moves_outside_the_table_raise(state: RunState, event: RunEvent) -> None:
    if (state, event) in RUN_TRANSITIONS:
        assert apply_run(state, event) is not state
    else:
        with pytest.raises(IllegalMove):
            apply_run(state, event)


@pytest.mark.parametrize(("state", "event"), list(product(ZoneState, ZoneEvent)))
def test_zone_moves_outside_the_table_raise(state: ZoneState, event: ZoneEvent) -> None:
    if (state, event) in ZONE_TRANSITIONS:
        assert apply_zone(state, event) is not state
    else:
        with pytest.raises(IllegalMove):
            apply_zone(state, event)


def test_whatever_is_active_can_be_stopped_and_nothing_else() -> None:
    assert {state for state, event in RUN_TRANSITIONS if event is RunEvent.STOP} == ACTIVE_RUNS
    assert {state for state, event in ZONE_TRANSITIONS if event is ZoneEvent.STOP} == OPEN_ZONES


@pytest.mark.parametrize(
    ("zones", "event"),
    [
        ({}, RunEvent.FINISH),
        ({ZoneState.EXPANDED: 2}, RunEvent.FINISH),
        ({ZoneState.EXPANDED: 1, ZoneState.EXPIRED: 3}, RunEvent.FINISH),
        ({ZoneState.DROPPED: 2}, RunEvent.FINISH),
        ({ZoneState.EXPIRED: 3}, RunEvent.MISS),
    ],
)
def test_a_run_all_of_whose_zones_were_missed_is_expired(zones: dict[ZoneState, int], event: RunEvent) -> None:
    assert finish_event(zones) is event

"""Durations are exact or refused (rules.md T18)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postrider.durations import format_duration, parse_duration, parse_offset


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P3D", timedelta(days=3)),
        ("PT5M", timedelta(minutes=5)),
        ("P1W", timedelta(days=7)),
        ("P1DT12H", timedelta(hours=36)),
        ("PT1H30M5S", timedelta(hours=1, minutes=30, seconds=5)),
        ("PT90S", timedelta(seconds=90)),
    ],
)
def test_exact_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("P1M", "months"),
        ("P1Y", "years"),
        ("P1Y2M", "years"),
        ("PT0.5H", "fractions"),
        ("P1,5D", "fractions"),
        ("P1W2D", "weeks"),
        ("PT0S", "longer than zero"),
        ("P0D", "longer than zero"),
        ("-P1D", "sign"),
        ("+P1D", "sign"),
        ("P9999999999D", "too long"),
        ("P" + "9" * 60 + "D", "characters"),
        *(
            (text, "ISO 8601")
            for text in ("", "P", "PT", "P1DT", "p1d", "1D", "P1H", "PT1D", "P٣D", "P1D\n", " P1D", "--P1D")
        ),
    ],
)
def test_refused_with_a_reason(text: str, about: str) -> None:
    with pytest.raises(ValueError, match=about):
        parse_duration(text)


def test_offsets_have_signs_and_zero() -> None:
    assert parse_offset("-P1D") == timedelta(days=-1)
    assert parse_offset("PT0S") == timedelta(0)


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9))
def test_what_is_written_is_read_back(seconds: int) -> None:
    length = timedelta(seconds=seconds)
    assert parse_offset(format_duration(length)) == length


def test_no_fractions_are_written() -> None:
    with pytest.raises(ValueError):
        format_duration(timedelta(microseconds=1))

"""Frequency caps and gaps: reservations hold every day they may fall on, until it is known on which day they fell."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from postrider.contracts.definitions import AccountSettings, FrequencyCap, Who
from scheduler.domain.caps import Capped, Caps, Reservation, caps_of, released, reserve, reserved, settled

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TWO_A_DAY = Caps(frequency=((2, 1),))
BERLIN = "Europe/Berlin"


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


def text(
    name: str, due: datetime, send_by: timedelta = 4 * HOUR, campaign: str = "cmp_1", zone: str = "UTC"
) -> Reservation:
    return reserved(name, campaign, due, due + send_by, zone)


def test_a_reservation_holds_every_local_day_between_due_and_deadline() -> None:
    held = text("m", at(1, 22), 4 * HOUR, zone="UTC")
    assert (held.first_day, held.last_day) == (date(2026, 12, 1), date(2026, 12, 2))
    assert text("m", at(1, 20), 4 * HOUR).last_day == date(2026, 12, 1)  # midnight itself is no longer inside
    assert text("m", at(1, 20), zone="Asia/Kolkata").first_day == date(2026, 12, 2)


def test_two_a_day_is_two_a_day() -> None:
    first, second = text("a", at(1, 8)), text("b", at(1, 12))
    assert reserve(second, [first], TWO_A_DAY) == second
    assert reserve(text("c", at(1, 16)), [first, second], TWO_A_DAY) == Capped("2_per_1_days")
    assert reserve(text("c", at(2, 8)), [first, second], TWO_A_DAY) == text("c", at(2, 8))


def test_what_may_fall_on_either_day_counts_on_both_until_it_is_known() -> None:
    late, other = text("a", at(1, 22)), text("b", at(2, 8))
    third = text("c", at(2, 12))
    assert reserve(third, [late, other], TWO_A_DAY) == Capped("2_per_1_days")
    assert reserve(third, [settled(late, at(1, 22, 1), at(1, 22, 1)), other], TWO_A_DAY) == third
    assert reserve(third, [settled(late, at(2, 0, 1), at(2, 0, 1)), other], TWO_A_DAY) == Capped("2_per_1_days")


def test_a_definite_failure_gives_the_place_back_and_doubt_does_not() -> None:
    first, second, third = (text(name, at(1, hour)) for name, hour in (("a", 8), ("b", 9), ("c", 10)))
    in_doubt = settled(first, at(1, 8), at(1, 8))
    assert reserve(third, [in_doubt, second], TWO_A_DAY) == Capped("2_per_1_days")
    assert reserve(third, released([in_doubt, second], "a"), TWO_A_DAY) == third


def test_what_stays_in_doubt_counts_on_every_day_of_its_attempts() -> None:
    unknown, other = settled(text("a", at(1, 8), 5 * DAY), at(1, 23), at(2, 1)), text("b", at(2, 8))
    assert (unknown.first_day, unknown.last_day) == (date(2026, 12, 1), date(2026, 12, 2))
    assert reserve(text("c", at(2, 16)), [unknown, other], TWO_A_DAY) == Capped("2_per_1_days")
    assert reserve(text("c", at(3, 8)), [unknown, other], TWO_A_DAY) == text("c", at(3, 8))


def test_asking_again_for_the_same_message_answers_yes() -> None:
    first, second = text("a", at(1, 8)), text("b", at(1, 9))
    assert reserve(second, [first, second], TWO_A_DAY) == second


def test_n_days_are_every_stretch_of_n_days_also_towards_what_is_reserved_ahead() -> None:
    caps = Caps(frequency=((1, 7),))
    earlier, ahead = text("a", at(1)), text("b", at(20))
    assert reserve(text("c", at(7)), [earlier], caps) == Capped("1_per_7_days")
    assert reserve(text("c", at(8)), [earlier, ahead], caps) == text("c", at(8))
    assert reserve(text("c", at(14)), [earlier, ahead], caps) == Capped("1_per_7_days")
    assert reserve(text("c", at(13)), [earlier, ahead], caps) == text("c", at(13))


def test_gaps_are_kept_from_the_last_moment_a_text_may_leave() -> None:
    caps = Caps(min_gap=6 * HOUR)
    first = text("a", at(1, 8))
    assert reserve(text("b", at(1, 17)), [first], caps) == Capped("min_gap")
    assert reserve(text("b", at(1, 18)), [first], caps) == text("b", at(1, 18))
    assert reserve(text("b", at(1, 14)), [settled(first, at(1, 8), at(1, 8))], caps) == text("b", at(1, 14))
    assert reserve(text("b", at(1, 13, 59)), [settled(first, at(1, 8), at(1, 8))], caps) == Capped("min_gap")
    before = text("b", at(1, 1), HOUR)
    assert reserve(before, [first], caps) == before
    assert reserve(text("b", at(1, 2), HOUR), [first], caps) == Capped("min_gap")


def test_a_campaign_s_own_gap_counts_its_own_texts_only() -> None:
    caps = Caps(campaign_min_gap=2 * DAY)
    first = text("a", at(1), campaign="cmp_1")
    assert reserve(text("b", at(2), campaign="cmp_1"), [first], caps) == Capped("campaign_min_gap")
    other = text("b", at(2), campaign="cmp_2")
    assert reserve(other, [first], caps) == other


def test_a_campaign_that_opts_out_keeps_its_own_gap_and_counts_for_others() -> None:
    settings = AccountSettings(frequency_caps=[FrequencyCap(1, 1), FrequencyCap(0, 0)], min_gap_seconds=3600)
    bound = caps_of(settings, Who(min_gap_seconds=60))
    assert bound == Caps(((1, 1),), HOUR, timedelta(minutes=1))
    free = caps_of(settings, Who(ignore_frequency_caps=True, min_gap_seconds=60))
    assert free == Caps((), timedelta(0), timedelta(minutes=1))
    assert not caps_of(AccountSettings(), Who())
    opted_out = text("a", at(1, 8), campaign="cmp_free")
    assert reserve(text("b", at(1, 12)), [opted_out], bound) == Capped("1_per_1_days")
    assert reserve(text("b", at(1, 12), campaign="cmp_free"), [text("c", at(1, 1))], free) == text(
        "b", at(1, 12), campaign="cmp_free"
    )


@pytest.mark.parametrize("days", [1, 2, 5])
def test_no_outcome_of_what_was_let_through_passes_a_cap(days: int) -> None:
    """Whatever moment each reserved text leaves at, no stretch of days holds more than the cap; and no text is refused
    that no outcome speaks against."""
    draw = random.Random(days)
    refused = 0
    for _ in range(150):
        count = draw.randint(1, 3)
        caps = Caps(frequency=((count, days),))
        held: list[Reservation] = []
        for number in range(14):
            wanted = text(
                f"m{number}", at(1) + draw.randint(0, 12 * 24) * HOUR, draw.randint(1, 40) * HOUR, zone=BERLIN
            )
            answer = reserve(wanted, held, caps)
            if isinstance(answer, Capped):
                refused += 1
                assert _worst([*held, wanted], days) > count
            else:
                held.append(answer)
        assert _worst(held, days) <= count
    assert refused > 100


def _worst(held: list[Reservation], days: int) -> int:
    """The most texts that can fall into any stretch of days, each on the day that makes it worst."""
    first = min((one.first_day for one in held), default=date(2026, 12, 1)) - days * DAY
    last = max((one.last_day for one in held), default=date(2026, 12, 1))
    starts = [first + number * DAY for number in range((last - first).days + 1)]
    return max(
        sum(
            any(
                start <= one.first_day + n * DAY <= start + (days - 1) * DAY
                for n in range((one.last_day - one.first_day).days + 1)
            )
            for one in held
        )
        for start in starts
    )


def test_what_lies_further_away_than_the_reach_cannot_matter() -> None:
    caps = Caps(frequency=((1, 7),), min_gap=HOUR)
    wanted = text("m", at(15))
    assert reserve(wanted, [text("a", wanted.first_at - caps.reach - 5 * HOUR)], caps) == wanted
    assert reserve(wanted, [text("a", wanted.last_at + caps.reach)], caps) == wanted

"""Legal quiet hours: promotional only, never weaker than the law, wherever the person and the clocks are."""

# ruff: noqa: DTZ001 - nominal times are local.

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import parse
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.timezone import time_zones_for_number

from postrider.contracts.definitions import QuietHours, QuietWindow
from postrider.phones import normalise
from postrider.scheduling.legal_hours import document, legal_rules, place_of
from postrider.scheduling.quiet_hours import Allowed, QuietPlan, Refused
from postrider.zones import load_zone
from tests.support.time_oracle import all_zones

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NEW_YORK, FLORIDA, TEXAS, RHODE_ISLAND = "+12125550123", "+13055550123", "+15125550123", "+14015550123"
CALIFORNIA, TOLL_FREE, INDIA, PARIS = "+14155550123", "+18005550123", "+919812345678", "+33612345678"
STATES = {
    "AL": "Alabama", "CT": "Connecticut", "FL": "Florida", "KY": "Kentucky", "LA": "Louisiana", "MD": "Maryland",
    "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi", "NV": "Nevada",
    "NM": "New Mexico", "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania", "RI": "Rhode Island",
    "SD": "South Dakota", "TX": "Texas", "UT": "Utah", "WA": "Washington State", "WY": "Wyoming",
}  # fmt: skip


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def decide(
    phone: str,
    country: str,
    zone: str,
    due: datetime,
    quiet: QuietHours | None = None,
    message_class: str = "promotional",
) -> Allowed | Refused:
    return QuietPlan(quiet, QuietHours(), message_class).decide(due, 4 * HOUR, zone, phone, country)


def moved(phone: str, country: str, zone: str, due: datetime) -> datetime:
    """When the text may leave, on the clock of the zone."""
    outcome = decide(phone, country, zone, due)
    assert isinstance(outcome, Allowed), outcome
    return outcome.due_at.astimezone(load_zone(zone)).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("phone", "country", "zone", "due", "at"),
    [
        (NEW_YORK, "US", "America/New_York", utc(2026, 12, 2, 2), datetime(2026, 12, 2, 8)),  # 21:00
        (NEW_YORK, "US", "America/New_York", utc(2026, 12, 2, 1, 59), datetime(2026, 12, 1, 20, 59)),
        (FLORIDA, "US", "America/New_York", utc(2026, 12, 2, 1), datetime(2026, 12, 2, 8)),  # 20:00
        (TEXAS, "US", "America/Chicago", utc(2026, 11, 29, 15), datetime(2026, 11, 29, 12)),  # Sunday 09:00
        (TEXAS, "US", "America/Chicago", utc(2026, 11, 30, 14, 59), datetime(2026, 11, 30, 9)),
        (RHODE_ISLAND, "US", "America/New_York", utc(2026, 11, 28, 22), datetime(2026, 11, 30, 9)),  # Saturday 17:00
        (RHODE_ISLAND, "US", "America/New_York", utc(2026, 11, 26, 15), datetime(2026, 11, 27, 9)),  # Thanksgiving
        (INDIA, "IN", "Asia/Kolkata", utc(2026, 12, 1, 4, 29), datetime(2026, 12, 1, 10)),  # 09:59
        (INDIA, "IN", "Asia/Kolkata", utc(2026, 12, 1, 15, 30), datetime(2026, 12, 2, 10)),  # 21:00
        (PARIS, "FR", "Europe/Paris", utc(2026, 12, 5, 19), datetime(2026, 12, 7, 8)),  # Saturday 20:00
        (PARIS, "FR", "Europe/Paris", utc(2027, 3, 29, 10), datetime(2027, 3, 30, 8)),  # Easter Monday
        (PARIS, "FR", "Europe/Paris", utc(2027, 5, 6, 10), datetime(2027, 5, 7, 8)),  # Ascension Day
        ("+4917012345678", "DE", "Europe/Berlin", utc(2026, 12, 1, 2), datetime(2026, 12, 1, 3)),
    ],
)
def test_the_law_of_the_phone_s_place(phone: str, country: str, zone: str, due: datetime, at: datetime) -> None:
    assert moved(phone, country, zone, due) == at


def test_transactional_texts_are_exempt_and_no_campaign_is() -> None:
    night = utc(2026, 12, 1, 7)
    free = QuietHours()
    exempt = decide(NEW_YORK, "US", "America/New_York", night, free, "transactional")
    assert isinstance(exempt, Allowed)
    assert exempt.due_at == night
    held = decide(NEW_YORK, "US", "America/New_York", night, free)
    assert isinstance(held, Allowed)
    assert held.due_at == utc(2026, 12, 1, 13)


def test_the_law_delays_where_the_campaign_discards() -> None:
    lunch = QuietHours([QuietWindow(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "08:00", "10:00")], "discard")
    night = decide(NEW_YORK, "US", "America/New_York", utc(2026, 12, 1, 7), lunch)
    assert isinstance(night, Allowed)  # not due in a window of its own: put off past both
    assert night.due_at == utc(2026, 12, 1, 15)
    inside = decide(NEW_YORK, "US", "America/New_York", utc(2026, 12, 1, 14), lunch)
    assert inside == Refused("quiet_hours", "in_quiet_hours")


def test_a_person_who_is_elsewhere_than_their_number_is_asleep_nowhere() -> None:
    """A Californian number in New York, or in the account's zone since no zone is known: both clocks count."""
    assert moved(CALIFORNIA, "US", "America/New_York", utc(2026, 12, 1, 13)) == datetime(2026, 12, 1, 11)
    assert moved(CALIFORNIA, "US", "Asia/Kolkata", utc(2026, 12, 1, 5)) == datetime(2026, 12, 2, 8)
    assert moved(TOLL_FREE, "US", "America/Chicago", utc(2026, 12, 1, 14)) == datetime(2026, 12, 1, 10)
    assert moved(INDIA, "IN", "Europe/London", utc(2026, 12, 1, 4, 30)) == datetime(2026, 12, 1, 4, 30)


def test_a_number_and_a_zone_without_a_common_hour_go_by_the_number() -> None:
    """A customer in Rhode Island whose zone is not known, of an account in India, must not be left out for ever."""
    outcome = decide(RHODE_ISLAND, "US", "Asia/Kolkata", utc(2026, 12, 1, 4))
    assert isinstance(outcome, Allowed)
    assert outcome.due_at == utc(2026, 12, 1, 14)
    assert outcome.intervals[-1].end == utc(2026, 12, 1, 18)


def is_closed_by_the_file(rule: dict[str, Any], shown: datetime) -> bool:
    """Read from the file, not from the code's form of it."""
    day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][shown.weekday()]
    hours = [h for h in rule["allowed"] if day in h["days"]]
    return not any(h["from"] <= f"{shown:%H:%M}" < h["to"] for h in hours)


def phones() -> Iterator[tuple[str, str, str]]:
    for rule in document()["rules"]:
        for area_code in rule.get("area_codes", ["212"]) if "US" in rule["countries"] else [""]:
            phone = {"IN": INDIA, "FR": PARIS}.get(rule["id"], f"+1{area_code}5550123")
            if not rule["id"].startswith("FR-"):  # those of the oversea departments differ from FR in holidays alone
                yield rule["id"], phone, rule["countries"][0]


@settings(max_examples=250, deadline=None)
@given(
    whom=st.sampled_from(list(phones())),
    zone=st.sampled_from(["America/New_York", "America/Denver", "Pacific/Honolulu", "Europe/Paris", "Asia/Kolkata"]),
    minute=st.integers(0, 2 * 366 * 24 * 60),
    hours=st.integers(1, 96),
    account=st.booleans(),
)
def test_never_weaker_than_the_law(
    whom: tuple[str, str, str], zone: str, minute: int, hours: int, account: bool
) -> None:
    """No minute of any allowed interval is closed by a rule of the place, on the person's clock or the country's."""
    rule_id, phone, country = whom
    rules = [rule for rule in document()["rules"] if rule["id"] in (rule_id, country)]
    own = QuietHours([QuietWindow(["mon", "thu"], "12:00", "02:00")]) if account else QuietHours()
    due = utc(2026, 1, 1) + minute * MINUTE
    outcome = QuietPlan(None, own, "promotional").decide(due, hours * HOUR, zone, phone, country)
    if isinstance(outcome, Refused):
        assert outcome.reason == "never_allowed"
        return
    assert outcome.due_at >= due
    assert outcome.intervals[0].start == outcome.due_at
    clocks_of_number = set(time_zones_for_number(parse(phone)))
    if "Etc/Unknown" in clocks_of_number:
        clocks_of_number = {"America/New_York", "America/Los_Angeles"}
    # Where no hour is open on both clocks, the number's alone counts: test_a_number_and_a_zone_without_a_common_hour….
    both = clocks_of_number | ({zone} if zone.startswith(("America/", "Pacific/")) else set())
    for interval in outcome.intervals:
        length = (interval.end - interval.start) // MINUTE
        minutes = {interval.start + n * MINUTE for n in range(0, length, 13)} | {interval.end - MINUTE / 60}
        for rule in rules:
            clocks = {"IN": {"Asia/Kolkata"}, "FR": {"Europe/Paris"}}.get(rule["id"], both)
            for clock in clocks:
                for at in minutes:
                    shown = at.astimezone(load_zone(clock)).replace(tzinfo=None)
                    assert not is_closed_by_the_file(rule, shown), (rule["id"], clock, shown)


def test_every_rule_has_its_source_and_says_what_was_verified() -> None:
    for rule in document()["rules"]:
        assert rule["source"]
        assert rule["verified"]
        assert rule["clock"] in ("recipient", "country")
        assert rule["countries"]
        for hours in rule["allowed"]:
            assert re.fullmatch(r"\d\d:\d\d", hours["from"])
            assert hours["from"] < hours["to"]
    ids = [rule.id for rule in legal_rules()]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_the_file_says() -> None:
    page = (Path(__file__).parents[4] / "docs" / "scheduling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (\d+:\d\d)–(\d+:\d\d)(.*?) \|$", page, re.MULTILINE)
    said = {
        state: (start, end, "Sundays" in more and "Sundays from" not in more, "holidays" in more)
        for states, start, end, more in rows
        for state in states.split(", ")
    }
    for rule in document()["rules"]:
        weekday = next(hours for hours in rule["allowed"] if "mon" in hours["days"])
        state = {"US": "United States and territories", "IN": "India", "FR": "France and its overseas departments"}.get(
            rule["id"], rule["id"].removeprefix("US-")
        )
        if not rule["id"].startswith("FR-"):
            closed = not any("sun" in hours["days"] for hours in rule["allowed"])
            hours = (weekday["from"].lstrip("0"), weekday["to"].lstrip("0"))
            assert said[state] == (*hours, closed, "closed_on" in rule), state


def test_states_are_only_ever_stricter_than_the_federation() -> None:
    federal = next(rule for rule in legal_rules() if rule.id == "US")
    for rule in legal_rules():
        if not rule.id.startswith("US-"):
            continue
        assert rule.allowed != federal.allowed or rule.holidays
        for state, whole in zip(rule.allowed, federal.allowed, strict=True):
            assert whole is not None
            assert state is None or (state[0] >= whole[0] and state[1] <= whole[1])


def test_area_codes_are_those_of_the_numbering_plan() -> None:
    """Every area code of a stricter state is in the file, as far as the phonenumbers package names states, and those
    that it does not place at all and that were announced."""
    announced = {"AL": "483", "KY": "761", "LA": "457", "MI": "679", "MN": "924", "MS": "471", "TX": "621"}
    named: dict[str, set[str]] = {}
    for prefix, names in GEOCODE_DATA.items():
        if prefix.startswith("1") and len(prefix) >= 4 and "en" in names:
            named.setdefault(prefix[1:4], set()).add(names["en"])
    for rule in legal_rules():
        if rule.id.startswith("US-"):
            state = rule.id[3:]
            expected = {
                code
                for code, places in named.items()
                if STATES[state] in places or any(place.endswith(f", {state}") for place in places)
            }
            new = {announced[state]} - named.keys() if state in announced else set()
            assert rule.area_codes == expected | new, state
    taken = [code for rule in legal_rules() for code in rule.area_codes]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize(
    ("rule_id", "day", "is_closed"),
    [
        ("US-RI", date(2026, 7, 3), True),  # the 4th is a Saturday
        ("US-RI", date(2027, 7, 5), True),  # the 4th is a Sunday
        ("US-RI", date(2027, 12, 31), True),  # New Year 2028 is a Saturday
        ("US-RI", date(2026, 11, 26), True),  # fourth Thursday
        ("US-RI", date(2026, 5, 25), True),  # last Monday of May
        ("US-RI", date(2026, 11, 3), True),  # general election
        ("US-RI", date(2027, 11, 2), False),  # none in odd years
        ("US-LA", date(2027, 2, 9), True),  # Mardi Gras
        ("US-LA", date(2027, 11, 1), True),  # All Saints
        ("US-OR", date(2026, 12, 25), False),
        ("US-UT", date(2026, 7, 24), True),
        ("FR-RE", date(2027, 12, 20), True),  # abolition of slavery
        ("FR-MQ", date(2026, 12, 20), True),  # a Sunday
        ("FR-MQ", date(2027, 12, 20), False),
        ("US-FL", date(2026, 12, 25), False),  # Florida closes on no day
        ("FR", date(2027, 5, 17), True),  # Whit Monday
        ("FR", date(2026, 7, 13), False),
    ],
)
def test_holidays(rule_id: str, day: date, is_closed: bool) -> None:
    rule = next(rule for rule in legal_rules() if rule.id == rule_id)
    stretches = list(rule.quiet_locals(day))
    assert (sum((end - start for start, end in stretches), timedelta(0)) == DAY) == is_closed


def test_whom_no_rule_knows_is_bound_by_none() -> None:
    assert place_of("+4917012345678", "DE").rules == ()
    assert place_of("+14165550123", "CA").rules == ()
    assert place_of(NEW_YORK, None).rules == ()
    assert [rule.id for rule in place_of("+17875550123", "PR").rules] == ["US"]
    assert [rule.id for rule in place_of(FLORIDA, "US").rules] == ["US", "US-FL"]


def test_a_number_of_a_range_that_is_not_known_yet_is_not_texted_at_night() -> None:
    """+1 621 is Houston since 2025. No zone of it is known: it leaves when it is nine in Los Angeles, too."""
    houston, nobody_s = normalise("+16215550123"), normalise("+19995550123")
    assert houston.e164 is not None
    assert nobody_s.e164 is not None
    assert [rule.id for rule in place_of(houston.e164, houston.country).rules] == ["US", "US-TX"]
    assert [rule.id for rule in place_of(nobody_s.e164, nobody_s.country).rules] == ["US"]
    assert moved(houston.e164, "US", "America/Chicago", utc(2026, 12, 1, 8)) == datetime(2026, 12, 1, 11)


def test_windows_of_a_campaign_do_not_move_a_text_to_where_the_person_sleeps() -> None:
    """The law alone leaves an hour on both clocks, 18:30 to 21:00 in India; the campaign's windows leave none of it."""
    evening = QuietHours([QuietWindow(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "02:00", "22:00")])
    assert decide(NEW_YORK, "US", "Asia/Kolkata", utc(2026, 12, 1, 13), evening) == Refused(
        "quiet_hours", "never_allowed"
    )


def test_a_million_people_cost_a_look_up_each() -> None:
    """What was worked out for a zone and a rule set is the same object for the next person."""
    plan = QuietPlan(None, QuietHours(), "promotional")
    due = utc(2026, 12, 1, 9)
    zones = all_zones()[:40]
    first = {zone: plan.decide(due, HOUR, zone, NEW_YORK, "US") for zone in zones}
    again = (plan.decide(due, HOUR, zone, f"+1212555{n:04d}", "US") for n in range(50) for zone in zones)
    assert all(outcome is first[zone] for outcome, zone in zip(again, zones * 50, strict=True))

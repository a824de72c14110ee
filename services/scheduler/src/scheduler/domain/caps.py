"""Frequency caps and minimum gaps: may this person get another text? Pure: reservations in, a reservation or a no out.

Until a text is settled nobody knows on which day it left: it counts on every local day from its due to its deadline,
and its moment may be any in between. Settlement shrinks it to what happened; a definite failure releases it; what is in
doubt counts as sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache

from postrider.contracts.definitions import AccountSettings, Who
from postrider.zones import load_zone

CAPPED = "capped"
MIN_GAP = "min_gap"
CAMPAIGN_MIN_GAP = "campaign_min_gap"

LEDGER_DAYS = 400
"""Longer than any gap or cap."""

_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A text that was, or may yet be, sent to a person. Days are the person's own, both included."""

    message_id: str
    campaign_id: str
    first_at: datetime
    last_at: datetime
    first_day: date
    last_day: date
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Caps:
    """What holds for the texts of one campaign. `frequency`: (count, days); gaps are zero where there is none."""

    frequency: tuple[tuple[int, int], ...] = ()
    min_gap: timedelta = timedelta(0)
    campaign_min_gap: timedelta = timedelta(0)

    def __bool__(self) -> bool:
        return bool(self.frequency or self.min_gap or self.campaign_min_gap)

    @property
    def reach(self) -> timedelta:
        """How far from a text others can matter: reservations further away need not be looked up."""
        days = max((days for _, days in self.frequency), default=0)
        return max(days * _DAY, self.min_gap, self.campaign_min_gap) + 2 * _DAY


@dataclass(frozen=True, slots=True)
class Capped:
    """`reason`: `2_per_1_days` (a cap by its numbers), `min_gap` or `campaign_min_gap`."""

    reason: str


def caps_of(settings: AccountSettings, who: Who) -> Caps:
    """A campaign that opts out is free of the account's caps and gap, not of its own gap. Its texts still count for the
    others: the person did get them."""
    campaign_min_gap = timedelta(seconds=who.min_gap_seconds)
    if who.ignore_frequency_caps:
        return Caps(campaign_min_gap=campaign_min_gap)
    frequency = tuple(sorted({(cap.count, cap.days) for cap in settings.frequency_caps if cap.days > 0}))
    return Caps(frequency, timedelta(seconds=settings.min_gap_seconds), campaign_min_gap)


def reserved(message_id: str, campaign_id: str, due_at: datetime, send_by: datetime, zone: str) -> Reservation:
    """The reservation of a text that may leave in [due_at, send_by), on the calendar of that zone."""
    last_at = max(due_at, send_by - _MICROSECOND)
    first_day, last_day = _days(due_at, last_at, zone)
    return Reservation(message_id, campaign_id, due_at, last_at, first_day, last_day, zone)


@lru_cache(maxsize=4096)
def _days(first_at: datetime, last_at: datetime, zone: str) -> tuple[date, date]:
    """The same for everybody of a run who shares a zone."""
    clock = load_zone(zone)
    return first_at.astimezone(clock).date(), last_at.astimezone(clock).date()


def reserve(wanted: Reservation, others: Iterable[Reservation], caps: Caps) -> Reservation | Capped:
    """Whether a person may get this text beside all `others` of theirs, of any campaign, in any order of time.

    A reservation of the same message is not another text: asking again answers yes.
    """
    known = [other for other in others if other.message_id != wanted.message_id]
    for count, days in caps.frequency:
        if _most_in_window(wanted, known, days) >= count:
            return Capped(f"{count}_per_{days}_days")
    if any(_is_within(wanted, other, caps.min_gap) for other in known):
        return Capped(MIN_GAP)
    of_campaign = (other for other in known if other.campaign_id == wanted.campaign_id)
    if any(_is_within(wanted, other, caps.campaign_min_gap) for other in of_campaign):
        return Capped(CAMPAIGN_MIN_GAP)
    return wanted


def settled(reservation: Reservation, first_at: datetime, last_at: datetime) -> Reservation:
    """What is known once the text left between these moments; they are one where it is known when."""
    clock = load_zone(reservation.zone)
    first_day, last_day = first_at.astimezone(clock).date(), last_at.astimezone(clock).date()
    return replace(reservation, first_at=first_at, last_at=last_at, first_day=first_day, last_day=last_day)


def forgotten_at(newest: Reservation) -> datetime:
    """What lies before it matters to nothing any more."""
    return newest.first_at - LEDGER_DAYS * _DAY


def released(reservations: Sequence[Reservation], message_id: str) -> list[Reservation]:
    """Without the text that was definitely not sent."""
    return [reservation for reservation in reservations if reservation.message_id != message_id]


def _most_in_window(wanted: Reservation, others: Sequence[Reservation], days: int) -> int:
    """The most others in any stretch of that many days that the wanted text may fall into.

    The fullest stretch is the first one, or one that just reaches the first day of another.
    """
    if not others:
        return 0
    earliest, latest = wanted.first_day - (days - 1) * _DAY, wanted.last_day
    starts = {earliest} | {min(max(other.first_day - (days - 1) * _DAY, earliest), latest) for other in others}
    return max(
        sum(other.first_day <= start + (days - 1) * _DAY and other.last_day >= start for other in others)
        for start in starts
    )


def _is_within(one: Reservation, other: Reservation, gap: timedelta) -> bool:
    """Whether the two may come closer than the gap; exactly the gap apart is far enough."""
    if not gap:
        return False
    return one.first_at < other.last_at + gap and other.first_at < one.last_at + gap

"""A campaign's `when`, kind by kind."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from campaign_api.api.models.base import Model

Duration = Annotated[str, Field(max_length=40)]
_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


def _is_clock(value: str) -> str:
    if not re.fullmatch(_CLOCK, value):
        raise PydanticCustomError("clock", 'must be a time of a 24-hour clock, such as "09:00"')
    return value


Clock = Annotated[str, AfterValidator(_is_clock), Field(json_schema_extra={"pattern": _CLOCK})]
Local = Annotated[str, Field(max_length=40)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

MAX_DATES = 366
MAX_TIMES = 24
MAX_WINDOWS = 21


class QuietWindow(Model):
    days: Annotated[list[Day], Field(min_length=1, max_length=7)] = Field(
        description="Days of the week on which the window begins, in the recipient's zone."
    )
    from_: Clock = Field(alias="from", description="First quiet minute.")
    to: Clock = Field(description="First minute after it; at or before `from`: on the next day.")


class QuietHours(Model):
    """When a recipient is left in peace, on their own clock. Legal quiet hours of promotional texts come on top."""

    windows: Annotated[list[QuietWindow], Field(max_length=MAX_WINDOWS)] = Field(
        description="Empty: none, the account's neither."
    )
    on_hit: Literal["discard", "delay"] = Field(
        "delay", description="A text due inside: not sent (`quiet_hours`), or sent when the window is over."
    )


class When(Model):
    """What every kind shares."""

    send_by: Duration | None = Field(
        None, description="Deadline after due, ISO 8601 duration; later is `expired`. Null: the account's, else PT4H."
    )
    quiet_hours: QuietHours | None = Field(None, description="Null: the account's.")
    throttle_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="Texts handed to providers per minute, evenly; null: as fast as they take them."
    )


class ScheduledWhen(When):
    time_zone: str = Field(
        "account",
        max_length=64,
        description='On whose clock: "account", "user" (the recipient\'s own), "best_time" (their most active '
        "two hours of that local day, needs fallback_time), or an IANA zone for everybody.",
    )
    passed_zone: Literal["drop", "next_day", "send_now"] = Field(
        "drop", description="What happens in zones whose local time is over when the campaign is scheduled."
    )
    catch_up: Duration | None = Field(
        None, description="How late it still fires after downtime, ISO 8601 duration. Null: PT1H."
    )
    fallback_time: Clock | None = Field(
        None, description="best_time: the local time of people of whom nothing is known. Null with other zones."
    )
    best_time_event: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="best_time: the event that shows when people are active. Null: any.",
    )


class OneTimeWhen(ScheduledWhen):
    """When a campaign of kind one_time fires."""

    at: Local = Field(
        description='Local date and time without offset (2026-12-01T09:00:00), or "now". Refused when it is past: '
        "for `user` past in every zone on Earth, else past in the zone."
    )


class MultipleDatesWhen(ScheduledWhen):
    """When a campaign of kind multiple_dates fires."""

    at: Annotated[list[Local], Field(min_length=1, max_length=MAX_DATES)] = Field(
        description="Local dates and times without offset, each once; each has a run with an audience of its own."
    )


class RecurringWhen(ScheduledWhen):
    """When a campaign of kind recurring fires."""

    recurrence: str = Field(
        min_length=6, max_length=500, description="RFC 5545 RRULE of days, without DTSTART: FREQ=MONTHLY;BYMONTHDAY=7"
    )
    times: Annotated[list[Clock], Field(min_length=1, max_length=MAX_TIMES)] = Field(
        description="Local times on each of its days."
    )
    start: Local | None = Field(
        None,
        description="Local date and time, or day, before which nothing is due, where the rule begins to count. Null: "
        "when it is scheduled.",
    )
    end: Local | None = Field(
        None, description="Local date and time, or day, after which nothing is due or sent; null: none."
    )
    short_month: Literal["last_day", "skip"] = Field(
        "skip", description="A day that a month or year does not have (31, 29 February): its last day instead, or not."
    )


class LiveWhen(When):
    """A live campaign fires when its trigger says so; `{}` is enough."""

    time_zone: str = Field(
        "account",
        max_length=64,
        description='The clock of `start` and `end`: "account" or an IANA zone. "user" is taken for the account\'s.',
    )
    send_by: Duration | None = Field(
        None,
        description="Deadline after due, ISO 8601 duration. An event older than that on arrival triggers and arms "
        "nothing. Null: the account's, else PT15M.",
    )
    start: Local | None = Field(
        None, description="Local date and time, or day, before which nothing triggers; null: none."
    )
    end: Local | None = Field(None, description="Local date and time, or day, after which nothing is sent; null: none.")
    delay: Duration | None = Field(
        None,
        description="live_action: the text is due so long after the event, ISO 8601 duration, at most P30D; `send_by` "
        "counts from there. Null: at once. live_inaction has `within`, live_date `offset` for it.",
    )
    catch_up: None = Field(None, description="Of no meaning here: null.")

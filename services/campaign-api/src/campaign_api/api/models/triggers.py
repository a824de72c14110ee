"""What starts a text of a live campaign: one shape for each kind. Meanings are checked in domain/trigger_checks.py."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from campaign_api.api.models.base import Model

MAX_EVENT = 512
MAX_NAME = 120
MAX_FILTERS = 100
_FIELDS = (
    "event", "where", "unless", "within", "same_property", "repeat", "date_property", "date_attribute", "offset",
    "at_local_time", "yearly",
)  # fmt: skip


class _Trigger(Model):
    """A field of another kind's trigger may be there as null: a front end with one form for all sends them all."""

    nothing: ClassVar[dict[str, Any]] = {"yearly": False}

    @model_validator(mode="before")
    @classmethod
    def _without_what_other_kinds_have(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        own = cls.model_fields
        return {
            name: value
            for name, value in body.items()
            if name in own or name not in _FIELDS or (value is not None and value is not cls.nothing.get(name))
        }


class Trigger(_Trigger):
    """The event that a live campaign answers."""

    event: str = Field(min_length=1, max_length=MAX_EVENT, description="Name of the event, exactly.")
    where: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=MAX_FILTERS,
        description="Filters on its properties, as inside `did`; all must hold.",
    )


class Unless(Model):
    event: str = Field(min_length=1, max_length=MAX_EVENT, description="Name of the event, exactly.")
    where: list[dict[str, Any]] = Field(
        default_factory=list, max_length=MAX_FILTERS, description="Filters on its properties; all must hold."
    )


class InactionTrigger(Trigger):
    """`event`, and then nothing that `unless` says within `within`."""

    unless: Unless = Field(description="What keeps the text from being sent, when it happens in time.")
    within: str = Field(
        max_length=40,
        description="ISO 8601 duration, PT1S to P30D. The text is due this long after the event; what `unless` says "
        "counts from the event's own time to then, both included.",
    )
    same_property: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME,
        description="A property that must have the same value in both events (text, number or boolean, compared by "
        "type). An event without it arms nothing and disarms nothing. Null: any.",
    )
    repeat: Literal["keep", "restart"] = Field(
        "keep",
        description="The event again while a text is armed: `keep` the armed one as it is, or `restart` the time from "
        "the newer event.",
    )


class DateTrigger(_Trigger):
    """A date of a profile (`date_attribute`), or of an event (`event` and `date_property`)."""

    event: str | None = Field(None, min_length=1, max_length=MAX_EVENT, description="Name of the event, exactly.")
    where: list[dict[str, Any]] = Field(
        default_factory=list, max_length=MAX_FILTERS, description="Filters on its properties; all must hold."
    )
    date_property: str | None = Field(
        None, min_length=1, max_length=MAX_NAME, description="The event's property that holds the date."
    )
    date_attribute: str | None = Field(
        None, min_length=1, max_length=MAX_NAME, description="The profile's attribute that holds the date."
    )
    offset: str = Field(
        "PT0S", max_length=40, description="ISO 8601 duration, signed: -P1D is a day before. At most 365 days."
    )
    at_local_time: str | None = Field(
        None,
        max_length=5,
        description='"HH:MM" on the recipient\'s clock, on the day that date and offset make. Null: the moment itself '
        "(of a date without time: the start of the day in the account's zone).",
    )
    yearly: bool = Field(
        False, description="Every year from that date on; 29 February is 28 February in years without it."
    )

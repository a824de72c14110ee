"""What a builder of segments and texts offers: names that were seen, with types and examples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from campaign_api.api.models.base import Model

Type = Literal["text", "number", "bool", "date", "list", "object"]


class Seen(Model):
    name: str = Field(description="The name, exactly as it was sent.")
    types: list[Type] = Field(
        description="Types its values had, the most frequent first. `date` is text that can be read as a date; of an "
        "`object` only `exists` can be asked."
    )
    examples: list[Any] = Field(
        description="Up to five values that were seen. None of phones, e-mail addresses and names of people, none over "
        "100 characters, none of objects."
    )
    count: int = Field(
        description="How often it was written: events with the property, or updates of profiles with the attribute. A "
        "service that is killed may miss the last two seconds."
    )
    last_seen_at: str = Field(description="RFC 3339, UTC: time of the last event with it, to the minute.")


class SeenEvent(Model):
    name: str = Field(description="The event's name, exactly as it was sent.")
    count: int = Field(description="How many there were.")
    last_seen_at: str = Field(description="RFC 3339, UTC: time of the last one.")
    properties: list[Seen] = Field(description="Its properties, the most frequent first; the 200 that are used most.")
    properties_left_out: int = Field(description="How often others were used.")


class EventCatalog(Model):
    items: list[SeenEvent] = Field(description="In the order of names.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null when this was the last.")
    left_out: int = Field(description="How often events came whose names are in no page: the 1,000 used most are kept.")


class AttributeCatalog(Model):
    items: list[Seen] = Field(description="In the order of names.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null when this was the last.")
    left_out: int = Field(
        description="How often attributes were written that are in no page: the 1,000 used most are kept."
    )

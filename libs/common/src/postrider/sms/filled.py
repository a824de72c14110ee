"""What a provider with templates or parameters of its own is given for one person, and how people read it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """A field of `what` that holds a template; `key`: the number of a variable, the name of a pair."""

    field: str
    key: str = ""

    @property
    def pointer(self) -> str:
        """Below `what`, without its first slash."""
        key = self.key.replace("~", "~0").replace("/", "~1")
        return f"{self.field}/{key}" if key else self.field


@dataclass(frozen=True, slots=True)
class Filled:
    """Rendered: the campaign's `template_id`, its `template_variables` in their order, and the pairs by their names."""

    template_id: str | None = None
    variables: tuple[str, ...] = ()
    message_pairs: tuple[tuple[str, str], ...] = ()
    header_pairs: tuple[tuple[str, str], ...] = ()
    global_pairs: tuple[tuple[str, str], ...] = ()

    @property
    def readable(self) -> str:
        """For the message log, where the text itself is the vendor's: which template, and with what."""
        pairs = [*self.message_pairs, *self.header_pairs, *self.global_pairs]
        values = [*self.variables, *(f"{name}={value}" for name, value in pairs)]
        named = f"template {self.template_id}" if self.template_id else "template"
        return f"{named}: {' | '.join(values)}" if values else named


NOTHING_FILLED = Filled()


def filled_of(rendered: Iterable[tuple[Place, str]]) -> Filled:
    """Of the places of one `what`, in their order."""
    by_field: dict[str, list[tuple[str, str]]] = {}
    for place, text in rendered:
        by_field.setdefault(place.field, []).append((place.key, text))
    of = {field: tuple(found) for field, found in by_field.items()}
    return Filled(
        template_id=next((text for _, text in of.get("template_id", ())), None),
        variables=tuple(text for _, text in of.get("template_variables", ())),
        message_pairs=of.get("message_pairs", ()),
        header_pairs=of.get("header_pairs", ()),
        global_pairs=of.get("global_pairs", ()),
    )

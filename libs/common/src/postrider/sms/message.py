"""One message from a campaign's `what`: body or fallback, encoding, parts, and the values of a provider's templates. A
pure decision; it sends nothing.

Reasons of `personalisation_failed` (semantics.md §6, §8): missing_value, empty, too_long, too_many_parts,
unsendable_text, render_error, and limit_<what> for a rendering that was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from postrider.contracts.definitions import Content
from postrider.sms.analysis import References
from postrider.sms.encoding import Encoding, UnsendableText, analyse, transliterate
from postrider.sms.errors import TemplateError
from postrider.sms.filled import NOTHING_FILLED, Filled, Place, filled_of
from postrider.sms.template import (
    MAX_CACHED,
    MAX_TEXT,
    Aborted,
    LimitExceeded,
    Missing,
    Rendered,
    RenderFailed,
    Result,
    Template,
    TooLong,
    Values,
    compile_body,
    render,
)

MAX_VALUE: Final = 2_000
"""Characters of a rendered value of a template."""
MAX_COSTLY: Final = 10
"""Templates that are not plain, of a message that is rendered in the process."""


@dataclass(frozen=True, slots=True)
class MessageSource:
    """What of a campaign's `what` is rendered. `max_parts` None: any number. `body` "": the provider has none.
    `places`: the other templates, by where they stand."""

    body: str
    kind_is_live: bool
    fallback_body: str | None = None
    max_parts: int | None = None
    transliterate: bool = False
    max_length: int = MAX_TEXT
    places: tuple[tuple[Place, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A checked MessageSource."""

    source: MessageSource
    body: Template
    fallback: Template | None
    values: tuple[tuple[Place, Template], ...] = ()

    @property
    def is_simple(self) -> bool:
        """Whether render_message may be called in the process: each template is bounded, and so are all together."""
        costly = sum(not template.is_plain for template in self._templates())
        return costly <= MAX_COSTLY and all(template.is_simple for template in self._templates())

    @property
    def references(self) -> References:
        """What any of its templates refers to."""
        return reduce(or_, (template.references for template in self._templates()))

    @property
    def has_body(self) -> bool:
        return self.source.body != ""

    def _templates(self) -> Iterator[Template]:
        yield self.body
        if self.fallback is not None:
            yield self.fallback
        yield from (template for _, template in self.values)


class MessageError(ValueError):
    """A template error and the field of `what` that has it, as a pointer without its first slash."""

    def __init__(self, field: str, error: TemplateError) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error


class Text(Struct, frozen=True):
    """What is to be sent. `text` is empty where the provider has only templates: then its parts are not known."""

    text: str
    encoding: Encoding
    parts: int
    is_fallback: bool = False
    filled: Filled = NOTHING_FILLED


class NotSent(Struct, frozen=True):
    """Why there is nothing to send. `reason` is a code, or the author's own for aborted; `detail` is for people and
    names no value."""

    status: Literal["aborted", "personalisation_failed"]
    reason: str
    detail: str = ""


Outcome = Text | NotSent


NO_TEXT: Final = Text("", "GSM-7", 1)


def source_of(content: Content, kind_is_live: bool, max_parts: int | None, transliterate: bool) -> MessageSource:
    """What is rendered of the content for one provider."""
    return MessageSource(
        content.body, kind_is_live, content.fallback_body, max_parts, transliterate, places=_places(content)
    )


def _places(content: Content) -> tuple[tuple[Place, str], ...]:
    found = [] if content.template_id is None else [(Place("template_id"), content.template_id)]
    found += [(Place("template_variables", str(n)), text) for n, text in enumerate(content.template_variables)]
    for field, pairs in (
        ("message_pairs", content.message_pairs),
        ("header_pairs", content.header_pairs),
        ("global_pairs", content.global_pairs),
    ):
        found += [(Place(field, name), text) for name, text in pairs.items()]
    return tuple(found)


@lru_cache(maxsize=MAX_CACHED)
def compile_message(source: MessageSource) -> Message:
    """Parse and check all its templates; cached. Raises MessageError."""

    def compiled(field: str, text: str) -> Template:
        try:
            return compile_body(text, kind_is_live=source.kind_is_live)
        except TemplateError as error:
            raise MessageError(field, error) from error

    return Message(
        source,
        compiled("body", source.body),
        None if source.fallback_body is None else compiled("fallback_body", source.fallback_body),
        tuple((place, compiled(place.pointer, text)) for place, text in source.places),
    )


def render_message(message: Message, values: Values) -> Outcome:
    """What is sent to one person, or why there is nothing. Raises NotSimple when a RenderPool is needed."""
    outcome = _render_text(message, values)
    if not message.values or isinstance(outcome, NotSent):
        return outcome
    return with_values(message, outcome, [render(each, values, max_length=MAX_VALUE) for _, each in message.values])


def _render_text(message: Message, values: Values) -> Outcome:
    if not message.has_body:
        return NO_TEXT
    limit = message.source.max_length
    result = render(message.body, values, max_length=limit)
    if needs_fallback(message, result):
        assert message.fallback is not None
        return outcome_of(message, render(message.fallback, values, max_length=limit), is_fallback=True)
    return outcome_of(message, result)


def with_values(message: Message, text: Text, results: Sequence[Result]) -> Outcome:
    """The text with what became of `message.values`, or why it is not sent: there is no fallback for a value."""
    rendered: list[tuple[Place, str]] = []
    for (place, _), result in zip(message.values, results, strict=True):
        if not isinstance(result, Rendered):
            return _not_sent(result)
        rendered.append((place, result.text))
    return replace(text, filled=filled_of(rendered))


def needs_fallback(message: Message, result: Result) -> bool:
    """The fallback is for missing values only: a body that fails otherwise is a mistake to be seen."""
    return message.fallback is not None and isinstance(result, Missing)


def outcome_of(message: Message, result: Result, *, is_fallback: bool = False) -> Outcome:
    """What becomes of a rendering of the body, or of the fallback."""
    if isinstance(result, Rendered):
        return _encode(message.source, result.text, is_fallback=is_fallback)
    return _not_sent(result)


def _not_sent(result: Aborted | Missing | TooLong | LimitExceeded | RenderFailed) -> NotSent:
    match result:
        case Aborted(reason):
            return NotSent("aborted", reason)
        case Missing(names):
            return NotSent("personalisation_failed", "missing_value", ", ".join(names)[:500])
        case TooLong(limit):
            return NotSent("personalisation_failed", "too_long", f"more than {limit} characters")
        case LimitExceeded(reason):
            return NotSent("personalisation_failed", f"limit_{reason}")
        case RenderFailed(detail):
            return NotSent("personalisation_failed", "render_error", detail)


def _encode(source: MessageSource, text: str, *, is_fallback: bool) -> Outcome:
    if source.transliterate:
        text = transliterate(text)
    if not text.strip():
        return NotSent("personalisation_failed", "empty")
    try:
        encoded = analyse(text)
    except UnsendableText as error:
        return NotSent("personalisation_failed", "unsendable_text", f"U+{error.code_point:04X}")
    if source.max_parts is not None and encoded.parts > source.max_parts:
        return NotSent("personalisation_failed", "too_many_parts", f"{encoded.parts} > {source.max_parts}")
    return Text(text, encoded.encoding, encoded.parts, is_fallback)

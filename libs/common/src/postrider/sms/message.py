"""One message from a campaign's text: body or fallback, encoding, parts. A pure decision; it sends nothing.

Reasons of `personalisation_failed` (semantics.md §6, §8): missing_value, empty, too_long, too_many_parts,
unsendable_text, render_error, and limit_<what> for a rendering that was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from postrider.sms.analysis import References
from postrider.sms.encoding import Encoding, UnsendableText, analyse, transliterate
from postrider.sms.errors import TemplateError
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


@dataclass(frozen=True, slots=True)
class MessageSource:
    """The text part of a campaign's `what`. `max_parts` None: any number."""

    body: str
    kind_is_live: bool
    fallback_body: str | None = None
    max_parts: int | None = None
    transliterate: bool = False
    max_length: int = MAX_TEXT


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A checked MessageSource."""

    source: MessageSource
    body: Template
    fallback: Template | None

    @property
    def is_simple(self) -> bool:
        """Whether render_message may be called in the process."""
        return self.body.is_simple and (self.fallback is None or self.fallback.is_simple)

    @property
    def references(self) -> References:
        """What body and fallback refer to."""
        return self.body.references if self.fallback is None else self.body.references | self.fallback.references


class MessageError(ValueError):
    """A template error and the field of `what` that has it."""

    def __init__(self, field: Literal["body", "fallback_body"], error: TemplateError) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error


@dataclass(frozen=True, slots=True)
class Text:
    """What is to be sent."""

    text: str
    encoding: Encoding
    parts: int
    is_fallback: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    """Why there is nothing to send. `reason` is a code, or the author's own for aborted; `detail` is for people and
    names no value."""

    status: Literal["aborted", "personalisation_failed"]
    reason: str
    detail: str = ""


Outcome = Text | NotSent


@lru_cache(maxsize=MAX_CACHED)
def compile_message(source: MessageSource) -> Message:
    """Parse and check both texts; cached. Raises MessageError."""
    fallback: Template | None = None
    try:
        body = compile_body(source.body, kind_is_live=source.kind_is_live)
    except TemplateError as error:
        raise MessageError("body", error) from error
    if source.fallback_body is not None:
        try:
            fallback = compile_body(source.fallback_body, kind_is_live=source.kind_is_live)
        except TemplateError as error:
            raise MessageError("fallback_body", error) from error
    return Message(source, body, fallback)


def render_message(message: Message, values: Values) -> Outcome:
    """The final text for one person, or why there is none. Raises NotSimple when a RenderPool is needed."""
    limit = message.source.max_length
    result = render(message.body, values, max_length=limit)
    if needs_fallback(message, result):
        assert message.fallback is not None
        return outcome_of(message, render(message.fallback, values, max_length=limit), is_fallback=True)
    return outcome_of(message, result)


def needs_fallback(message: Message, result: Result) -> bool:
    """The fallback is for missing values only: a body that fails otherwise is a mistake to be seen."""
    return message.fallback is not None and isinstance(result, Missing)


def outcome_of(message: Message, result: Result, *, is_fallback: bool = False) -> Outcome:
    """What becomes of a rendering of the body, or of the fallback."""
    match result:
        case Rendered(text):
            return _encode(message.source, text, is_fallback=is_fallback)
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

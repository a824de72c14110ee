"""A message body: parsed once, checked when the campaign is saved, rendered per person. Pure: no files, no clock.

The language is Liquid over `Profile.*`, `Event.*`, `Campaign.*`, less what a text message cannot use; the exact subset,
the short forms and how values print are in docs/decisions/rendering-limits.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from liquid.exceptions import LiquidError, LoopIterationLimitError
from liquid.template import BoundTemplate
from msgspec import Struct

from postrider.sms.analysis import BadReference, Output, References, analyse_template
from postrider.sms.errors import TemplateError
from postrider.sms.filters import FilterFailed, is_default_worthy
from postrider.sms.language import MAX_OUTPUT, AbortRender, BoundedOutput, Context, Language, OutputTooLong
from postrider.sms.short_forms import MAX_SOURCE, shape
from postrider.sms.values import LimitReached, Values, simplest, text_of

MAX_TEXT: Final = 1_600
"""Characters of a rendered text: ten parts of GSM-7."""

MAX_CACHED: Final = 256
"""Compiled templates that are kept: an ordinary one takes 3 KB, the largest that is accepted 1 MB."""


class Rendered(Struct, frozen=True):
    """The text."""

    text: str


@dataclass(frozen=True, slots=True)
class Aborted:
    """The template dropped the message itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """Values that were to be printed, are absent or null, and have no default; in the order of the text."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TooLong:
    """The text came out longer than it may be."""

    limit: int


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """The rendering was stopped: `reason` is cpu, memory, time, loop, poison_template, or a limit of values.py."""

    reason: str


@dataclass(frozen=True, slots=True)
class RenderFailed:
    """A filter or comparison cannot be done with these values. The message names no value."""

    message: str


Result = Rendered | Aborted | Missing | TooLong | LimitExceeded | RenderFailed


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A checked body. `is_simple` templates may be rendered in the process; any other only by a RenderPool."""

    source: str
    kind_is_live: bool
    references: References
    is_simple: bool
    _bound: BoundTemplate
    _segments: tuple[str | Output, ...] | None

    @property
    def is_plain(self) -> bool:
        """Only text and values with literal defaults: rendered in microseconds."""
        return self._segments is not None


class NotSimple(RuntimeError):
    """A template that needs a RenderPool was to be rendered in the process."""


@lru_cache(maxsize=MAX_CACHED)
def compile_body(source: str, *, kind_is_live: bool = True) -> Template:
    """Parse and check a body; cached by source. Raises TemplateError with the line and column of the mistake.

    `kind_is_live` False refuses Event; True is for live campaigns and for callers that look at `references.event`.
    """
    shaped = shape(source)
    try:
        bound = _language().from_string(shaped.text)
        analysis = analyse_template(bound, kind_is_live=kind_is_live)
    except BadReference as error:
        raise TemplateError.at(error.message, source, shaped.original(error.index)) from error
    except LiquidError as error:
        message = str(error.message) if error.__cause__ is None else "this is nested too deeply or cannot be read"
        index = error.token.start_index if error.token and error.token.start_index >= 0 else 0
        raise TemplateError.at(message, source, shaped.original(index)) from error
    except RecursionError as error:
        raise TemplateError.at("the text is nested too deeply", source, 0) from error
    return Template(source, kind_is_live, analysis.references, analysis.is_simple, bound, analysis.segments)


def render(template: Template, values: Values, *, max_length: int = MAX_TEXT) -> Result:
    """Render in the process. Raises NotSimple for a template that may not be."""
    if template._segments is not None:
        return _render_segments(template._segments, values, max_length)
    if not template.is_simple:
        raise NotSimple("this template may only be rendered by a RenderPool")
    return render_unbounded(template, values, max_length=max_length)


def render_unbounded(template: Template, values: Values, *, max_length: int = MAX_TEXT) -> Result:
    """Render by the interpreter, whatever it costs: for templates that are simple, and for the render worker."""
    context = Context(template._bound, values)
    output = BoundedOutput()
    try:
        template._bound.render_with_context(context, output)
    except AbortRender as abort:
        return Aborted(abort.reason)
    except OutputTooLong:
        return TooLong(max_length)
    except LimitReached as limit:
        return LimitExceeded(str(limit))
    except LoopIterationLimitError:
        return LimitExceeded("loop")
    except FilterFailed as failure:
        return RenderFailed(str(failure))
    except LiquidError as error:
        # python-liquid's own messages at this point name types, never values.
        return RenderFailed(f"{error.message}")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return RenderFailed(type(error).__name__)
    if context.missing:
        return Missing(tuple(context.missing))
    text = output.getvalue()
    return Rendered(text) if len(text) <= max_length else TooLong(max_length)


def _render_segments(segments: tuple[str | Output, ...], values: Values, max_length: int) -> Result:
    """The same results as render_unbounded, for text and plain outputs only, many times faster."""
    roots: tuple[Mapping[str, object], ...] = (values.profile, values.event, values.campaign)
    pieces: list[str] = []
    missing: dict[str, None] = {}
    length = 0
    for segment in segments:
        if type(segment) is str:
            text: str | None = segment
        else:
            assert isinstance(segment, Output)
            try:
                value = simplest(roots[segment.root].get(segment.name))
                text = segment.default if segment.default is not None and is_default_worthy(value) else text_of(value)
            except LimitReached as limit:
                return LimitExceeded(str(limit))
            if text is None:
                missing[segment.spelling] = None
                continue
        assert text is not None
        length += len(text)
        if length > MAX_OUTPUT:
            return TooLong(max_length)
        pieces.append(text)
    if missing:
        return Missing(tuple(missing))
    return Rendered("".join(pieces)) if length <= max_length else TooLong(max_length)


@cache
def _language() -> Language:
    return Language()


__all__ = [
    "MAX_SOURCE",
    "MAX_TEXT",
    "Aborted",
    "LimitExceeded",
    "Missing",
    "NotSimple",
    "References",
    "RenderFailed",
    "Rendered",
    "Result",
    "Template",
    "TemplateError",
    "TooLong",
    "Values",
    "compile_body",
    "render",
    "render_unbounded",
]

"""The Liquid of text messages on python-liquid's parser: which tags exist, how names resolve, how output prints.

No files, no includes, no HTML escaping, no clock. Positions in python-liquid's errors are those of the shaped text;
template.py maps them back.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TextIO

from liquid import Environment
from liquid.ast import Node
from liquid.builtin import content, illegal
from liquid.builtin.expressions import FilteredExpression, Path, tokenize
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags import assign_tag, capture_tag, echo_tag, for_tag, if_tag, inline_comment_tag, unless_tag
from liquid.builtin.tags.case_tag import CaseNode, CaseTag, MultiExpressionBlockNode
from liquid.context import RenderContext
from liquid.exceptions import LiquidSyntaxError
from liquid.expression import Expression
from liquid.mode import Mode
from liquid.parser import get_parser
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EOF, TOKEN_EXPRESSION, TOKEN_OUTPUT, TOKEN_STRING, TOKEN_TAG, Token
from liquid.undefined import UNDEFINED

from postrider.sms.filters import FILTERS, guarded
from postrider.sms.short_forms import ROOTS
from postrider.sms.values import MissingValue, Values, simplest, text_of

MAX_OUTPUT: Final = 32_768
"""Characters written in one rendering or captured into one variable."""

_MAX_REASON: Final = 100


class AbortRender(Exception):
    """`{% abort "reason" %}` was reached."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutputTooLong(Exception):
    """More than MAX_OUTPUT was written."""


class Stream(TokenStream):
    """A token stream that knows where its end is, so that "unexpected end" has a position."""

    def __init__(self, tokens: Iterator[Token], end: int, source: str) -> None:
        super().__init__(tokens)
        self.eof = Token(TOKEN_EOF, TOKEN_EOF, end, source)

    def into_inner(self, *, tag: Token | None = None, eat: bool = True) -> TokenStream:
        token = self.current
        inner = super().into_inner(tag=tag, eat=eat)
        return Stream(iter(inner.tokens), token.start_index + len(token.value), token.source)


class BoundedOutput(io.StringIO):
    """An output buffer that stops a rendering before it fills the memory."""

    def __init__(self) -> None:
        super().__init__(newline="")
        self.length = 0

    def write(self, text: str, /) -> int:
        self.length += len(text)
        if self.length > MAX_OUTPUT:
            raise OutputTooLong
        return super().write(text)


class Context(RenderContext):
    """One rendering: resolves names strictly (a name is one top-level key) and collects what was missing."""

    def __init__(self, template: BoundTemplate, values: Values) -> None:
        super().__init__(template)
        self.roots: dict[str, Mapping[str, object]] = dict(
            zip(ROOTS, (values.profile, values.event, values.campaign), strict=True)
        )
        self.missing: dict[str, None] = {}

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        root = str(path[0])
        if root in self.roots:
            value: object = self.roots[root]
        else:
            try:
                value = self.scope[root]
            except KeyError:
                return MissingValue(spelling(path))
        for depth, segment in enumerate(path[1:]):
            value = _member(value, segment, special=depth > 0 or root not in self.roots)
            if value is None:
                break
        if isinstance(value, MissingValue):
            return value
        found = simplest(value)
        return MissingValue(spelling(path)) if found is None else found

    def get_buffer(self, buf: TextIO | None = None) -> io.StringIO:
        return BoundedOutput()


def spelling(path: Iterable[object]) -> str:
    """How a reference is written in reports and messages: `Profile.name`, `Profile["first name"]`."""
    root, *rest = path
    return str(root) + "".join(f".{s}" if isinstance(s, str) and s.isidentifier() else f'["{s}"]' for s in rest)


def _member(value: object, segment: object, *, special: bool) -> object:
    """One step of a path; None when there is nothing. `size`, `first`, `last` are computed below the top level only:
    `Profile.size` is the attribute of that name."""
    if isinstance(value, Mapping):
        if isinstance(segment, (str, int)) and segment in value:
            return value[segment]
        return len(value) if special and segment == "size" else None
    if isinstance(value, (list, tuple)):
        if isinstance(segment, int) and not isinstance(segment, bool):
            return value[segment] if -len(value) <= segment < len(value) else None
        if segment == "size":
            return len(value)
        if segment in ("first", "last"):
            return (value[0] if segment == "first" else value[-1]) if value else None
        return None
    return len(value) if isinstance(value, str) and segment == "size" else None


def paths_of(expression: Expression) -> Iterator[Path]:
    """Every reference inside an expression, itself included."""
    pending = [expression]
    while pending:
        current = pending.pop()
        if isinstance(current, Path):
            yield current
        pending.extend(current.children())


class PrintNode(OutputNode):
    """Prints a value; a missing one is noted instead, so that all of a text's missing values are reported at once."""

    __slots__ = ("names",)

    def __init__(self, token: Token, expression: Expression) -> None:
        super().__init__(token, expression)
        self.names = tuple(dict.fromkeys(spelling(path.path) for path in paths_of(expression)))[::-1]

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, Context)
        value = self.expression.evaluate(context)
        text = None if isinstance(value, MissingValue) else text_of(value)
        if text is not None:
            return buffer.write(text)
        names = value.names if isinstance(value, MissingValue) else self.names
        context.missing.update(dict.fromkeys(names))
        return 0


class OutputTag(Output):
    """`{{ … }}`."""

    node_class = PrintNode

    def parse(self, stream: TokenStream) -> OutputNode:
        token = stream.eat(TOKEN_OUTPUT)
        inside = stream.expect(TOKEN_EXPRESSION)
        end = inside.start_index + len(inside.value)
        tokens = Stream(tokenize(inside.value, inside), end, inside.source)
        return self.node_class(token, FilteredExpression.parse(self.env, tokens))


class EchoTag(echo_tag.EchoTag):
    """`{% echo … %}`, the same as an output."""

    node_class = PrintNode  # type: ignore[assignment]


class StrictIfTag(if_tag.IfTag):
    """`{% if %}` whose `else` takes no condition and comes last."""

    mode = Mode.STRICT


class StrictUnlessTag(unless_tag.UnlessTag):
    """`{% unless %}`, as strict as `{% if %}`."""

    mode = Mode.STRICT


class OnceCaseNode(CaseNode):
    """Renders a `when` block once, however many of its alternatives are equal to the value."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        found, written = False, 0
        for block in self.blocks:
            if isinstance(block, MultiExpressionBlockNode):
                if any(block.expression.evaluate(context)):
                    found = True
                    written += block.block.render(context, buffer)
            elif not found:
                written += block.render(context, buffer)
        return written


class StrictCaseTag(CaseTag):
    """`{% case %}` that refuses what follows the alternatives of a `when`."""

    node_class = OnceCaseNode

    def _parse_when_expression(self, stream: TokenStream) -> list[Expression]:
        expressions = super()._parse_when_expression(stream)
        stream.expect_eos()
        return expressions


class AbortNode(Node):
    """Drops the message."""

    __slots__ = ("reason",)

    def __init__(self, token: Token, reason: str) -> None:
        super().__init__(token)
        self.reason = reason
        self.blank = False

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        raise AbortRender(self.reason)


class AbortTag(Tag):
    """`{% abort "reason" %}`. The reason is a literal: reports count messages by it."""

    block = False
    name = "abort"

    def parse(self, stream: TokenStream) -> AbortNode:
        token = stream.expect(TOKEN_TAG)
        if stream.peek.kind != TOKEN_EXPRESSION:
            return AbortNode(token, "abort")
        next(stream)
        inside = stream.into_inner(tag=token, eat=False)
        reason = inside.current
        if reason.kind != TOKEN_STRING:
            raise LiquidSyntaxError("the reason of abort is a quoted text", token=reason)
        next(inside)
        inside.expect_eos()
        if len(reason.value) > _MAX_REASON:
            raise LiquidSyntaxError(f"the reason of abort has at most {_MAX_REASON} characters", token=reason)
        return AbortNode(token, reason.value.strip() or "abort")


_TAGS: Final[tuple[type[Tag], ...]] = (
    *(content.Literal, OutputTag, illegal.Illegal, EchoTag, inline_comment_tag.InlineCommentTag, AbortTag),
    *(StrictIfTag, StrictUnlessTag, StrictCaseTag, assign_tag.AssignTag, capture_tag.CaptureTag),
    *(for_tag.ForTag, for_tag.BreakTag, for_tag.ContinueTag),
)


class Language(Environment):
    """The tags and filters of text messages. A loop's turns are limited here too, as the cheapest of its limits."""

    loop_iteration_limit = 10_000

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        for tag in _TAGS:
            self.add_tag(tag)
        for name, filter_ in FILTERS.items():
            self.add_filter(name, guarded(filter_))

    def _parse(self, source: str) -> list[Node]:
        tokens = self.tokenizer()(source)
        return get_parser(self).parse(Stream(tokens, len(source), source))

"""What a parsed template refers to and what it may cost, without rendering it. Raises on what cannot be known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.expressions.arguments import KeywordArgument
from liquid.builtin.expressions.filtered import Filter as FilterCall
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral, StringLiteral
from liquid.builtin.tags.comment_tag import CommentNode
from liquid.builtin.tags.for_tag import ForNode
from liquid.expression import Expression
from liquid.template import BoundTemplate

from postrider.sms.filters import FILTERS
from postrider.sms.language import PrintNode, spelling
from postrider.sms.short_forms import ROOTS
from postrider.sms.values import text_of

MAX_CHEAP_FILTERS: Final = 50
"""Filters a template may call and still be rendered in the process: each is linear in at most MAX_VALUE characters."""


class BadReference(Exception):
    """A reference or a filter that cannot be allowed; `index` is its place in the shaped text."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.message = message
        self.index = index


@dataclass(frozen=True, slots=True)
class References:
    """The top-level names a template may ask for; a job carries just these. Assigned in one branch or printed in
    another makes no difference: what is named anywhere is listed."""

    profile: frozenset[str] = frozenset()
    event: frozenset[str] = frozenset()
    campaign: frozenset[str] = frozenset()

    def __or__(self, other: References) -> References:
        return References(self.profile | other.profile, self.event | other.event, self.campaign | other.campaign)


@dataclass(frozen=True, slots=True)
class Output:
    """A segment that prints one value: `root` is its place in the roots; `default` is None when there is none."""

    root: int
    name: str
    default: str | None
    spelling: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """`is_simple`: no loops, no ranges, few and cheap filters: rendering takes bounded time and memory. `segments`:
    the whole template as literals and outputs, when it is nothing more."""

    references: References
    is_simple: bool
    segments: tuple[str | Output, ...] | None


def analyse_template(template: BoundTemplate, *, kind_is_live: bool) -> Analysis:
    """Raises BadReference for unknown roots, dynamic names, Event in a scheduled campaign, wrong filters."""
    nodes = list(_all_nodes(template.nodes))
    local_names: set[str] = set()
    for node in nodes:
        for name in (*node.template_scope(), *node.block_scope()):
            if name in ROOTS:
                raise BadReference(f"'{name}' cannot be assigned to", name.token.start_index)
            local_names.add(str(name))
    expressions = [inner for node in nodes for outer in node.expressions() for inner in _all_expressions(outer)]
    filtered = [expression for expression in expressions if isinstance(expression, FilteredExpression)]
    calls = [call for expression in filtered for call in expression.filters or ()]
    for call in calls:
        _check_call(call)
    names: dict[str, set[str]] = {root: set() for root in ROOTS}
    for path in expressions:
        if isinstance(path, Path) and path.path[0] not in local_names:
            names[_root_of(path, kind_is_live=kind_is_live)].add(_name_of(path))
    costly = any(isinstance(node, ForNode) for node in nodes) or any(isinstance(e, RangeLiteral) for e in expressions)
    is_simple = not costly and len(calls) <= MAX_CHEAP_FILTERS and all(FILTERS[call.name].cheap for call in calls)
    references = References(*(frozenset(names[root]) for root in ROOTS))
    return Analysis(references, is_simple, _segments(template.nodes) if is_simple else None)


def _all_nodes(nodes: Sequence[Node]) -> Iterator[Node]:
    pending = list(reversed(nodes))
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(_children(node))))


def _children(node: Node) -> Sequence[Node]:
    # None of this language's tags looks at the context: it serves tags that load other templates.
    return list(node.children(None, include_partials=False))  # type: ignore[arg-type]


def _all_expressions(expression: Expression) -> Iterator[Expression]:
    pending = [expression]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(current.children())


def _check_call(call: FilterCall) -> None:
    known = FILTERS.get(call.name)
    if known is None:
        raise BadReference(f"there is no filter '{call.name}' in text messages", call.token.start_index)
    keywords = [argument.name for argument in call.args if isinstance(argument, KeywordArgument)]
    if unknown := [name for name in keywords if name not in known.keywords]:
        raise BadReference(f"the filter '{call.name}' has no argument '{unknown[0]}'", call.token.start_index)
    given = len(call.args) - len(keywords)
    if not known.min_args <= given <= known.max_args:
        wanted = str(known.min_args) if known.min_args == known.max_args else f"{known.min_args}–{known.max_args}"
        raise BadReference(f"the filter '{call.name}' takes {wanted} arguments, not {given}", call.token.start_index)


def _root_of(path: Path, *, kind_is_live: bool) -> str:
    root, index = path.path[0], path.token.start_index
    if not isinstance(root, str):
        raise BadReference("a reference begins with Profile, Event or Campaign", index)
    if root == "Linked":
        raise BadReference("linked content is not available yet", index)
    if root not in ROOTS:
        raise BadReference(f"unknown name '{root}': a reference begins with Profile, Event or Campaign", index)
    if root == "Event" and not kind_is_live:
        raise BadReference("Event can be used in live campaigns only: here no event triggers the message", index)
    return root


def _name_of(path: Path) -> str:
    root, index = path.path[0], path.token.start_index
    if len(path.path) < 2:
        raise BadReference(f'name one value, such as {root}.name or {root}["a name"]', index)
    name = path.path[1]
    if isinstance(name, Path):
        raise BadReference(f'{root}[{name}] names no fixed value: write {root}.name or {root}["a name"]', index)
    if not isinstance(name, str):
        raise BadReference(f'{root}[{name}] is not a name: write {root}.name or {root}["a name"]', index)
    return name


def _segments(nodes: Sequence[Node]) -> tuple[str | Output, ...] | None:
    segments: list[str | Output] = []
    for node in nodes:
        if isinstance(node, ContentNode):
            segments.append(node.text)
        elif isinstance(node, PrintNode):
            output = _plain_output(node.expression)
            if output is None:
                return None
            segments.append(output)
        elif not isinstance(node, CommentNode):
            return None
    return tuple(segments)


def _plain_output(expression: Expression) -> Output | None:
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, Path):
        return None
    root, *names = expression.left.path
    calls = expression.filters or []
    if root not in ROOTS or len(names) != 1 or not isinstance(names[0], str) or len(calls) > 1:
        return None
    default: str | None = None
    if calls:
        if calls[0].name != "default" or len(calls[0].args) > 1:
            return None
        default = ""
        for argument in calls[0].args:
            if isinstance(argument, KeywordArgument) or not isinstance(argument.value, (StringLiteral, IntegerLiteral)):
                return None
            default = text_of(argument.value.value)
    return Output(ROOTS.index(root), names[0], default, spelling((root, names[0])))

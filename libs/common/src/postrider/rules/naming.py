"""What a rule names (saved segments, campaigns, user lists), and the rules of segments in the place of their names.

Pure: what exists is handed in. The limits of one rule hold for it with its segments put in, so that a chain of small
segments cannot grow into a statement that no store runs. Shared trees stay shared: sizes are added, not walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from postrider.rules.parse import MAX_CONDITIONS, MAX_DEPTH, RuleErrors
from postrider.rules.tree import AllOf, AnyOf, Attribute, Did, Filter, InSegment, Messaged, Not, Rule, UserList

MAX_CHAIN: Final = 50
"""Segments in segments in segments."""
MAX_VALUE_CHARACTERS: Final = 2_000_000
"""Texts that a rule compares with, in all; a number or truth value counts as eight."""

NamedKind: TypeAlias = Literal["segment", "campaign", "user_list"]
SegmentRules: TypeAlias = Callable[[str], Rule | None]
"""A saved segment's own rule, or None when there is no such segment."""


@dataclass(frozen=True, slots=True)
class Mention:
    """`pointer` leads to the id."""

    pointer: str
    kind: NamedKind
    id: str


@dataclass(frozen=True, slots=True)
class _Size:
    depth: int = 1
    conditions: int = 0
    groups: int = 0
    characters: int = 0


class _Refused(Exception):
    """Why a mentioned segment cannot be put in."""


def names_in(rule: Rule, pointer: str = "") -> Iterator[Mention]:
    """Every mention, in the order of the document."""
    match rule:
        case InSegment(id):
            yield Mention(f"{pointer}/in_segment", "segment", id)
        case UserList(id):
            yield Mention(f"{pointer}/user_list", "user_list", id)
        case Messaged(campaign_id=id):
            yield Mention(f"{pointer}/messaged/campaign_id", "campaign", id)
        case Not(inner):
            yield from names_in(inner, f"{pointer}/not")
        case AllOf(rules) | AnyOf(rules):
            key = "all" if isinstance(rule, AllOf) else "any"
            for i, inner in enumerate(rules):
                yield from names_in(inner, f"{pointer}/{key}/{i}")


def resolve(rule: Rule, segments: SegmentRules, *, own_id: str | None = None) -> Rule:
    """The rule with each saved segment's rule, and those of its segments, in the place of the name.

    `own_id`: the saved segment that the rule belongs to, which it must not lead back to. Raises `RuleErrors`, which
    point at the names in `rule` that cannot be put in, or at the whole when it would be too large.
    """
    resolver = _Resolver(segments)
    resolved, size = resolver.whole(rule, (own_id,) if own_id else ())
    problems = resolver.problems or [("", f"with its segments it would have {reason}") for reason in _too_large(size)]
    if problems:
        raise RuleErrors(problems)
    return resolved


def _too_large(size: _Size) -> list[str]:
    limits = (
        (size.depth, MAX_DEPTH, "levels"),
        (size.conditions, MAX_CONDITIONS, "conditions"),
        (size.groups, MAX_CONDITIONS, "groups"),
        (size.characters, MAX_VALUE_CHARACTERS, "characters of values"),
    )
    return [f"more than {most} {what}" for found, most, what in limits if found > most]


class _Resolver:
    def __init__(self, segments: SegmentRules) -> None:
        self.problems: list[tuple[str, str]] = []
        self._segments = segments
        self._known: dict[str, tuple[Rule, _Size]] = {}

    def whole(self, rule: Rule, path: tuple[str, ...]) -> tuple[Rule, _Size]:
        """The outermost rule: what is wrong with a mention is noted at its pointer."""
        mentions = iter([mention for mention in names_in(rule) if mention.kind == "segment"])

        def noted(segment_id: str, depth: int) -> tuple[Rule, _Size]:
            mention = next(mentions)
            try:
                return self._segment(segment_id, depth, path)
            except _Refused as refusal:
                self.problems.append((mention.pointer, str(refusal)))
                return AllOf(()), _Size()

        return _put_in(rule, 1, noted)

    def _segment(self, segment_id: str, depth: int, path: tuple[str, ...]) -> tuple[Rule, _Size]:
        """`depth`: where it is put in, so that no nesting is followed further down than a rule may go."""
        if segment_id in path:
            steps = path[path.index(segment_id) :]
            raise _Refused(f"leads back to itself: {' → '.join((*steps, segment_id))}")
        known = self._known.get(segment_id)
        if known is not None:
            return known
        rule = self._segments(segment_id)
        if rule is None:
            via = f" (named by {path[-1]})" if path else ""
            raise _Refused(f"there is no such segment{via}")
        if len(path) > MAX_CHAIN:
            raise _Refused(f"segments name each other more than {MAX_CHAIN} deep")
        resolved = _put_in(rule, depth, lambda id, below: self._segment(id, below, (*path, segment_id)))
        if too_large := _too_large(resolved[1]):
            raise _Refused(f"with its segments, {segment_id} has {too_large[0]}")
        self._known[segment_id] = resolved
        return resolved


def _put_in(rule: Rule, depth: int, segment: Callable[[str, int], tuple[Rule, _Size]]) -> tuple[Rule, _Size]:
    if depth > MAX_DEPTH:
        raise _Refused(f"with its segments it would have more than {MAX_DEPTH} levels")
    match rule:
        case InSegment(id):
            return segment(id, depth)
        case Not(inner):
            resolved, size = _put_in(inner, depth + 1, segment)
            return Not(resolved), _around([size])
        case AllOf(rules) | AnyOf(rules):
            parts = [_put_in(inner, depth + 1, segment) for inner in rules]
            resolved_rules = tuple(part for part, _ in parts)
            return type(rule)(resolved_rules), _around([size for _, size in parts])
        case Did(where=where):
            return rule, _Size(conditions=1 + len(where), characters=sum(map(_characters, where)))
        case Attribute(test):
            return rule, _Size(conditions=1, characters=_characters(test))
        case _:
            return rule, _Size(conditions=1)


def _around(sizes: list[_Size]) -> _Size:
    return _Size(
        depth=1 + max((size.depth for size in sizes), default=0),
        conditions=sum(size.conditions for size in sizes),
        groups=1 + sum(size.groups for size in sizes),
        characters=sum(size.characters for size in sizes),
    )


def _characters(test: Filter) -> int:
    values = test.value if isinstance(test.value, tuple) else (test.value,)
    return sum(len(value) if isinstance(value, str) else 8 for value in values)

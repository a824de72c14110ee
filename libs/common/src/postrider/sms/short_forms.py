"""Reads the outer shape of a template before python-liquid does: short forms, balanced tags, bounded pieces.

Rewrites, outside of `{% raw %}`, comments and quoted strings:

    @Profile.name                  in the text     → {{ Profile["name"] }}
    @Profile["first name"]         in the text     → {{ Profile["first name"] }}
    {{ @Event - product name | …}} in an output    → {{ Event["product name"] | …}}
    {% if @Event - amount > 9 %}   in a tag        → {% if Event["amount"] > 9 %}   (one word)
    @Profile.name                  in output, tag  → Profile.name

An `@` after a letter, digit or one of `._+-@/` belongs to an address or a link and stays. Comments become empty ones.
Everything here takes time linear in the source, and what it lets through keeps python-liquid's own regular
expressions from taking more than that: unclosed delimiters make those quadratic and worse.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

from postrider.sms.errors import TemplateError

MAX_SOURCE: Final = 10_000
MAX_MARKUP: Final = 1_000
ROOTS: Final = ("Profile", "Event", "Campaign")

_ENDS: Final = {"if": "endif", "unless": "endunless", "case": "endcase", "for": "endfor", "capture": "endcapture"}
_TAGS: Final = frozenset(
    {*_ENDS, *_ENDS.values(), "else", "elsif", "when", "assign", "echo", "break", "continue", "abort", "#"}
    | {"raw", "comment"}
)

_ROOT: Final = "(?P<root>" + "|".join(ROOTS) + ")"
_UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")
_OPENING: Final = re.compile(r"\{[{%]-?")
_TAG_NAME: Final = re.compile(r"\s*(#|\w+)")
_RAW: Final = re.compile(r"\{%-?\s*raw\s*-?%\}")
_END_RAW: Final = re.compile(r"\{%-?\s*endraw\s*-?%\}")
_COMMENT_EDGE: Final = re.compile(r"\{%-?\s*(?P<edge>comment|endcomment)\b[^%]*%\}")
_IN_TEXT: Final = re.compile(rf"(?<![\w.+\-@/])@{_ROOT}(?:\.(?P<word>[^\W\d]\w*)|\[\"(?P<quoted>[^\"\]\n{{}}%]+)\"\])")
_QUOTED: Final = r"(?P<skip>\"[^\"]*\"|'[^']*')"
_IN_OUTPUT: Final = re.compile(rf"{_QUOTED}|(?P<start>\A\s*)?@{_ROOT}(?(start)(?:\s*-(?P<name>[^|]*))?|)")
_IN_TAG: Final = re.compile(rf"{_QUOTED}|@{_ROOT}(?:\s*-\s*(?P<name>[^\W\d]\w*))?")


@dataclass(slots=True)
class Shaped:
    """A source as python-liquid is to read it. `original` maps an index of `text` to the author's source."""

    source: str
    _pieces: list[str] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _origins: list[tuple[int, bool]] = field(default_factory=list)
    _length: int = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def keep(self, start: int, end: int) -> None:
        self._add(self.source[start:end], start, moved=False)

    def replace(self, start: int, new: str) -> None:
        self._add(new, start, moved=True)

    def original(self, index: int) -> int:
        piece = bisect_right(self._starts, index) - 1
        if piece < 0:
            return 0
        origin, replaced = self._origins[piece]
        return origin if replaced else min(origin + index - self._starts[piece], len(self.source))

    def _add(self, text: str, origin: int, *, moved: bool) -> None:
        if text:
            self._pieces.append(text)
            self._starts.append(self._length)
            self._origins.append((origin, moved))
            self._length += len(text)


def shape(source: str) -> Shaped:
    """Check the outer shape of `source` and rewrite its short forms. Raises TemplateError."""
    if len(source) > MAX_SOURCE:
        raise TemplateError.at(f"the text is too long: at most {MAX_SOURCE:,} characters", source, MAX_SOURCE)
    if bad := _UNSENDABLE.search(source):
        raise TemplateError.at("a character that cannot be sent in a text message", source, bad.start())
    shaped = Shaped(source)
    open_blocks: list[tuple[str, int]] = []
    position = 0
    while opening := _OPENING.search(source, position):
        start = opening.start()
        _rewrite_text(shaped, position, start)
        if source.startswith("{{", start):
            end = _close(source, start, "}}")
            _rewrite_markup(shaped, start, opening.end(), end, _IN_OUTPUT)
        else:
            end = _close(source, start, "%}")
            name = _tag_name(source, start, opening.end(), end)
            if name == "raw":
                end = _end_of_raw(source, start)
                shaped.keep(start, end)
            elif name == "comment":
                end, empty = _empty_comment(source, start)
                shaped.replace(start, empty)
            else:
                _nest(open_blocks, name, source, start)
                _rewrite_markup(shaped, start, opening.end(), end, _IN_TAG)
        position = end
    if open_blocks:
        name, start = open_blocks[-1]
        raise TemplateError.at(f"'{{% {name} %}}' is never closed by '{{% {_ENDS[name]} %}}'", source, start)
    _rewrite_text(shaped, position, len(source))
    return shaped


def _close(source: str, start: int, closing: str) -> int:
    end = source.find(closing, start + 2)
    if end < 0:
        raise TemplateError.at(f"'{source[start : start + 2]}' is never closed by '{closing}'", source, start)
    inside = source[start + 2 : end]
    if len(inside) > MAX_MARKUP:
        what = f"between '{source[start : start + 2]}' and '{closing}'"
        raise TemplateError.at(f"too much {what}: at most {MAX_MARKUP:,} characters", source, start)
    if not inside.strip().strip("-").strip():
        raise TemplateError.at(f"nothing between '{source[start : start + 2]}' and '{closing}'", source, start)
    return end + 2


def _tag_name(source: str, start: int, inside: int, end: int) -> str:
    match = _TAG_NAME.match(source, inside, end)
    if match is None:
        raise TemplateError.at("a tag begins with its name", source, start)
    if match[1] not in _TAGS:
        raise TemplateError.at(f"there is no tag '{match[1]}' in text messages", source, match.start(1))
    return match[1]


def _nest(open_blocks: list[tuple[str, int]], name: str, source: str, start: int) -> None:
    if name in _ENDS:
        open_blocks.append((name, start))
    elif name in ("break", "continue"):
        if all(block != "for" for block, _ in open_blocks):
            raise TemplateError.at(f"'{{% {name} %}}' belongs inside '{{% for %}}'", source, start)
    elif name in _ENDS.values():
        if not open_blocks or _ENDS[open_blocks[-1][0]] != name:
            raise TemplateError.at(f"'{{% {name} %}}' closes nothing that is open here", source, start)
        open_blocks.pop()


def _end_of_raw(source: str, start: int) -> int:
    begin = _RAW.match(source, start)
    if begin is None:
        raise TemplateError.at("'{% raw %}' takes nothing", source, start)
    end = _END_RAW.search(source, begin.end())
    if end is None:
        raise TemplateError.at("'{% raw %}' is never closed by '{% endraw %}'", source, start)
    return end.end()


def _empty_comment(source: str, start: int) -> tuple[int, str]:
    """The end of the comment that begins at `start`, and an empty one with the same trimming of white space."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(source, start):
        depth += 1 if edge["edge"] == "comment" else -1
        if depth == 0:
            left = "-" if source.startswith("{%-", start) else ""
            right = "-" if edge.group().endswith("-%}") else ""
            return edge.end(), f"{{%{left} # {right}%}}"
    raise TemplateError.at("'{% comment %}' is never closed by '{% endcomment %}'", source, start)


def _rewrite_text(shaped: Shaped, start: int, end: int) -> None:
    position = start
    for match in _IN_TEXT.finditer(shaped.source, start, end):
        shaped.keep(position, match.start())
        shaped.replace(match.start(), f'{{{{ {match["root"]}["{match["word"] or match["quoted"]}"] }}}}')
        position = match.end()
    shaped.keep(position, end)


def _rewrite_markup(shaped: Shaped, start: int, inside: int, end: int, pattern: re.Pattern[str]) -> None:
    source = shaped.source
    shaped.keep(start, inside)
    inside_end = end - 3 if source[end - 3] == "-" and end - 3 >= inside else end - 2
    expression = source[inside:inside_end]
    position = 0
    for match in pattern.finditer(expression):
        if match["skip"] is not None:
            continue
        at = match.start("root") - 1
        shaped.keep(inside + position, inside + at)
        name = match["name"]
        if name is None:
            position = at + 1
            continue
        shaped.replace(inside + at, match["root"] + _key(name.strip(), source, inside + at))
        position = match.start("name") + len(name.rstrip())
    shaped.keep(inside + position, end)


def _key(name: str, source: str, index: int) -> str:
    if not name:
        raise TemplateError.at("a name is missing after the '-'", source, index)
    quote = "'" if '"' in name else '"'
    if quote in name:
        raise TemplateError.at("a name cannot hold both kinds of quotes", source, index)
    return f"[{quote}{name}{quote}]"

"""The filters of text messages: bounded in time and size, deterministic, and refusing instead of guessing.

They differ from Liquid's where Liquid would put something into a text that nobody meant: arithmetic on what is no
number, or a date that is none, fails the message instead of printing 0 or the input. There is no `now`: a text must
come out the same however often it is rendered.
"""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final

from postrider.sms.dates import format_date
from postrider.sms.values import MAX_VALUE, LimitReached, MissingValue, joined, simplest, text_of

MAX_ITEMS: Final = 10_000
_MAX_NUMBER_TEXT: Final = 40
_MAX_DIGITS: Final = 10


class FilterFailed(Exception):
    """A filter cannot do its work on this value. The text never repeats the value, which may be personal."""


@dataclass(frozen=True, slots=True)
class Filter:
    """`cheap` filters are linear in values that are bounded: they may run in the process."""

    apply: Callable[..., object]
    min_args: int = 0
    max_args: int = 0
    keywords: frozenset[str] = frozenset()
    cheap: bool = True
    takes_missing: bool = False


def guarded(filter_: Filter) -> Callable[..., object]:
    """The filter as templates run it: a missing value stays missing, and no result outgrows its bound."""

    def run(left: object, *args: object, **keywords: object) -> object:
        if not filter_.takes_missing:
            missing = [value for value in (left, *args, *keywords.values()) if isinstance(value, MissingValue)]
            if missing:
                return MissingValue.joining(missing)
        return _bounded(filter_.apply(left, *args, **keywords))

    return run


def is_default_worthy(value: object) -> bool:
    """What `default` replaces: missing, null, false and empty values, but not zero."""
    if isinstance(value, (str, list, tuple, Mapping)):
        return not value
    return value is None or value is False


def _bounded(value: object) -> object:
    if isinstance(value, (list, tuple)) and len(value) > MAX_ITEMS:
        raise LimitReached("list_too_long")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = simplest(value)
        if number is None:
            raise LimitReached("number_too_large")
        return number
    if isinstance(value, str) and len(value) > MAX_VALUE:
        raise LimitReached("value_too_long")
    return value


def _text(value: object) -> str:
    if value is None:
        return ""
    text = text_of(value)
    if text is None:
        raise FilterFailed("an object has no text")
    return text


def _number(value: object) -> int | Decimal:
    if isinstance(value, bool):
        raise FilterFailed("not a number")
    if isinstance(value, int):
        return value
    text = repr(value) if isinstance(value, float) else value
    if not isinstance(text, str) or len(text) > _MAX_NUMBER_TEXT:
        raise FilterFailed("not a number")
    try:
        number = Decimal(text.strip())
    except ArithmeticError as error:
        raise FilterFailed("not a number") from error
    if not number.is_finite() or abs(number.adjusted()) > 400:
        raise FilterFailed("not a number")
    return int(number) if number == number.to_integral_value() and number.adjusted() < 300 else number


def _whole(value: object) -> int:
    number = _number(value)
    if not isinstance(number, int):
        raise FilterFailed("not a whole number")
    return number


def _plain(number: int | Decimal) -> int | float:
    return number if isinstance(number, int) else float(number)


def _arithmetic(work: Callable[[Decimal, Decimal], Decimal], whole: Callable[[int, int], int]) -> Callable[..., object]:
    def apply(left: object, right: object) -> object:
        a, b = _number(left), _number(right)
        try:
            if isinstance(a, int) and isinstance(b, int):
                return whole(a, b)
            return _plain(work(Decimal(a), Decimal(b)))
        except ArithmeticError as error:
            raise FilterFailed("this calculation has no result") from error

    return apply


def _default(left: object, instead: object = "", *, allow_false: object = False) -> object:
    if isinstance(left, MissingValue):
        return MissingValue.joining([left, instead]) if isinstance(instead, MissingValue) else instead
    if left is False and allow_false is True:
        return left
    return instead if is_default_worthy(left) else left


def _round(left: object, digits: object = 0) -> object:
    number, places = _number(left), min(max(_whole(digits), 0), _MAX_DIGITS)
    if isinstance(number, int) or number.adjusted() > 15:
        return _plain(number)
    return _plain(number.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def _toward(rounding: str) -> Callable[[object], object]:
    def apply(left: object) -> object:
        number = _number(left)
        return number if isinstance(number, int) else int(number.to_integral_value(rounding=rounding))

    return apply


def _replace(left: object, old: object, new: object = "", limit: int = -1) -> str:
    text, what, by = _text(left), _text(old), _text(new)
    found = text.count(what) if limit < 0 else min(limit, text.count(what))
    if len(text) + found * (len(by) - len(what)) > MAX_VALUE:
        raise LimitReached("value_too_long")
    return text.replace(what, by, limit)


def _truncate(left: object, length: object = 50, end: object = "...") -> str:
    text, limit, tail = _text(left), _whole(length), _text(end)
    return text if len(text) <= limit else text[: max(limit - len(tail), 0)] + tail


def _truncate_words(left: object, count: object = 15, end: object = "...") -> str:
    text, limit = _text(left), max(_whole(count), 1)
    words = text.split(None, limit)
    return text if len(words) <= limit else " ".join(words[:limit]) + _text(end)


def _slice(left: object, start: object, length: object = 1) -> object:
    sequence: str | Sequence[object] = left if isinstance(left, (list, tuple)) else _text(left)
    first, count = _whole(start), max(_whole(length), 0)
    if first < 0:
        first += len(sequence)
        if first < 0:
            return sequence[:0]
    return sequence[first : first + count]


def _split(left: object, separator: object) -> list[str]:
    text, by = _text(left), _text(separator)
    if not by:
        return list(text[: MAX_ITEMS + 1])
    return text.split(None if by == " " else by) if text else []


def _items(value: object) -> Sequence[object]:
    if isinstance(value, range):
        if value.stop - value.start > MAX_ITEMS:
            raise LimitReached("list_too_long")
        return list(value)
    return value if isinstance(value, (list, tuple)) else [value]


def _sorted(left: object, key: object = None, *, natural: bool = False) -> list[object]:
    def rank(item: object) -> tuple[int, float | str]:
        value = item.get(_text(key)) if key is not None and isinstance(item, Mapping) else item
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = simplest(value)
            return (0, number) if isinstance(number, (int, float)) else (2, "")
        text = text_of(value)
        return (2, "") if text is None else (1, text.casefold() if natural else text)

    return sorted(_items(left), key=rank)


def _unique(left: object) -> list[object]:
    seen: dict[tuple[str, str], object] = {}
    for item in _items(left):
        seen.setdefault((type(item).__name__, repr(item)), item)
    return list(seen.values())


def _pick(left: object, key: object) -> list[object]:
    name = _text(key)
    return [item.get(name) if isinstance(item, Mapping) else None for item in _items(left)]


def _where(left: object, key: object, wanted: object = None) -> list[object]:
    name = _text(key)
    kept = [(item, item.get(name)) for item in _items(left) if isinstance(item, Mapping)]
    return [
        item
        for item, value in kept
        if (value not in (None, False) if wanted is None else type(value) is type(wanted) and value == wanted)
    ]


def _sum(left: object) -> object:
    numbers = [_number(item) for item in _items(left) if item is not None]
    total = sum((Decimal(number) for number in numbers), Decimal(0))
    return _plain(int(total) if total == total.to_integral_value() else total)


def _first(left: object) -> object:
    return left[0] if isinstance(left, (list, tuple, range)) and left else None


def _last(left: object) -> object:
    return left[-1] if isinstance(left, (list, tuple, range)) and left else None


def _capitalize(left: object) -> str:
    return _text(left).capitalize()


def _date(left: object, layout: object) -> str:
    try:
        return format_date(left, _text(layout))
    except ValueError as error:
        raise FilterFailed(str(error)) from error


def _absolute(number: int | Decimal) -> int | Decimal:
    return -number if number < 0 else number


FILTERS: Final[dict[str, Filter]] = {
    "default": Filter(_default, 0, 1, frozenset({"allow_false"}), takes_missing=True),
    "append": Filter(lambda left, more: _text(left) + _text(more), 1, 1),
    "prepend": Filter(lambda left, more: _text(more) + _text(left), 1, 1),
    "upcase": Filter(lambda left: _text(left).upper()),
    "downcase": Filter(lambda left: _text(left).lower()),
    "capitalize": Filter(_capitalize),
    "strip": Filter(lambda left: _text(left).strip()),
    "lstrip": Filter(lambda left: _text(left).lstrip()),
    "rstrip": Filter(lambda left: _text(left).rstrip()),
    "squish": Filter(lambda left: " ".join(_text(left).split())),
    "strip_newlines": Filter(lambda left: _text(left).replace("\r\n", "").replace("\n", "")),
    "truncate": Filter(_truncate, 0, 2),
    "truncatewords": Filter(_truncate_words, 0, 2),
    "replace": Filter(_replace, 1, 2),
    "replace_first": Filter(lambda left, old, new="": _replace(left, old, new, 1), 1, 2),
    "remove": Filter(lambda left, old: _replace(left, old), 1, 1),
    "remove_first": Filter(lambda left, old: _replace(left, old, "", 1), 1, 1),
    "slice": Filter(_slice, 1, 2),
    "split": Filter(_split, 1, 1),
    "join": Filter(lambda left, by=" ": joined(_items(left), _text(by)), 0, 1),
    "first": Filter(_first),
    "last": Filter(_last),
    "size": Filter(lambda left: len(left) if isinstance(left, (str, list, tuple, Mapping)) else 0),
    "plus": Filter(_arithmetic(lambda a, b: a + b, lambda a, b: a + b), 1, 1),
    "minus": Filter(_arithmetic(lambda a, b: a - b, lambda a, b: a - b), 1, 1),
    "times": Filter(_arithmetic(lambda a, b: a * b, lambda a, b: a * b), 1, 1),
    "divided_by": Filter(_arithmetic(lambda a, b: a / b, lambda a, b: a // b), 1, 1),
    "modulo": Filter(_arithmetic(lambda a, b: a % b, lambda a, b: a % b), 1, 1),
    "round": Filter(_round, 0, 1),
    "ceil": Filter(_toward(ROUND_CEILING)),
    "floor": Filter(_toward(ROUND_FLOOR)),
    "abs": Filter(lambda left: _plain(_absolute(_number(left)))),
    "at_least": Filter(lambda left, low: _plain(max(_number(left), _number(low))), 1, 1),
    "at_most": Filter(lambda left, high: _plain(min(_number(left), _number(high))), 1, 1),
    "date": Filter(_date, 1, 1),
    "url_encode": Filter(lambda left: urllib.parse.quote_plus(_text(left), errors="replace")),
    "escape": Filter(lambda left: html.escape(_text(left))),
    "reverse": Filter(lambda left: list(reversed(_items(left))), cheap=False),
    "sort": Filter(_sorted, 0, 1, cheap=False),
    "sort_natural": Filter(lambda left, key=None: _sorted(left, key, natural=True), 0, 1, cheap=False),
    "uniq": Filter(_unique, cheap=False),
    "compact": Filter(lambda left: [item for item in _items(left) if item is not None], cheap=False),
    "concat": Filter(lambda left, more: [*_items(left), *_items(more)], 1, 1, cheap=False),
    "map": Filter(_pick, 1, 1, cheap=False),
    "where": Filter(_where, 1, 2, cheap=False),
    "sum": Filter(_sum, cheap=False),
}

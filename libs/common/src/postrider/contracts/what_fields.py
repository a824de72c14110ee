"""Which fields of a campaign's `what` a provider takes: what a front end draws its form from, and the check of a `what`
against it. Pure.

A provider whose API takes a text takes `body`. One that fills in templates takes `template_id`, `template_variables`
and pairs, of a generic one exactly as its configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from postrider.contracts.generic_provider import NOT_OF_CAMPAIGNS, TOKEN, GenericConfig, read_generic
from postrider.contracts.netcore_provider import generic_of_netcore
from postrider.contracts.placeholders import CLASSES, NAME, PairClass
from postrider.contracts.problems import Problem, escape

MAX_BODY = 5_000
MAX_TEMPLATE_ID, MAX_VARIABLES, MAX_VALUE, MAX_PAIRS = 256, 50, 2_000, 50
BODY_LIMITS: Mapping[str, int] = {"twilio": 1_600, "exotel": 2_000}
"""Most characters of a rendered text, where the vendor says so."""

_LIQUID = re.compile(r"\{\{|\{%|(?<![\w.+\-@/])@(?:Profile|Event|Campaign|Linked)\b")
_PERSONAL = re.compile(
    r"\{[{%](?:(?!\}\}|%\}).)*?\b(?:Profile|Event|Linked)\b|(?<![\w.+\-@/])@(?:Profile|Event|Linked)\b", re.DOTALL
)
"""Of Liquid and its short forms, what differs from person to person."""


@dataclass(frozen=True, slots=True)
class WhatField:
    """`name`: of the field of `what`. `names`: of pairs, those that are predefined, each required; `may_add`: whether a
    campaign may give others, under other names than those `taken`. `personalised`: whether its value may differ from
    person to person."""

    name: str
    required: bool
    max_length: int | None = None
    max_count: int | None = None
    names: tuple[str, ...] = ()
    may_add: bool = False
    taken: tuple[str, ...] = ()
    personalised: bool = True


WhatFields = tuple[WhatField, ...]
CONTENT_FIELDS = (
    "body",
    "fallback_body",
    "template_id",
    "template_variables",
    *(f"{where}_pairs" for where in CLASSES),
)
"""All fields of a `what` that depend on who carries it."""


def what_fields(kind: str, settings: Mapping[str, Any]) -> WhatFields:
    """Of a provider that passed check_provider; fields that are not here do not apply."""
    if kind == "generic":
        return _of_config(read_generic(settings))
    if kind == "netcore":
        return _of_config(read_generic(generic_of_netcore(settings)))
    if kind == "msg91":
        # Only variables vary; they are named in the vendor's template, in whatever order they were added.
        return (
            WhatField("template_id", True, max_length=MAX_TEMPLATE_ID, personalised=False),
            WhatField("template_variables", False, max_length=MAX_VALUE, max_count=MAX_VARIABLES),
            WhatField("message_pairs", False, max_length=MAX_VALUE, max_count=MAX_PAIRS, may_add=True),
        )
    texts = _texts(BODY_LIMITS.get(kind, MAX_BODY))
    if kind == "exotel":
        return (*texts, WhatField("template_id", False, max_length=MAX_TEMPLATE_ID, personalised=False))
    return texts


def _texts(most: int) -> WhatFields:
    return WhatField("body", True, max_length=most), WhatField("fallback_body", False, max_length=most)


def _of_config(config: GenericConfig) -> WhatFields:
    fields: list[WhatField] = []
    if config.has("Body"):
        fields += _texts(MAX_BODY)
    if config.has("TemplateID"):
        fields.append(WhatField("template_id", True, max_length=MAX_TEMPLATE_ID, personalised=False))
    if config.has("TemplateVariables"):  # a template may have none
        fields.append(WhatField("template_variables", False, max_length=MAX_VALUE, max_count=MAX_VARIABLES))
    for where in CLASSES:
        names, may_add = config.pairs(where), where in config.own_pairs
        if names or may_add:
            fields.append(
                WhatField(
                    f"{where}_pairs",
                    required=bool(names),
                    max_length=MAX_VALUE,
                    max_count=MAX_PAIRS,
                    names=names,
                    may_add=may_add,
                    taken=_taken(config, where) if may_add else (),
                    personalised=where == "message" or (where == "header" and config.batch is None),
                )
            )
    return tuple(fields)


def _taken(config: GenericConfig, where: PairClass) -> tuple[str, ...]:
    """Names in the configuration: a value of a campaign must not overwrite what it says."""
    if where == "header":
        return tuple(name for name, _ in config.headers)
    if where == "global":
        return tuple(config.document) if config.batch is not None else ()
    element = config.element if isinstance(config.element, dict) else {}
    return tuple(dict.fromkeys([*element, *(name for name, _ in config.form), *_query_names(config.url)]))


def check_what(fields: WhatFields, what: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a `what` for a provider of these fields; pointers lead into the `what`.

    Values are the campaign's own, with Liquid in them; lengths are judged again when they are rendered.
    """
    by_name = {field.name: field for field in fields}
    problems: list[Problem] = []
    for name in CONTENT_FIELDS:
        value, field = what.get(name), by_name.get(name)
        if value in (None, "", [], {}):
            if field is not None and field.required:
                missing = f": {', '.join(field.names)}" if field.names else ""
                problems.append(Problem(f"/{name}", f"is required by the provider{missing}"))
        elif field is None:
            problems.append(Problem(f"/{name}", "does not apply: the provider's configuration has no place for it"))
        elif name == "template_variables":
            problems += _wrong_variables(field, value)
        elif name.endswith("_pairs"):
            problems += _wrong_pairs(field, value, is_header=name == "header_pairs")
        else:
            problems += _wrong_text(f"/{name}", field, value)
    return problems


def _wrong_text(pointer: str, field: WhatField, value: object) -> Iterable[Problem]:
    if not isinstance(value, str):
        yield Problem(pointer, "must be text")
    elif field.max_length is not None and len(value) > (MAX_BODY if _LIQUID.search(value) else field.max_length):
        yield Problem(pointer, f"is longer than {field.max_length} characters")
    elif not field.personalised and _PERSONAL.search(value):
        yield Problem(pointer, "has one value for the whole campaign: it cannot be personalised")


def _wrong_variables(field: WhatField, value: object) -> Iterable[Problem]:
    if not isinstance(value, list):
        yield Problem(f"/{field.name}", "must be a list of texts, in the order of the template")
        return
    if field.max_count is not None and len(value) > field.max_count:
        yield Problem(f"/{field.name}", f"has more than {field.max_count} entries")
    for number, each in enumerate(value):
        yield from _wrong_text(f"/{field.name}/{number}", field, each)


def _wrong_pairs(field: WhatField, value: object, *, is_header: bool) -> Iterable[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(f"/{field.name}", "must be an object: name → value")
        return
    for name in field.names:
        if value.get(name) in (None, ""):
            yield Problem(f"/{field.name}/{escape(name)}", "is required by the provider's configuration")
    if field.max_count is not None and len(value) > field.max_count:
        yield Problem(f"/{field.name}", f"has more than {field.max_count} entries")
    taken = NOT_OF_CAMPAIGNS | {name.lower() for name in field.taken} if is_header else {*field.taken}
    for name, each in value.items():
        pointer = f"/{field.name}/{escape(name)}"
        if name in field.names:
            if each not in (None, ""):
                yield from _wrong_text(pointer, field, each)
        elif not field.may_add:
            yield Problem(pointer, "is not in the provider's configuration, which lets campaigns add no pairs")
        elif not re.fullmatch(TOKEN if is_header else NAME, name):
            yield Problem(pointer, "is no name: a letter, then letters, digits and _")
        elif (name.lower() if is_header else name) in taken:
            yield Problem(pointer, "is set by the provider's configuration")
        else:
            yield from _wrong_text(pointer, field, each)


def _query_names(url: str) -> Iterable[str]:
    _, _, query = url.partition("?")
    return (part.partition("=")[0] for part in query.split("&") if part)

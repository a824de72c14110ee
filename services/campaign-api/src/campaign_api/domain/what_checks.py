"""Whether a campaign's `what` can be sent by whoever carries it: every reason why not, with a pointer to its field.

Must not look anything up: the caller hands over what is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from campaign_api.domain.errors import FieldProblem
from postrider.contracts.definitions import Content, References
from postrider.contracts.problems import escape
from postrider.contracts.what_fields import WhatFields
from postrider.contracts.what_fields import check_what as check_content
from postrider.sms.errors import TemplateError
from postrider.sms.message import source_of
from postrider.sms.template import compile_body


class Carriers(Protocol):
    """Who may carry texts. `takes`: of each provider what it takes of a `what`."""

    @property
    def providers(self) -> Mapping[str, str]: ...
    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def routes(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]: ...
    @property
    def default_group_id(self) -> str | None: ...
    @property
    def takes(self) -> Mapping[str, WhatFields]: ...


def check_what(what: Mapping[str, Any], around: Carriers, *, live: bool) -> list[FieldProblem]:
    problems = []
    for pointer, text in _templates(what):
        if not text.strip():
            problems.append(FieldProblem(pointer, "must not be blank"))
            continue
        try:
            compile_body(text, kind_is_live=live)
        except TemplateError as error:
            problems.append(FieldProblem(pointer, f"line {error.line}, column {error.column}: {error.message}"))
    unsent = check_carrier(what, around)
    return problems + (unsent or [*_strangers(what, around), *misfits(what, around)])


def check_carrier(what: Mapping[str, Any], around: Carriers) -> list[FieldProblem]:
    """Empty when some provider can carry the texts, to whatever country."""
    provider_id, group_id = what.get("provider_id"), what.get("provider_group_id")
    if provider_id is not None and group_id is not None:
        return [FieldProblem("/what/provider_id", "not together with provider_group_id")]
    if provider_id is not None:
        if provider_id not in around.providers:
            return [FieldProblem("/what/provider_id", "there is no such provider")]
        if around.providers[provider_id] != "active":
            return [FieldProblem("/what/provider_id", "the provider is archived")]
        return []
    pointer = "/what/provider_group_id"
    if group_id is None:
        if around.default_group_id is None:
            message = "there is no default provider group: name a provider_group_id or a provider_id"
            return [FieldProblem(pointer, message)]
        group_id = around.default_group_id
    if group_id not in around.groups:
        return [FieldProblem(pointer, "there is no such provider group")]
    lists = {"the group": around.groups[group_id]}
    lists |= {f"its route to {country}": ids for country, ids in around.routes.get(group_id, {}).items()}
    return [
        FieldProblem(pointer, f"every provider of {name} is archived")
        for name, ids in lists.items()
        if not any(around.providers.get(member) == "active" for member in ids)
    ]


def misfits(what: Mapping[str, Any], around: Carriers) -> list[FieldProblem]:
    """What a provider that may be asked to carry the texts does not take, or lacks."""
    members = [id for id in _members(what, around) if around.providers.get(id) == "active"]
    given = what.get("by_provider") or {}
    problems = []
    for id in members:
        own = given.get(id)
        root = "/what" if own is None else f"/what/by_provider/{escape(id)}"
        who = f" ({id})" if own is None and len(members) > 1 else ""
        problems += [
            FieldProblem(f"{root}{problem.pointer}", f"{problem.message}{who}")
            for problem in check_content(around.takes[id], what if own is None else own)
        ]
    return problems


def content_of(what: Mapping[str, Any]) -> Content:
    """Of a `what`, or of one of its `by_provider`."""
    return Content(
        body=what.get("body") or "",
        fallback_body=what.get("fallback_body"),
        template_id=what.get("template_id"),
        template_variables=what.get("template_variables") or [],
        message_pairs=what.get("message_pairs") or {},
        header_pairs=what.get("header_pairs") or {},
        global_pairs=what.get("global_pairs") or {},
    )


def references_of(what: Mapping[str, Any]) -> References:
    """The names that any of its templates refers to. Raises `TemplateError` for one that was never checked."""
    profile: set[str] = set()
    event: set[str] = set()
    for _, text in _templates(what):
        references = compile_body(text).references
        profile.update(references.profile)
        event.update(references.event)
    return References(sorted(profile), sorted(event))


def _templates(what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All texts with Liquid in them, by their pointers. An empty value of a template is none."""
    yield from _templates_of(content_of(what), "/what")
    for id, own in (what.get("by_provider") or {}).items():
        yield from _templates_of(content_of(own), f"/what/by_provider/{escape(id)}")


def _templates_of(content: Content, root: str) -> Iterator[tuple[str, str]]:
    for name in ("body", "fallback_body"):
        text = getattr(content, name)
        if text:
            yield f"{root}/{name}", text
    for place, text in source_of(content, True, None, False).places:
        if text:
            yield f"{root}/{place.pointer}", text


def _strangers(what: Mapping[str, Any], around: Carriers) -> list[FieldProblem]:
    members = _members(what, around)
    return [
        FieldProblem(f"/what/by_provider/{escape(id)}", "the campaign's texts do not go to this provider")
        for id in what.get("by_provider") or {}
        if id not in members
    ]


def group_of(what: Mapping[str, Any], around: Carriers) -> str | None:
    """The group that its texts go by; None: by a provider of the campaign's own, or there is no default group."""
    return None if what.get("provider_id") is not None else what.get("provider_group_id") or around.default_group_id


def _members(what: Mapping[str, Any], around: Carriers) -> tuple[str, ...]:
    """All that its texts may go to, whatever the country."""
    if what.get("provider_id") is not None:
        return (what["provider_id"],)
    group_id = group_of(what, around) or ""
    routed = (id for ids in around.routes.get(group_id, {}).values() for id in ids)
    return tuple(dict.fromkeys((*around.groups.get(group_id, ()), *routed)))

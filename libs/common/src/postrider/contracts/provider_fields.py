"""What a provider's `settings` and `credentials` may hold, per kind: tables, and the check the API answers 422 from.

Pure data and pure functions; knows no vendor's protocol. The dispatcher builds adapters from what passed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from postrider.contracts.problems import Problem as Problem
from postrider.contracts.problems import escape as _escape
from postrider.contracts.provider_kinds import exotel, generic, msg91, netcore, sandbox, twilio, vonage
from postrider.contracts.provider_kinds.fields import DEFAULT_IN_DOUBT_WAIT_SECONDS as DEFAULT_IN_DOUBT_WAIT_SECONDS
from postrider.contracts.provider_kinds.fields import DEFAULT_TIMEOUT_SECONDS as DEFAULT_TIMEOUT_SECONDS
from postrider.contracts.provider_kinds.fields import ProviderField as ProviderField
from postrider.contracts.provider_kinds.fields import ProviderKind, common
from postrider.contracts.urls import wrong_with_url

PROVIDER_KINDS: Mapping[str, ProviderKind] = {
    each.kind: each
    for each in (
        twilio.KIND, vonage.KIND, msg91.KIND, exotel.KIND, netcore.KIND, generic.KIND, sandbox.KIND,
    )
}  # fmt: skip
MAX_PARTS_PER_SECOND = 100_000
_SHARED = frozenset(field.name for field in common(None))


def check_provider(
    kind: str,
    settings: Mapping[str, Any],
    credentials: Mapping[str, Any] | None,
    parts_per_second: float | None = None,
) -> list[Problem]:
    """Everything wrong with a provider as it was sent; empty when the dispatcher can build it.

    `credentials` None: keep what is stored (they are write-only, so an update may leave them out).
    A null is the same as an absent field.
    """
    table = PROVIDER_KINDS.get(kind)
    if table is None:
        return [Problem("/kind", f"must be one of: {', '.join(PROVIDER_KINDS)}")]
    if table.nested is not None:
        shared = tuple(field for field in table.settings if field.name in _SHARED)
        problems = _check_fields("/settings", shared, {name: settings.get(name) for name in _SHARED}, kind)
        problems += table.nested(settings, credentials)
        return problems + (check_parts_per_second(parts_per_second) if parts_per_second is not None else [])
    problems = _check_fields("/settings", table.settings, settings, kind)
    for names in table.exactly_one:
        given = [name for name in names if settings.get(name) is not None]
        if not given:
            problems.append(Problem(f"/settings/{names[0]}", f"one of {' or '.join(names)} is required"))
        problems += [Problem(f"/settings/{name}", f"not together with {given[0]}") for name in given[1:]]
    if credentials is not None:
        problems += _check_fields("/credentials", table.credentials, credentials, kind)
        for setting, credential in table.together:
            if settings.get(setting) is not None and credentials.get(credential) is None:
                problems.append(Problem(f"/credentials/{credential}", f"is required with settings.{setting}"))
            if settings.get(setting) is None and credentials.get(credential) is not None:
                problems.append(Problem(f"/settings/{setting}", f"is required with credentials.{credential}"))
    if parts_per_second is not None:
        problems += check_parts_per_second(parts_per_second)
    return problems


def check_kept_credentials(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a change of settings that keeps the credentials stored, which nobody here can read: a setting
    that goes together with one of them came or went; the new settings need others; or one would be sent to another
    host, where whoever made the change could read it."""
    table = PROVIDER_KINDS[kind]
    problems = [
        Problem(f"/credentials/{credential}", f"give the credentials again when settings.{setting} comes or goes")
        for setting, credential in table.together
        if (before.get(setting) is None) != (after.get(setting) is None)
    ]
    if table.sent_to is None:
        return problems
    old, new = table.sent_to(before), table.sent_to(after)
    if old.keys() != new.keys():
        return [*problems, Problem("/credentials", "give the credentials again: these settings need others")]
    message = "give it again, with all other credentials: these settings would send it to another host"
    return problems + [Problem(f"/credentials/{name}", message) for name in new if not new[name] <= old[name]]


def check_parts_per_second(value: object) -> list[Problem]:
    """`parts_per_second` of a provider: a number above 0."""
    number = _number(value)
    if number is None or not 0 < number <= MAX_PARTS_PER_SECOND:
        return [Problem("/parts_per_second", f"must be a number above 0 and at most {MAX_PARTS_PER_SECOND}")]
    return []


def with_defaults(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that passed check_provider, completed and in one spelling. Fields without default stay absent."""
    complete: dict[str, Any] = {}
    for field in PROVIDER_KINDS[kind].settings:
        value = settings.get(field.name)
        if value is None:
            value = field.default
        if value is None:
            continue
        if field.type == "choice":
            value = dict(field.aliases).get(str(value), str(value))
        elif field.type == "url":
            value = str(value).rstrip("/")
        complete[field.name] = value
    return complete


def _check_fields(root: str, fields: tuple[ProviderField, ...], values: Mapping[str, Any], kind: str) -> list[Problem]:
    known = {field.name for field in fields}
    problems = [
        Problem(f"{root}/{_escape(name)}", f"unknown field of kind {kind}") for name in values if name not in known
    ]
    for field in fields:
        value = values.get(field.name)
        if value is None:
            if field.required:
                problems.append(Problem(f"{root}/{field.name}", "is required"))
            continue
        message = _wrong(field, value)
        if message:
            problems.append(Problem(f"{root}/{field.name}", message))
    return problems


def _wrong(field: ProviderField, value: object) -> str | None:
    """What is wrong with the value, in words that do not repeat it: it may be a secret in the wrong field."""
    if field.type in ("number", "integer"):
        return _wrong_number(field, value)
    if not isinstance(value, str):
        return "must be text"
    if field.type == "choice":
        kept = dict(field.aliases).get(value, value)
        return None if kept in field.choices else f"must be one of: {', '.join(field.choices)}"
    if field.type == "url":
        return wrong_with_url(value)
    if field.pattern and not re.fullmatch(field.pattern, value):
        return f"must be {field.hint}"
    return None


def _wrong_number(field: ProviderField, value: object) -> str | None:
    noun = "a whole number" if field.type == "integer" else "a number"
    number = _number(value)
    if number is None or (field.type == "integer" and not isinstance(number, int)):
        return f"must be {noun}"
    low, high = field.minimum, field.maximum
    if (low is not None and not number >= low) or (high is not None and not number <= high):
        return f"must be {noun} from {low:g} to {high:g}"
    return None


def _number(value: object) -> int | float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

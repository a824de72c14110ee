"""What a provider's `settings` and `credentials` may hold, per kind: tables, and the check the API answers 422 from.

Pure data and pure functions; knows no vendor's protocol. The dispatcher builds adapters from what passed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from postrider.contracts.generic_provider import check_generic, generic_credentials_for
from postrider.contracts.netcore_provider import check_netcore, netcore_credentials_for
from postrider.contracts.problems import Problem as Problem
from postrider.contracts.problems import escape as _escape
from postrider.contracts.urls import wrong_with_url

KINDS = ("twilio", "vonage", "msg91", "exotel", "netcore", "generic", "sandbox")
"""All kinds of api.md; those without an entry in PROVIDER_KINDS are refused as not built yet."""

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_IN_DOUBT_WAIT_SECONDS = 120
MAX_PARTS_PER_SECOND = 100_000

FieldType = Literal["text", "url", "number", "integer", "choice", "object", "list"]
"""`object` and `list` are settings with parts of their own, which the kind's `nested` check knows."""

Check = Callable[[Mapping[str, Any], Mapping[str, Any] | None], list[Problem]]
"""(settings, credentials or None for those stored) → what is wrong."""


@dataclass(frozen=True, slots=True)
class ProviderField:
    """One setting or credential. `pattern` must match the whole text; `hint` says the same in words.

    `aliases` maps other spellings of a choice to the one kept.
    """

    name: str
    type: FieldType
    description: str
    required: bool = False
    default: str | float | int | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    hint: str = ""
    choices: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """`exactly_one`: groups of settings of which exactly one is given. `nested`: the check of everything but the fields
    that all kinds have, for a kind whose settings have parts of their own. `credentials_for`: what stored credentials
    were given for; when it changes they are to be given again."""

    kind: str
    settings: tuple[ProviderField, ...]
    credentials: tuple[ProviderField, ...] = ()
    exactly_one: tuple[tuple[str, ...], ...] = ()
    nested: Check | None = None
    credentials_for: Callable[[Mapping[str, Any]], frozenset[str]] | None = None


_SECRET = r"[\x21-\x7e]{1,256}"
_ID = r"[0-9A-Za-z_-]{2,64}"


def _common(base_url: str | None) -> tuple[ProviderField, ...]:
    return (
        ProviderField(
            "base_url", "url", "Where the vendor's API is: another region, a proxy, a stand-in.", default=base_url
        ),
        ProviderField(
            "timeout_seconds",
            "number",
            "Bounds one call, connecting included.",
            default=DEFAULT_TIMEOUT_SECONDS,
            minimum=0.5,
            maximum=60,
        ),
        ProviderField(
            "in_doubt_wait_seconds",
            "number",
            "How long after an attempt a look-up that finds nothing still proves nothing. Too short doubles texts.",
            default=DEFAULT_IN_DOUBT_WAIT_SECONDS,
            minimum=0,
            maximum=86_400,
        ),
    )


_SHARED = tuple(field.name for field in _common(None))
SANDBOX_OUTCOMES = (
    "accept", "rejected_recipient", "rejected_content", "rejected_provider", "rejected_later", "in_doubt",
)  # fmt: skip

PROVIDER_KINDS: Mapping[str, ProviderKind] = {
    "twilio": ProviderKind(
        kind="twilio",
        settings=(
            *_common("https://api.twilio.com"),
            ProviderField(
                "account_sid",
                "text",
                "Account SID (AC…).",
                required=True,
                pattern=_ID,
                hint="2 to 64 letters, digits, - or _",
            ),
            ProviderField(
                "from",
                "text",
                "Sender: a number in E.164, a short code, or an alphanumeric sender id.",
                pattern=r"\+[1-9][0-9]{5,14}|[0-9]{3,8}|[0-9A-Za-z][0-9A-Za-z &_.-]{1,10}",
                hint="a number in E.164, a short code, or 2 to 11 letters and digits",
            ),
            ProviderField(
                "messaging_service_sid",
                "text",
                "Messaging Service SID (MG…), instead of `from`.",
                pattern=_ID,
                hint="2 to 64 letters, digits, - or _",
            ),
        ),
        credentials=(
            ProviderField(
                "auth_token",
                "text",
                "Auth token of the account; also checks the signatures of callbacks.",
                required=True,
                pattern=_SECRET,
                hint="1 to 256 printable characters without spaces",
            ),
        ),
        exactly_one=(("from", "messaging_service_sid"),),
    ),
    "sandbox": ProviderKind(
        kind="sandbox",
        settings=(
            *_common(None),
            ProviderField("latency_ms", "integer", "How long each call takes.", default=0, minimum=0, maximum=60_000),
            ProviderField(
                "outcome",
                "choice",
                "What each call ends as. `in_doubt`: the text is lost and the reply says nothing.",
                default="accept",
                choices=SANDBOX_OUTCOMES,
                aliases=(
                    ("accepted", "accept"),
                    *((name.replace("_", ": ", 1), name) for name in SANDBOX_OUTCOMES if name.startswith("rejected_")),
                    ("in doubt", "in_doubt"),
                ),
            ),
            ProviderField(
                "receipt",
                "choice",
                "What receipts say of an accepted text.",
                default="delivered",
                choices=("delivered", "undelivered", "none"),
            ),
        ),
    ),
    "generic": ProviderKind(
        kind="generic",
        settings=(
            *_common(None),
            ProviderField(
                "url", "text", "Where texts go, placeholders allowed behind the host; a path is of `base_url`."
            ),
            ProviderField("method", "choice", "Of the request.", default="POST", choices=("GET", "POST")),
            ProviderField("content_type", "choice", "Of a POST; by default what is given.", choices=("form", "json")),
            ProviderField("form", "object", "Key-values of the form; of a GET they join the query."),
            ProviderField("json", "object", "The document, once with a batch's array holding one element."),
            ProviderField("headers", "object", "Headers by name, placeholders allowed."),
            ProviderField(
                "auth", "object", "`type`: none, basic (`username`) or oauth2 (`token_url`, `client_id`, …)."
            ),
            ProviderField("batch", "object", "`key` of the array and `size`, the most texts in a call."),
            ProviderField("campaign_pairs", "object", "Which pairs a campaign may add: `message`, `header`, `global`."),
            ProviderField("variables_joiner", "text", "Joins $$TemplateVariables outside a JSON array.", default="|"),
            ProviderField(
                "to_format", "choice", "+ and digits, or digits.", default="e164", choices=("e164", "digits")
            ),
            ProviderField("secrets", "list", "Names of placeholders whose values are in the credentials."),
            ProviderField(
                "reply", "object", "What replies mean: `statuses`, `message_id`, `error_code`, `codes`, `records`."
            ),
            ProviderField("receipts", "choice", "Shape of callbacks.", default="none", choices=("clevertap", "none")),
        ),
        credentials=(
            ProviderField("password", "text", "Of auth basic."),
            ProviderField("client_secret", "text", "Of auth oauth2."),
            ProviderField("secrets", "object", "Values by the names in `settings.secrets`."),
        ),
        nested=check_generic,
        credentials_for=generic_credentials_for,
    ),
    "netcore": ProviderKind(
        kind="netcore",
        settings=(
            *_common("https://bulkpush.mytoday.com"),
            ProviderField("feed_id", "text", "Feed id of the account.", required=True),
            ProviderField("sender_id", "text", "Sender id; without it the feed's own."),
            ProviderField(
                "format", "choice", "SingleMsgApi or JsonSingleApi.", default="form", choices=("form", "json")
            ),
            ProviderField("entity_id", "text", "DLT entity id; with it each campaign names its DLT template."),
            ProviderField("path", "text", "Path of the API, when it is another."),
            ProviderField("fields", "object", "The vendor's names of fields, when they are others."),
            ProviderField("more", "object", "Further fields and their fixed values."),
            ProviderField("reply", "object", "What replies mean, as of kind generic."),
        ),
        credentials=(
            ProviderField("username", "text", "User name of the account.", required=True),
            ProviderField("password", "text", "Password of the account.", required=True),
        ),
        nested=check_netcore,
        credentials_for=netcore_credentials_for,
    ),
}


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
    if kind not in KINDS:
        return [Problem("/kind", f"must be one of: {', '.join(KINDS)}")]
    table = PROVIDER_KINDS.get(kind)
    if table is None:
        return [Problem("/kind", f"{kind} is not built yet; there are: {', '.join(PROVIDER_KINDS)}")]
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
    if parts_per_second is not None:
        problems += check_parts_per_second(parts_per_second)
    return problems


def check_kept_credentials(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a change of settings that keeps the credentials stored, which nobody here can read: the new
    settings need others, or would send them to another host, where whoever made the change could read them."""
    credentials_for = PROVIDER_KINDS[kind].credentials_for
    if credentials_for is None or credentials_for(before) == credentials_for(after):
        return []
    return [Problem("/credentials", "give the credentials again: these settings need others, or are of another host")]


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

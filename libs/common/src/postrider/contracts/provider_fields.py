"""What a provider's `settings` and `credentials` may hold, per kind: tables, and the check the API answers 422 from.

Pure data and pure functions; knows no vendor's protocol. The dispatcher builds adapters from what passed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

KINDS = ("twilio", "vonage", "msg91", "exotel", "netcore", "generic", "sandbox")
"""All kinds of api.md; those without an entry in PROVIDER_KINDS are refused as not built yet."""

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_IN_DOUBT_WAIT_SECONDS = 120
MAX_PARTS_PER_SECOND = 100_000

FieldType = Literal["text", "url", "number", "integer", "choice"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. `pointer` is a JSON pointer into the provider as it was sent."""

    pointer: str
    message: str


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
    """`exactly_one`: groups of settings of which exactly one is given. `together`: (setting, credential) of which
    neither means anything without the other."""

    kind: str
    settings: tuple[ProviderField, ...]
    credentials: tuple[ProviderField, ...] = ()
    exactly_one: tuple[tuple[str, ...], ...] = ()
    together: tuple[tuple[str, str], ...] = ()


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


VONAGE_SIGNATURE_METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")
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
    "exotel": ProviderKind(
        kind="exotel",
        settings=(
            *_common(None),
            ProviderField(
                "subdomain",
                "text",
                "The region's host: api.exotel.com (Singapore), api.in.exotel.com (Mumbai); `base_url` wins.",
                default="api.exotel.com",
                pattern=r"@?[0-9A-Za-z-]{1,63}(\.[0-9A-Za-z-]{1,63}){1,5}",
                hint="a host name",
            ),
            ProviderField(
                "account_sid",
                "text",
                "Account SID, from the API settings.",
                required=True,
                pattern=_ID,
                hint="2 to 64 letters, digits, - or _",
            ),
            ProviderField(
                "sender_id",
                "text",
                "Sender: an ExoPhone, or a sender id (header) linked to it.",
                required=True,
                pattern=r"\+?[0-9A-Za-z][0-9A-Za-z-]{2,15}",
                hint="a number, or 3 to 16 letters, digits or -",
            ),
            ProviderField(
                "dlt_entity_id",
                "text",
                "DLT entity id; India demands it.",
                pattern=r"[0-9]{5,30}",
                hint="5 to 30 digits",
            ),
            ProviderField(
                "dlt_template_id",
                "text",
                "DLT template id of texts whose campaign names no `template_id`.",
                pattern=r"[0-9]{5,30}",
                hint="5 to 30 digits",
            ),
            ProviderField(
                "sms_type",
                "choice",
                "SmsType of every text; left out, Exotel finds it by its own templates.",
                choices=("transactional", "transactional_opt_in", "promotional"),
            ),
            ProviderField("priority", "choice", "Priority of every text; high costs more.", choices=("normal", "high")),
            ProviderField(
                "bulk",
                "choice",
                "Several texts in one call, in one of the two shapes that Exotel documents; off: one text a call.",
                default="off",
                choices=("off", "json", "form"),
            ),
            ProviderField(
                "number_country",
                "text",
                "ISO 3166-1 country of the numbers that Exotel writes without country code in texts from people.",
                default="IN",
                pattern=r"[A-Z]{2}",
                hint="two capital letters",
            ),
        ),
        credentials=(
            ProviderField(
                "api_key",
                "text",
                "API key.",
                required=True,
                pattern=r"[\x21-\x39\x3b-\x7e]{1,256}",
                hint="1 to 256 printable characters without spaces and colons",
            ),
            ProviderField(
                "api_token",
                "text",
                "API token.",
                required=True,
                pattern=_SECRET,
                hint="1 to 256 printable characters without spaces",
            ),
        ),
    ),
    "msg91": ProviderKind(
        kind="msg91",
        settings=(
            *_common("https://control.msg91.com"),
            ProviderField(
                "sender",
                "text",
                "Sender id (header) of the templates; left out, the template's own.",
                pattern=r"[0-9A-Za-z]{3,16}",
                hint="3 to 16 letters and digits",
            ),
            ProviderField(
                "route",
                "choice",
                "Route, where the account has several: promotional or transactional.",
                choices=("1", "4"),
                aliases=(("promotional", "1"), ("transactional", "4")),
            ),
            ProviderField(
                "short_url",
                "choice",
                "Whether MSG91 shortens the links in a text.",
                default="off",
                choices=("off", "on"),
            ),
            ProviderField(
                "real_time_response",
                "choice",
                "Asks for MSG91's `realTimeResponse`.",
                default="off",
                choices=("off", "on"),
            ),
            ProviderField(
                "webhook_version",
                "choice",
                "Which version of the delivery webhook is chosen in MSG91's panel. It decides how receipts find texts.",
                default="v2",
                choices=("v2", "v3", "v4"),
            ),
            ProviderField(
                "recipients_per_call",
                "integer",
                "Most recipients in one call.",
                default=100,
                minimum=1,
                maximum=1000,
            ),
        ),
        credentials=(
            ProviderField(
                "auth_key",
                "text",
                "Auth key.",
                required=True,
                pattern=_SECRET,
                hint="1 to 256 printable characters without spaces",
            ),
        ),
    ),
    "vonage": ProviderKind(
        kind="vonage",
        settings=(
            *_common("https://rest.nexmo.com"),
            ProviderField(
                "api_key",
                "text",
                "API key of the account.",
                required=True,
                pattern=_ID,
                hint="2 to 64 letters, digits, - or _",
            ),
            ProviderField(
                "from",
                "text",
                "Sender: a number with its country code, a short code, or an alphanumeric sender id.",
                required=True,
                pattern=r"\+?[0-9]{3,15}|[0-9A-Za-z][0-9A-Za-z &_.-]{1,10}",
                hint="a number, or 2 to 11 letters and digits",
            ),
            ProviderField(
                "signature_method",
                "choice",
                "How the account signs, as its API settings say: requests are signed instead of carrying the secret, "
                "and callbacks that are not signed this way are refused. Without it nothing is signed.",
                choices=VONAGE_SIGNATURE_METHODS,
            ),
        ),
        credentials=(
            ProviderField(
                "api_secret",
                "text",
                "API secret of the account.",
                required=True,
                pattern=_SECRET,
                hint="1 to 256 printable characters without spaces",
            ),
            ProviderField(
                "signature_secret",
                "text",
                "Signature secret of the account; goes with `signature_method`.",
                pattern=_SECRET,
                hint="1 to 256 printable characters without spaces",
            ),
        ),
        together=(("signature_method", "signature_secret"),),
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
    that goes together with one of them came or went."""
    return [
        Problem(f"/credentials/{credential}", f"give the credentials again when settings.{setting} comes or goes")
        for setting, credential in PROVIDER_KINDS[kind].together
        if (before.get(setting) is None) != (after.get(setting) is None)
    ]


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
        return _wrong_url(value)
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


def _wrong_url(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "must be a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be an http or https URL with a host"
    if "@" in parts.netloc:
        return "must not carry a user name or password"
    if parts.query or parts.fragment or "?" in value or "#" in value:
        return "must not have a query or fragment"
    if not re.fullmatch(r"[\x21-\x7e]{1,2000}", value):
        return "must be a URL of printable ASCII without spaces"
    return None


def _number(value: object) -> int | float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")

"""What the tables of the kinds are made of. Knows no vendor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from postrider.contracts.problems import Problem
from postrider.contracts.urls import origin_of

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_IN_DOUBT_WAIT_SECONDS = 120

SECRET, SECRET_HINT = r"[\x21-\x7e]{1,256}", "1 to 256 printable characters without spaces"
ID, ID_HINT = r"[0-9A-Za-z_-]{2,64}", "2 to 64 letters, digits, - or _"

FieldType = Literal["text", "url", "number", "integer", "choice", "object", "list"]
"""`object` and `list` are settings with parts of their own, which the kind's `nested` check knows."""

SentTo = Mapping[str, frozenset[str]]
"""Credential → origins."""

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
    """`exactly_one`: groups of settings of which exactly one is given. `together`: (setting, credential) of which
    neither means anything without the other. `nested`: the check of everything but the fields that all kinds have, for
    a kind whose settings have parts of their own. `sent_to`: of each credential that the settings need, the origins
    that get it; one that would get to another is to be given again."""

    kind: str
    settings: tuple[ProviderField, ...]
    credentials: tuple[ProviderField, ...] = ()
    exactly_one: tuple[tuple[str, ...], ...] = ()
    together: tuple[tuple[str, str], ...] = ()
    nested: Check | None = None
    sent_to: Callable[[Mapping[str, Any]], SentTo] | None = None


def common(base_url: str | None, keyword_replies: Literal["on", "off"] = "on") -> tuple[ProviderField, ...]:
    """`keyword_replies`: the default of that setting."""
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
        ProviderField(
            "keyword_replies",
            "choice",
            "Whether people who send STOP, START or HELP are answered by this provider; off where the vendor does it.",
            default=keyword_replies,
            choices=("on", "off"),
        ),
    )


def sent_to_base(credential: str, base_url: str) -> Callable[[Mapping[str, Any]], SentTo]:
    """Of a kind whose credentials all go with every call, to `base_url` or else the vendor's. `credential`: the one
    that is always needed, in whose name they are asked for again."""

    def sent_to(settings: Mapping[str, Any]) -> SentTo:
        return {credential: frozenset({origin_of(str(settings.get("base_url") or base_url))})}

    return sent_to

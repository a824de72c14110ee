"""What a use case answers instead of a result. The HTTP layer turns these into problem documents, nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong. `pointer` is a JSON pointer into the body as it was sent."""

    pointer: str
    message: str


class Refused(Exception):
    """Base of the refusals. `problems` point at the fields that caused it."""

    def __init__(self, detail: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = tuple(problems)


class NotFound(Refused):
    """There is no such thing."""


class Invalid(Refused):
    """The body means nothing, or names what is not built yet."""

    def __init__(self, problems: Sequence[FieldProblem], detail: str = "") -> None:
        super().__init__(detail or "; ".join(f"{p.pointer or '/'}: {p.message}" for p in problems[:3]), problems)


class Conflict(Refused):
    """Sensible, but not in the state things are in."""


class NotAllowed(Refused):
    """Sensible, but not with this key."""


class StaleVersion(Refused):
    """Somebody changed it since it was read."""


class NotReady(Refused):
    """The service has started a moment ago and has not prepared its tables yet."""


class VersionMissing(Refused):
    """A change needs `If-Match`."""

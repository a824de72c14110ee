"""JSON logs on standard output: a constant event name and fields. Personal data has no place here.

Field names that could carry a phone, a name or a text are dropped by a processor, whoever logs them. Of an exception
the types and the places are logged, never its text: database and parser errors quote the values they choke on.
What libraries log becomes JSON too: the first line of their message, without its arguments.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog

_PERSONAL = frozenset(
    {"phone", "to", "from", "body", "text", "traits", "properties", "profile", "name", "value", "key"}
)


def _without_personal_data(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field in _PERSONAL.intersection(event):
        del event[field]
    return event


def _with_places(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = [line for each in _chain(error) for line in _places(each)]
    return event


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, and the members of groups."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from _chain(member)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [type(error).__name__, *(f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)]


class _LibraryLogs(logging.Handler):
    """What a library logs, as one of our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        said = str(record.msg).split("\n", 1)[0][:200]
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        fields = {} if error is None else {**failure(error), "exc_info": error}
        log.log(record.levelno, "library_log", logger=record.name, said=said, **fields)


def configure(service: str, level: str = "INFO") -> None:
    """Once per process, from its composition root."""
    logging.basicConfig(handlers=[_LibraryLogs()], level=logging.WARNING, force=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_personal_data,
            _with_places,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def failure(error: BaseException) -> dict[str, str]:
    """How an error appears in a log line: its type, and its text only when a library of ours made it.

    Database and parser errors quote the values they choke on; their text stays out of the logs.
    """
    cause = getattr(error, "orig", None)
    names = type(error).__name__ + (f"/{type(cause).__name__}" if cause is not None else "")
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    shown = {"error": names}
    if state:
        shown["sqlstate"] = str(state)
    if type(error).__module__.startswith(("postrider", "campaign_api", "segment_engine", "scheduler", "dispatcher")):
        shown["detail"] = str(error)[:300]
    return shown


log = structlog.get_logger()

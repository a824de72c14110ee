"""JSON logs on standard output: a constant event name and fields. Personal data has no place here.

Field names that could carry a phone, a name or a text are dropped by a processor, whoever logs them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_PERSONAL = frozenset(
    {"phone", "to", "from", "body", "text", "traits", "properties", "profile", "name", "value", "key"}
)


def _without_personal_data(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field in _PERSONAL.intersection(event):
        del event[field]
    return event


def configure(service: str, level: str = "INFO") -> None:
    """Once per process, from its composition root."""
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s", force=True)
    for noisy in ("aiokafka", "asyncio", "uvicorn", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL if noisy == "aiokafka" else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_personal_data,
            structlog.processors.format_exc_info,
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

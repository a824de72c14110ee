"""Logs are JSON and hold no personal data, whoever logs and whatever an exception quotes. In a process of its own: the
configuration is the process's."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PHONE = "+12025550142"
PROGRAM = f"""
import logging
from postrider import logs
logs.configure("test")
logs.log.info("text_sent", phone="{PHONE}", body="Hi Ada {PHONE}", message_id="msg_1")
try:
    try:
        raise ValueError("no such row: {PHONE}")
    except ValueError as error:
        raise ExceptionGroup("several: {PHONE}", [KeyError("{PHONE}")]) from error
except ExceptionGroup as error:
    logs.log.error("batch_failed", exc_info=error, **logs.failure(error))
    logging.getLogger("asyncio").error("Task failed\\nfuture: <{PHONE}>", exc_info=error)
logging.getLogger("sqlalchemy.pool").warning("connection of %s lost", "{PHONE}")
"""


def _lines() -> list[dict[str, Any]]:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert PHONE not in run.stdout
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_no_phone_in_any_line_and_every_line_is_json() -> None:
    sent, failed, library, warned = _lines()
    assert sent["event"] == "text_sent"
    assert sent["message_id"] == "msg_1"
    assert failed["error"] == "ExceptionGroup"
    assert [line for line in failed["exception"] if not line.startswith(" ")] == [
        "ExceptionGroup", "KeyError", "ValueError",
    ]  # fmt: skip
    assert (library["logger"], library["said"]) == ("asyncio", "Task failed")
    assert (warned["logger"], warned["said"]) == ("sqlalchemy.pool", "connection of %s lost")

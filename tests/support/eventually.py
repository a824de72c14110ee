"""The only way a test waits: asks again until it holds, and says what it last saw when it gives up."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def eventually(check: Callable[[], Any], timeout: float = 60.0, every: float = 0.05) -> Any:
    """Calls `check` (sync or async) until it returns something true, and returns that.

    An AssertionError of the check counts as "not yet". Raises AssertionError when the time is over.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            last = check()
            if inspect.isawaitable(last):
                last = await last
            if last:
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; last seen: {last!r}")
        await asyncio.sleep(every)

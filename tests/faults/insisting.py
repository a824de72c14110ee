"""Requests to an API that is being killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from postrider.local.client import ApiProblem

T = TypeVar("T")


async def insist(action: Callable[[], Awaitable[T]], seconds: float = 240.0) -> T:
    """Repeats a request while the API is being killed under it. A refusal that is not an outage is raised."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await action()
        except (httpx.HTTPError, ApiProblem) as error:
            if isinstance(error, ApiProblem) and error.status != 503:
                raise
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.3)

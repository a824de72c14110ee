"""Who may ask the internal routes: whoever has the service token."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import Header, HTTPException


def require(service_token: str) -> Callable[..., None]:
    """A dependency. Needs `Authorization: Bearer <service token>`."""

    def is_ours(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {service_token}".encode()):
            raise HTTPException(401, "the service token is missing or wrong")

    return is_ours

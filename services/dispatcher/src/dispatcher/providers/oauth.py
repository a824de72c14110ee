"""Access tokens by OAuth 2.0 client credentials (RFC 6749 §4.4): kept, renewed before they end, asked for by one at a
time, with a back-off.

Must not know what tokens are for. A token that cannot be had raises `NoToken`: only the token server was asked.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode

from dispatcher.http_port import HttpFailure, HttpPort, HttpRequest
from dispatcher.providers.replies import json_object, retry_after

WITHOUT_EXPIRY_SECONDS = 300.0
"""How long a token is used whose reply names no end."""
LONGEST_SECONDS = 86_400.0
EARLY_SECONDS, EARLY_SHARE = 60.0, 0.2
"""A token is renewed this long before its end, or a fifth of its life before where that is sooner."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 120.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")


class NoToken(Exception):
    """`reason` is a constant word, or the RFC's error word; fit for logs."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float
    ends_at: float


class TokenSource:
    """Tokens of one client. `monotonic` is for tests."""

    def __init__(
        self,
        http: HttpPort,
        url: str,
        client_id: str,
        client_secret: str,
        *,
        in_body: bool,
        extra: Mapping[str, str],
        monotonic: Callable[[], float],
    ) -> None:
        self._http = http
        self._url = url
        form = {"grant_type": "client_credentials", **extra}
        self._headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if in_body:
            form |= {"client_id": client_id, "client_secret": client_secret}
        else:
            user = f"{quote_plus(client_id)}:{quote_plus(client_secret)}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(user).decode()}"
        self._body = urlencode(form).encode()
        self._monotonic = monotonic
        self._token: _Token | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._failure = NoToken("none_yet")
        self._proven = True

    async def token(self, timeout_seconds: float) -> str:
        """One that is good now. Raises NoToken, at the latest after the timeout."""
        now = self._monotonic()
        token = self._token
        if token is not None and now < token.ends_at:
            if now >= token.renew_at and now >= self._not_before:
                self._renew(timeout_seconds)  # others go on with this one meanwhile
            return token.value
        if self._renewal is None and now < self._not_before:
            raise NoToken(self._failure.reason, self._not_before - now)
        renewal = self._renew(timeout_seconds)
        await asyncio.wait({renewal}, timeout=timeout_seconds)
        token = self._token
        if token is None or self._monotonic() >= token.ends_at:
            raise NoToken(self._failure.reason if renewal.done() else "timeout")
        return token.value

    def refused(self, value: str) -> None:
        """The server refused this token (401): the next call asks for another. One that was refused although it was
        new is followed by the back-off: asking again and again would not help."""
        if self._token is None or self._token.value != value:
            return
        self._token = None
        if self._proven:
            self._proven = False
        else:
            self._failed(NoToken("token_refused"))

    def worked(self) -> None:
        """A call with the token was not refused."""
        if not self._proven:
            self._proven, self._failures = True, 0

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _renew(self, timeout_seconds: float) -> asyncio.Task[None]:
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._fetch(timeout_seconds))
        return self._renewal

    async def _fetch(self, timeout_seconds: float) -> None:
        try:
            self._token = await self._ask(timeout_seconds)
            self._failures, self._not_before = 0 if self._proven else self._failures, 0.0
        except NoToken as failure:
            self._failed(failure)
        finally:
            self._renewal = None

    def _failed(self, failure: NoToken) -> None:
        wait = min(FIRST_WAIT_SECONDS * 2.0**self._failures, LONGEST_WAIT_SECONDS)
        self._failures = min(self._failures + 1, 16)
        self._failure = failure
        self._not_before = self._monotonic() + max(wait, min(failure.retry_after_seconds or 0.0, LONGEST_WAIT_SECONDS))

    async def _ask(self, timeout_seconds: float) -> _Token:
        asked_at = self._monotonic()
        try:
            response = await self._http.send(HttpRequest("POST", self._url, self._headers, self._body, timeout_seconds))
        except HttpFailure as failure:
            raise NoToken(failure.reason) from failure
        reply = json_object(response.body)
        if response.status != 200:
            error = reply.get("error")
            word = (
                error if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,40}", error) else f"http_{response.status}"
            )
            raise NoToken(word, retry_after(response.headers))
        value, kind = reply.get("access_token"), reply.get("token_type", "Bearer")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise NoToken("no_access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise NoToken("token_type")
        life = _seconds(reply.get("expires_in"))
        return _Token(value, asked_at + life - min(EARLY_SECONDS, life * EARLY_SHARE), asked_at + life)


def _seconds(value: object) -> float:
    """`expires_in`, a number, by some servers a text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        return WITHOUT_EXPIRY_SECONDS
    return min(float(value), LONGEST_SECONDS)

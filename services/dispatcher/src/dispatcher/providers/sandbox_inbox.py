"""Where sandbox providers keep the texts they "delivered": the port, and the in-memory one that ships with it.

The Postgres one (GET /v1/sandbox/inbox reads it) is the dispatcher's store; nothing here knows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dispatcher.providers.base import Encoding


@dataclass(frozen=True, slots=True)
class SandboxText:
    """A text as the phone got it. `from_` is the sandbox's sender name. The key is (message_id, attempt)."""

    provider_id: str
    provider_message_id: str
    message_id: str
    attempt: int
    reference: str
    to: str
    from_: str
    body: str
    encoding: Encoding
    parts: int


class InboxUnavailable(Exception):
    """The inbox could not be reached; whether a text was kept is not known. The one error an inbox raises."""


class SandboxInbox(Protocol):
    async def put(self, text: SandboxText) -> str:
        """Keep the text once per (provider_id, message_id, attempt); durable when it returns.

        Returns the provider_message_id that is kept: of the first put when the key was there already.
        """
        ...

    async def find(self, provider_id: str, message_id: str) -> list[str]:
        """provider_message_ids of this message, any attempt, oldest first."""
        ...


class MemoryInbox:
    """The inbox of tests."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str, int], SandboxText] = {}

    @property
    def texts(self) -> list[SandboxText]:
        return list(self._texts.values())

    async def put(self, text: SandboxText) -> str:
        kept = self._texts.setdefault((text.provider_id, text.message_id, text.attempt), text)
        return kept.provider_message_id

    async def find(self, provider_id: str, message_id: str) -> list[str]:
        return [
            text.provider_message_id
            for (provider, message, _), text in self._texts.items()
            if (provider, message) == (provider_id, message_id)
        ]

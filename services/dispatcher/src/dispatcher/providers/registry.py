"""Builds adapters from provider definitions: the only place that knows all kinds.

Must not read the environment or open connections: the HTTP port, the inbox and the receipt sink are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.http_port import HttpPort
from dispatcher.providers.base import ProviderAdapter
from dispatcher.providers.exotel import ExotelAdapter
from dispatcher.providers.generic import GenericAdapter
from dispatcher.providers.msg91 import Msg91Adapter
from dispatcher.providers.netcore import netcore_adapter
from dispatcher.providers.sandbox import ReceiptSink, SandboxAdapter
from dispatcher.providers.sandbox_inbox import SandboxInbox
from dispatcher.providers.twilio import TwilioAdapter
from dispatcher.providers.vonage import VonageAdapter
from postrider.clock import Clock, SystemClock
from postrider.contracts.provider_fields import Problem, check_provider, with_defaults

HttpFactory = Callable[[], HttpPort]
"""Makes one provider's own pool of connections. Called inside the running loop, only for kinds that need HTTP."""


class BadProvider(Exception):
    """The definition cannot be served: it must not take the worker down with it. Carries no values."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.pointer}: {problem.message}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class AdapterParts:
    """What adapters are built from, the same for every provider of the process."""

    new_http: HttpFactory
    inbox: SandboxInbox
    receipt_sink: ReceiptSink
    clock: Clock = field(default_factory=SystemClock)


Factory = Callable[[str, Mapping[str, Any], Mapping[str, Any], AdapterParts], ProviderAdapter]
"""(provider_id, complete settings, credentials, parts) → the adapter."""

FACTORIES: Mapping[str, Factory] = {
    "twilio": lambda id, settings, credentials, parts: TwilioAdapter(id, settings, credentials, parts.new_http()),
    "sandbox": lambda id, settings, _, parts: SandboxAdapter(id, settings, parts.inbox, parts.receipt_sink),
    "vonage": lambda id, settings, credentials, parts: VonageAdapter(
        id, settings, credentials, parts.new_http(), parts.clock
    ),
    "exotel": lambda id, settings, credentials, parts: ExotelAdapter(id, settings, credentials, parts.new_http()),
    "msg91": lambda id, settings, credentials, parts: Msg91Adapter(id, settings, credentials, parts.new_http()),
    "generic": lambda id, settings, credentials, parts: GenericAdapter(
        id, settings, credentials, parts.new_http(), monotonic=parts.clock.monotonic
    ),
    "netcore": lambda id, settings, credentials, parts: netcore_adapter(
        id, settings, credentials, parts.new_http(), monotonic=parts.clock.monotonic
    ),
}


def build_adapter(
    kind: str,
    provider_id: str,
    settings: Mapping[str, Any],
    credentials: Mapping[str, Any],
    parts: AdapterParts,
) -> ProviderAdapter:
    """The adapter of one provider; it owns its pool, close() ends it. Raises BadProvider."""
    problems = check_provider(kind, settings, credentials)
    if problems:
        raise BadProvider(problems)
    return FACTORIES[kind](provider_id, with_defaults(kind, settings), credentials, parts)

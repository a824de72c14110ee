"""The providers of the account as they are defined now: an adapter and a pipeline each, rebuilt when a definition
changes. Opened credentials go nowhere but into the adapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dispatcher import metrics
from dispatcher.calls import Prepared, ProviderTerms, Sending
from dispatcher.domain import routing
from dispatcher.domain.admission import campaign_says
from dispatcher.domain.message import Queue
from dispatcher.domain.routing import Network, Nowhere, To
from dispatcher.pipeline import Pipeline
from dispatcher.providers.base import ProviderAdapter
from dispatcher.providers.registry import AdapterParts, BadProvider, build_adapter
from dispatcher.sealed import Keys, Unsealable
from postrider.contracts.definitions import CampaignDefinition, ProviderDefinition, ProviderGroupDefinition, What
from postrider.contracts.provider_fields import check_parts_per_second, with_defaults
from postrider.contracts.what_fields import WhatFields, check_what, what_fields
from postrider.logs import log


@dataclass(frozen=True, slots=True)
class Member:
    """A provider that is served."""

    definition: ProviderDefinition
    pipeline: Pipeline
    takes: WhatFields


class Fleet:
    """A component (`run`). `changed` is called for every definition, in the event loop."""

    def __init__(
        self,
        providers: Mapping[str, ProviderDefinition],
        groups: Mapping[str, ProviderGroupDefinition],
        parts: AdapterParts,
        keys: Keys,
        public_url: str,
    ) -> None:
        self._network = Network(providers, groups)
        self._parts = parts
        self._keys = keys
        self._public_url = public_url.rstrip("/")
        self._sending: Sending | None = None
        self._members: dict[str, Member] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._dirty: set[str] = set()
        self._unusable: dict[str, str] = {}
        self._rebuilt = asyncio.Event()
        """Set, and replaced, when all that was dirty has been built."""
        self._wake = asyncio.Event()

    def changed(self, definition: object) -> None:
        if isinstance(definition, ProviderDefinition):
            self._dirty.add(definition.provider_id)
            self._wake.set()
        elif isinstance(definition, CampaignDefinition) and campaign_says(definition) != "send":
            for member in self._members.values():
                member.pipeline.recall(definition.campaign_id)

    # What others ask

    @property
    def network(self) -> Network:
        return self._network

    def definition(self, provider_id: str) -> ProviderDefinition | None:
        return self._network.providers.get(provider_id)

    def adapter(self, provider_id: str) -> ProviderAdapter | None:
        """Also of archived providers: receipts and look-ups of their texts go on."""
        member = self._members.get(provider_id)
        return None if member is None else member.pipeline.adapter

    def unusable(self, provider_id: str) -> str | None:
        """Why the newest definition of a provider cannot be served; None: it can."""
        return self._unusable.get(provider_id)

    async def built(self, provider_id: str) -> None:
        """Returns when what is defined of the provider now is what is served, or known not to be."""
        while provider_id in self._dirty:
            await self._rebuilt.wait()

    def pipeline(self, provider_id: str) -> Pipeline | None:
        member = self._members.get(provider_id)
        return None if member is None else member.pipeline

    def refuses(self, what: What, provider_id: str) -> str | None:
        """Why the provider, as it is set up now, cannot be given this: the field of `what`, or None. Saving a campaign
        or a provider prevents it as far as it can."""
        problems = check_what(self._members[provider_id].takes, msgspec.to_builtins(what.content_for(provider_id)))
        return problems[0].pointer.removeprefix("/") if problems else None

    def answers_keywords(self, provider_id: str, body: str) -> bool:
        """Whether people who write to this provider are answered with this text: it is so set, and it takes texts."""
        member = self._members.get(provider_id)
        if member is None:
            return False
        settings = with_defaults(member.definition.kind, member.definition.settings)
        return settings["keyword_replies"] == "on" and not check_what(member.takes, {"body": body})

    def waits(self) -> dict[str, float]:
        """in_doubt_wait_seconds by provider."""
        return {id: member.pipeline.terms.in_doubt_wait_seconds for id, member in self._members.items()}

    def route(self, what: What, queue: Queue, lane: int) -> To | Nowhere:
        def has_room(provider_id: str) -> bool:
            return self._members[provider_id].pipeline.room_soon(lane) > 0

        return routing.choose(self._network, what, queue.country, queue.tried, self._is_open, has_room)

    def _is_open(self, provider_id: str) -> bool:
        pipeline = self.pipeline(provider_id)
        return pipeline is not None and pipeline.is_open

    def has_another(self, text: Prepared, tried: tuple[str, ...]) -> bool:
        return routing.has_another(self._network, text.what, text.message.country, tried)

    def may_carry(self, text: Prepared, provider_id: str) -> bool:
        return routing.may_carry(self._network, text.what, text.message.country, provider_id)

    def spills(self, text: Prepared) -> bool:
        return self._network.spills(text.what)

    def has_room_elsewhere(self, text: Prepared, provider_id: str) -> bool:
        """Whether routing, asked again, would give it to somebody else than this provider, who has no room for it."""
        message = text.message

        def has_room(id: str) -> bool:
            return id != provider_id and self._members[id].pipeline.room_soon(message.lane) > 0

        target = routing.choose(self._network, text.what, message.country, message.tried, self._is_open, has_room)
        return isinstance(target, To) and target.provider_id != provider_id

    # The component

    def bind(self, sending: Sending) -> None:
        """The parts that pipelines share; they know the fleet, so they come after it."""
        self._sending = sending

    async def run(self, stop: asyncio.Event) -> None:
        """Builds and rebuilds until `stop`; then waits until every pipeline has drained."""
        assert self._sending is not None
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                dirty, self._dirty = self._dirty, set()
                for provider_id in dirty:
                    self._rebuild(provider_id, self._sending, stop)
                self._rebuilt.set()
                self._rebuilt = asyncio.Event()
                for task in self._running.values():
                    if task.done():
                        task.result()  # a pipeline that fails takes the process down: somebody restarts it
                await self._wake.wait()
                self._wake.clear()
        except asyncio.CancelledError:
            for task in self._running.values():
                task.cancel()  # nobody will set `stop` for them any more
            raise
        finally:
            stopping.cancel()
            if self._running:
                await asyncio.gather(*self._running.values())
            for member in self._members.values():
                await member.pipeline.adapter.close()
            retiring = list(self._retiring)
            for task in retiring:
                task.cancel()
            await asyncio.gather(*retiring, return_exceptions=True)

    def _rebuild(self, provider_id: str, sending: Sending, stop: asyncio.Event) -> None:
        definition = self._network.providers.get(provider_id)
        if definition is None:
            return
        try:
            if definition.parts_per_second is not None and (bad := check_parts_per_second(definition.parts_per_second)):
                raise BadProvider(bad)
            adapter = build_adapter(
                definition.kind, provider_id, definition.settings, self._open(definition), self._parts
            )
        except (BadProvider, Unsealable) as error:
            metrics.PROVIDERS_UNUSABLE.labels(provider_id).set(1)
            self._unusable[provider_id] = str(error)
            log.error("provider_unusable", provider=provider_id, kind=definition.kind, why=str(error))
            return
        metrics.PROVIDERS_UNUSABLE.labels(provider_id).set(0)
        self._unusable.pop(provider_id, None)
        terms, takes = self._terms(definition), what_fields(definition.kind, definition.settings)
        known = self._members.get(provider_id)
        if known is not None:
            old = known.pipeline.replace_adapter(terms, adapter)
            self._retire(old, known.pipeline.terms.timeout_seconds)
            self._members[provider_id] = Member(definition, known.pipeline, takes)
        else:
            pipeline = Pipeline(sending, terms, adapter)
            self._members[provider_id] = Member(definition, pipeline, takes)
            task = asyncio.create_task(pipeline.run(stop), name=f"pipeline {provider_id}")
            task.add_done_callback(lambda _: self._wake.set())
            self._running[provider_id] = task
        log.info("provider_ready", provider=provider_id, kind=definition.kind, version=definition.version)
        sending.on_room()

    def _terms(self, definition: ProviderDefinition) -> ProviderTerms:
        settings = with_defaults(definition.kind, definition.settings)
        return ProviderTerms(
            definition.provider_id,
            float(settings["timeout_seconds"]),
            float(settings["in_doubt_wait_seconds"]),
            f"{self._public_url}/receipts/{definition.provider_id}/{definition.token}",
            definition.parts_per_second,
        )

    def _retire(self, adapter: ProviderAdapter, timeout_seconds: float) -> None:
        """Closes it when the calls under way are over, so that none of them ends in doubt by our own doing."""

        async def close_later() -> None:
            try:
                await asyncio.sleep(timeout_seconds + 5)
            finally:
                await adapter.close()

        task = asyncio.create_task(close_later())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _open(self, definition: ProviderDefinition) -> dict[str, Any]:
        if not definition.sealed_credentials:
            return {}
        opened = self._keys.open(definition.sealed_credentials)
        metrics.SEALED_TO_PREVIOUS.labels(definition.provider_id).set(not opened.is_current)
        return opened.credentials

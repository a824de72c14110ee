"""Which provider a text goes to next. Whether it may go to another one at all is decided in `after_outcome.py`.

Pure. A provider that has definitely refused this text is in `tried` and is skipped; so are archived ones, those whose
breaker is open, and in some groups those whose rate has no room. The group is looked at as it is now, at submission.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from postrider.contracts.definitions import ProviderDefinition, ProviderGroupDefinition, What


@dataclass(frozen=True, slots=True)
class To:
    provider_id: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """`exhausted`: of the providers that could have it some have refused it and none of the others takes calls. After a
    pause all of them may be asked again; who refused may have recovered sooner than who is down."""

    reason: str
    exhausted: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """Providers and groups as defined now."""

    providers: Mapping[str, ProviderDefinition]
    groups: Mapping[str, ProviderGroupDefinition]

    def candidates(self, what: What, country: str | None) -> list[str]:
        """Providers by priority: the campaign's own, or its group's, or the default group's; a route for the
        recipient's country replaces the group's list."""
        if what.provider_id is not None:
            return [what.provider_id]
        group = self._group(what)
        if group is None:
            return []
        for route in group.routes:
            if route.country == country and country is not None:
                return list(route.provider_ids)
        return list(group.provider_ids)

    def spills(self, what: What) -> bool:
        """Whether the next of its group takes what the first has no room for."""
        group = None if what.provider_id is not None else self._group(what)
        return group is not None and group.failover_on_rate_limit

    def _group(self, what: What) -> ProviderGroupDefinition | None:
        if what.provider_group_id is not None:
            return self.groups.get(what.provider_group_id)
        return next((group for group in self.groups.values() if group.is_default), None)

    def is_active(self, provider_id: str) -> bool:
        provider = self.providers.get(provider_id)
        return provider is not None and provider.status == "active"


def choose(
    network: Network,
    what: What,
    country: str | None,
    tried: Collection[str],
    is_closed: Callable[[str], bool],
    has_room: Callable[[str], bool] = lambda _: True,
) -> To | Nowhere:
    """The first active candidate by priority that has not refused the text and whose breaker lets calls through. In a
    group that fails over on rate limits: the first of them that has room; the first when nobody has."""
    active = [provider for provider in network.candidates(what, country) if network.is_active(provider)]
    if not active:
        return Nowhere("no_active_provider")
    untried = [provider for provider in active if provider not in tried]
    if not untried:
        return Nowhere("every_provider_refused", exhausted=True)
    takers = [provider for provider in untried if is_closed(provider)]
    if takers:
        is_by_room = len(takers) > 1 and network.spills(what)
        return To(next(filter(has_room, takers), takers[0]) if is_by_room else takers[0])
    return Nowhere("breaker_open", exhausted=len(untried) < len(active))


def may_carry(network: Network, what: What, country: str | None, provider_id: str) -> bool:
    """Whether a text that was routed to it may still go there: groups are taken as they are at submission."""
    return network.is_active(provider_id) and provider_id in network.candidates(what, country)


def has_another(network: Network, what: What, country: str | None, tried: Collection[str]) -> bool:
    """Whether a provider is left that has not refused the text, whatever its breaker says."""
    return any(network.is_active(provider) and provider not in tried for provider in network.candidates(what, country))

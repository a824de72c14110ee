"""Which provider is next."""

from collections.abc import Callable
from typing import Any

from dispatcher.domain.message import Queue
from dispatcher.domain.routing import Network, Nowhere, To, choose, has_another, may_carry
from postrider.contracts.definitions import ProviderDefinition, ProviderGroupDefinition, Route, What


def network(archived: tuple[str, ...] = (), routes: list[Route] | None = None, spills: bool = False) -> Network:
    providers = {
        id: ProviderDefinition(id, 1, id, "sandbox", {}, "", "t", status="archived" if id in archived else "active")
        for id in ("a", "b", "c", "d")
    }
    groups = {
        "g": ProviderGroupDefinition("g", 1, "g", ["a", "b", "c"], routes=routes or [], failover_on_rate_limit=spills),
        "default": ProviderGroupDefinition("default", 1, "default", ["d"], is_default=True),
    }
    return Network(providers, groups)


def what(**more: Any) -> What:
    return What("Hi", **({"provider_group_id": "g"} | more))


def everything(_: str) -> bool:
    return True


def test_by_priority() -> None:
    assert choose(network(), what(), None, (), everything) == To("a")


def test_who_refused_is_skipped_until_nobody_is_left() -> None:
    assert choose(network(), what(), None, ("a",), everything) == To("b")
    assert choose(network(), what(), None, ("c", "a", "b"), everything) == Nowhere("every_provider_refused", True)


def test_open_breakers_and_archived_providers_are_skipped() -> None:
    assert choose(network(), what(), None, (), lambda id: id != "a") == To("b")
    assert choose(network(archived=("a", "b")), what(), None, (), everything) == To("c")
    nowhere = choose(network(), what(), None, (), lambda _: False)
    assert nowhere == Nowhere("breaker_open") and not nowhere.exhausted


def test_who_refused_is_asked_again_when_all_others_are_ill() -> None:
    """A refusal of a moment ago must not tie the text to a provider that is down for hours."""
    assert choose(network(), what(), None, ("a",), lambda id: id == "a") == Nowhere("breaker_open", exhausted=True)


def test_a_text_goes_only_where_its_group_still_sends_it() -> None:
    assert may_carry(network(), what(), None, "b")
    assert not may_carry(network(archived=("b",)), what(), None, "b")
    assert not may_carry(network(), what(), None, "d"), "not in the group (any more)"
    assert not may_carry(network(routes=[Route("IN", ["c"])]), what(), "IN", "a")


def test_nobody_active_is_no_exhaustion() -> None:
    assert choose(network(archived=("d",)), What("Hi"), None, (), everything) == Nowhere("no_active_provider")
    assert choose(network(), what(provider_group_id="gone"), None, (), everything) == Nowhere("no_active_provider")


def test_own_provider_before_group_before_default_group() -> None:
    assert choose(network(), what(provider_id="c"), None, (), everything) == To("c")
    assert choose(network(), What("Hi"), None, (), everything) == To("d")


def test_a_route_for_the_country_replaces_the_group() -> None:
    routed = network(routes=[Route("IN", ["c", "b"])])
    assert choose(routed, what(), "IN", (), everything) == To("c")
    assert choose(routed, what(), "US", (), everything) == To("a")
    assert choose(routed, what(), None, (), everything) == To("a")
    assert choose(routed, what(), "IN", ("c", "b"), everything) == Nowhere("every_provider_refused", True)


def test_has_another_ignores_breakers() -> None:
    assert has_another(network(), what(), None, ("a", "b"))
    assert not has_another(network(archived=("c",)), what(), None, ("a", "b"))


def test_the_next_takes_what_one_has_no_room_for_if_the_group_says_so() -> None:
    def room_at(*ids: str) -> Callable[[str], bool]:
        return lambda id: id in ids

    assert choose(network(), what(), None, (), everything, room_at("c")) == To("a"), "it waits for its provider"
    spilling = network(spills=True)
    assert choose(spilling, what(), None, (), everything, room_at("a", "b", "c")) == To("a")
    assert choose(spilling, what(), None, (), everything, room_at("c")) == To("c")
    assert choose(spilling, what(), None, (), everything, room_at()) == To("a"), "all wait: by priority"
    assert choose(spilling, what(), None, ("c",), everything, room_at("c")) == To("a"), "never to who refused it"
    assert choose(spilling, what(), None, (), lambda id: id == "b", room_at("c")) == To("b"), "nor to who is ill"
    assert choose(spilling, what(provider_id="b"), None, (), everything, room_at("c")) == To("b"), "no group is asked"
    assert choose(network(routes=[Route("IN", ["b", "a"])], spills=True), what(), "IN", (), everything,
                  room_at("a", "c")) == To("a")  # fmt: skip


def test_a_queue_has_one_name() -> None:
    for queue in (Queue("cmp_1", 2, "IN", ("a", "b")), Queue("cmp_1", 1, None), Queue("c", 1, "IN", (), True)):
        assert Queue.parse(queue.name) == queue
    assert "cmp_1|" <= Queue("cmp_1", 1, None).name < "cmp_1}"

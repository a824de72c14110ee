"""Which provider of a group gets a text: by the recipient's country, by what the others refuse, and by whose rate has
room; as the group is at that moment.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from postrider.contracts.definitions import Route
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        for name in "abcd":
            await made.provider(f"prv_{name}", receipt="none")
        yield made


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached, 20)


async def carriers(stage: Stage) -> Counter[tuple[str, str | None]]:
    """(provider, the recipient's country) of every text, by the providers' inbox."""
    rows = await stage.rows("SELECT s.provider_id, l.country FROM sandbox_inbox s JOIN ledger l USING (message_id)")
    return Counter((row.provider_id, row.country) for row in rows)


async def test_the_recipients_country_decides_also_after_an_edit(stage: Stage) -> None:
    await stage.provider("prv_b", outcome="rejected_provider")
    await stage.group(["prv_a"], routes=[Route("IN", ["prv_b", "prv_c"]), Route("FR", ["prv_a"])])
    async with dispatching(stage):
        await stage.order([stage.job(country=country) for country in ("IN", "IN", "US", "FR", None)])
        await settled(stage, {"ACCEPTED": 5})
        assert await carriers(stage) == {
            ("prv_c", "IN"): 2, ("prv_a", "US"): 1, ("prv_a", "FR"): 1, ("prv_a", None): 1,
        }, "who refuses is followed by the next of the route, never by one of the group"  # fmt: skip
        await stage.campaign(status="paused")
        await stage.order(stage.jobs(5, country="IN"))
        await settled(stage, {"ACCEPTED": 5, "HELD": 5})
        await stage.group(["prv_a"], routes=[Route("IN", ["prv_d"])])
        await stage.campaign()
        await settled(stage, {"ACCEPTED": 10})
    assert (await carriers(stage))["prv_d", "IN"] == 5, "queued before the edit, sent after it"


@pytest.mark.parametrize("spills", [True, False])
async def test_what_a_rate_has_no_room_for_goes_to_the_next_if_the_group_says_so(stage: Stage, spills: bool) -> None:
    await stage.provider("prv_a", receipt="none", parts_per_second=5)
    await stage.group(["prv_a", "prv_b"], failover_on_rate_limit=spills)
    async with dispatching(stage):
        await stage.order(stage.jobs(15))
        await settled(stage, {"ACCEPTED": 15})
    by_provider = Counter(provider for provider, _ in (await carriers(stage)).elements())
    if spills:
        assert 0 < by_provider["prv_a"] < 12 and by_provider["prv_b"] > 3
    else:
        assert by_provider == {"prv_a": 15}
    attempts = await stage.rows("SELECT DISTINCT attempt, outcome FROM attempts")
    assert [tuple(row) for row in attempts] == [(1, "accepted")], "nobody was asked in vain"


@pytest.mark.parametrize(("spills", "story"), [
    (True, [("prv_a", "rejected_later"), ("prv_b", "accepted")]),
    (False, [("prv_a", "rejected_later"), ("prv_a", "accepted")]),
])  # fmt: skip
async def test_who_throttles_is_waited_for_unless_the_group_fails_over(
    stage: Stage, spills: bool, story: list[tuple[str, str]]
) -> None:
    await stage.provider("prv_a", receipt="none", outcome="rejected_later")
    await stage.group(["prv_a", "prv_b"], failover_on_rate_limit=spills)
    async with dispatching(stage):
        await stage.order(stage.jobs(1))

        async def refused() -> bool:
            return bool(await stage.rows("SELECT 1 FROM attempts"))

        await eventually(refused)
        await stage.provider("prv_a", receipt="none")
        await settled(stage, {"ACCEPTED": 1})
    rows = await stage.rows("SELECT provider_id, outcome FROM attempts ORDER BY attempt")
    assert [tuple(row) for row in rows] == story


async def test_a_doubt_is_failed_over_by_no_group(stage: Stage) -> None:
    await stage.provider("prv_a", outcome="in_doubt", in_doubt_wait_seconds=60, timeout_seconds=1)
    await stage.group(["prv_a", "prv_b"], failover_on_rate_limit=True, routes=[Route("US", ["prv_a", "prv_b"])])
    async with dispatching(stage):
        await stage.order(stage.jobs(4))

        async def breaker_or_doubt() -> bool:
            states = await stage.states()
            assert sum(states.values()) == 4 and set(states) <= {"IN_DOUBT", "ACCEPTED"}
            return states.get("IN_DOUBT") == 4

        await eventually(breaker_or_doubt)
        assert await carriers(stage) == {}

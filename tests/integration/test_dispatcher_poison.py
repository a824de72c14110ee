"""Poison among what a campaign gives a provider, wherever it stands, costs its own texts and nobody else's: templates
that spin, values that nothing can render.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from postrider.contracts.definitions import Content, References
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

SPIN = "{% for i in (1..1000000000) limit: 1 offset: 900000000 %}{% endfor %}x"
LOOPING = "{% for i in (1..3) %}{{ Profile.name }} {% endfor %}"
GOOD: dict[str, Any] = {
    "template_id": "t",
    "template_variables": ["{{ Profile.name }}"],
    "message_pairs": {"extra": "e"},
    "header_pairs": {"route": "r"},
    "global_pairs": {"everybody": "g"},
}
POISONED: dict[str, dict[str, Any]] = {
    "variable": {"template_variables": ["fine", SPIN]},
    "message_pair": {"message_pairs": {"extra": SPIN}},
    "header_pair": {"header_pairs": {"route": SPIN}},
    "global_pair": {"global_pairs": {"everybody": SPIN}},
    "template": {"template_id": SPIN},
}
JOBS = 10


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.provider(
            "prv_unlike", "generic", url="https://sms.example.com/send", headers={"X-Route": "$$route"},
            json={"all": "$$everybody",
                  "to": [{"to": "$$To", "id": "$$TemplateID", "vars": "$$TemplateVariables", "extra": "$$extra"}]},
            batch={"key": "to", "size": 50},
        )  # fmt: skip
        await made.provider("prv_a", receipt="none")
        await made.group(["prv_a"])
        await made.group(["prv_unlike", "prv_a"], "grp_unlike", is_default=False)
        yield made


async def test_poison_anywhere_in_what_one_provider_is_given(stage: Stage) -> None:
    references = References(["name"], [])
    for where, poison in POISONED.items():
        content = Content(**{**GOOD, **poison})
        await stage.campaign(
            where, body="Hi", provider_group_id="grp_unlike", by_provider={"prv_unlike": content}, references=references
        )
        await stage.order(stage.jobs(JOBS, where))
    await stage.campaign("body", body=SPIN, references=references)
    await stage.order(stage.jobs(JOBS, "body"))
    await stage.campaign("healthy", body=LOOPING, references=references)
    await stage.campaign("plain", body="Hi {{ Profile.name }}", references=references)
    healthy = stage.jobs(4 * JOBS, "healthy")
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    poison_event = stage.job("healthy", profile={"name": deep})
    await stage.order([*healthy, poison_event, *stage.jobs(4 * JOBS, "plain")])
    async with dispatching(stage):

        async def reached() -> bool:
            rows = await stage.rows("SELECT campaign_id, state, count(*) AS n FROM ledger GROUP BY 1, 2")
            found = {(row.campaign_id, row.state): row.n for row in rows}
            assert found == {
                **{(where, "FAILED"): JOBS for where in (*POISONED, "body")},
                ("healthy", "ACCEPTED"): 4 * JOBS,
                ("healthy", "FAILED"): 1,
                ("plain", "ACCEPTED"): 4 * JOBS,
            }, found
            return True

        await eventually(reached, 90)
    reasons = await stage.rows("SELECT DISTINCT campaign_id, reason FROM ledger WHERE state = 'FAILED'")
    by_campaign: dict[str, set[str]] = {}
    for row in reasons:
        by_campaign.setdefault(row.campaign_id, set()).add(row.reason)
    for where in (*POISONED, "body"):
        assert by_campaign[where] == {"limit_cpu", "limit_poison_template"}, by_campaign
    ((attempts,),) = await stage.rows("SELECT sum(attempt) FROM ledger WHERE state = 'FAILED'")
    assert attempts == 0, "what cannot be rendered is never marked"

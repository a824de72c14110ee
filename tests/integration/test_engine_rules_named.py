"""Rules of the running segment-engine that name segments, campaigns and user lists."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from postrider.contracts.audience import (
    REFUSED,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    AudienceRefused,
    AudienceSnapshotted,
    SnapshotRequested,
)
from postrider.contracts.definitions import SEGMENT_TYPE, SegmentDefinition
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.ids import message_id, new_id, run_id
from postrider.contracts.topics import AUDIENCE_REQUESTS, DELIVERY_EVENTS, QUALIFIED_USERS_BULK, SEGMENT_DEFINITIONS
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify

pytestmark = pytest.mark.integration


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


async def save(made: Engine, id: str, version: int, rule: dict[str, Any]) -> None:
    await made.tell(SEGMENT_DEFINITIONS, id, SEGMENT_TYPE, SegmentDefinition(id, version, id, rule))


async def tell(made: Engine, user_id: str, status: str, seq: int, campaign: str = "cmp_1") -> None:
    now = datetime.now(UTC)
    id = message_id(campaign, "once", user_id)
    change = MessageChanged(id, campaign, "run", "once", user_id, status, seq, now, now)
    await made.tell(DELIVERY_EVENTS, user_id, MESSAGE_CHANGED, change)


async def ask(made: Engine, occurrence: str, **rule: Any) -> None:
    run = run_id("cmp_2", occurrence)
    request = SnapshotRequested(run, "cmp_2", occurrence, 7, datetime.now(UTC), **rule)
    await made.tell(AUDIENCE_REQUESTS, run, SNAPSHOT_REQUESTED, request)


async def total(made: Engine, occurrence: str) -> int:
    async def found() -> list[AudienceSnapshotted]:
        answers = await made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted)
        return [answer for answer in answers if answer.occurrence == occurrence]

    answers: list[AudienceSnapshotted] = await eventually(found, 20)
    return answers[0].total


async def refusal(made: Engine, occurrence: str) -> str:
    async def found() -> list[AudienceRefused]:
        answers = await made.published(QUALIFIED_USERS_BULK, REFUSED, AudienceRefused)
        return [answer for answer in answers if answer.occurrence == occurrence]

    answers: list[AudienceRefused] = await eventually(found, 20)
    return answers[0].reason


async def estimate(http: httpx.AsyncClient, rule: dict[str, Any]) -> httpx.Response:
    return await http.post("/internal/estimate", json={"rule": rule})


async def qualified(http: httpx.AsyncClient, rule: dict[str, Any]) -> int:
    answer = await estimate(http, rule)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["qualified"])


def messaged(status: str) -> dict[str, Any]:
    return {"messaged": {"campaign_id": "cmp_1", "status": status, "window": {"last": "P1D"}}}


async def test_an_audience_knows_of_every_text_told_before_it_was_asked_for(made: Engine) -> None:
    people = [f"u-{n}" for n in range(200)]
    async with made.running():
        await made.send(*(identify(user_id, f"i-{user_id}", city="Pune") for user_id in people))
        for user_id in people[:150]:
            await tell(made, user_id, "awaiting_receipt", 3)
        await ask(made, "at once", rule={"not": messaged("accepted")})
        assert await total(made, "at once") == 50
    # What a crash leaves in the log counts after the next start; told twice, it counts once.
    await tell(made, people[150], "delivered", 4)
    await tell(made, people[0], "awaiting_receipt", 3)
    await tell(made, people[151], "rejected", 2)
    async with made.running() as http:
        await ask(made, "later", rule={"all": [messaged("accepted"), {"not": messaged("delivered")}]})
        assert await total(made, "later") == 150
        assert await qualified(http, messaged("delivered")) == 1
        assert await qualified(http, {"any": [messaged("clicked"), messaged("converted")]}) == 0


async def test_segments_are_those_saved_now_however_deep_they_are_named(made: Engine) -> None:
    async with made.running() as http:
        await made.send(identify("a", "1", city="Pune"), identify("b", "2", city="Paris"))
        await save(made, "seg_1", 1, {"attribute": {"name": "city", "op": "eq", "value": "Pune"}})
        await save(made, "seg_2", 1, {"not": {"in_segment": "seg_1"}})
        await ask(made, "first", rule={"any": [{"in_segment": "seg_2"}]})
        assert await total(made, "first") == 1
        await save(made, "seg_1", 2, {"not": {"all": []}})
        await ask(made, "second", segment_id="seg_2")
        assert await total(made, "second") == 2
        await save(made, "seg_1", 3, {"in_segment": "seg_2"})
        await ask(made, "circle", segment_id="seg_2")
        assert await refusal(made, "circle") == "rule_invalid"
        await ask(made, "gap", rule={"in_segment": "seg_9"})
        assert await refusal(made, "gap") == "rule_invalid"
        answer = await estimate(http, {"not": {"in_segment": "seg_2"}})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/rule/not/in_segment"]


async def test_a_list_is_asked_when_it_is_whole_and_refused_before(made: Engine) -> None:
    id = new_id("user_list")
    path = f"/internal/user-lists/{id}"
    off = {"not": {"user_list": id}}
    ids = [*(f"stranger-{n}" for n in range(30_000)), "a", "a", "é'\\"]

    async def lines(*numbers: int) -> AsyncIterator[bytes]:
        whole = b"".join(json.dumps(ids[start : start + 9_000]).encode() + b"\n" for start in range(0, len(ids), 9_000))
        for start in range(0, len(whole), 65_536):
            yield whole[start : start + 65_536]
        for number in numbers:
            yield b"%d" % number

    async with made.running() as http:
        await made.send(*(identify(user_id, f"i-{user_id}") for user_id in ("a", "b", "é'\\")))
        for cut in (lines(), lines(len(ids) - 1)):
            answer = await http.put(path, content=cut)
            assert (answer.status_code, "cut short" in answer.text) == (422, True), answer.text
            answer = await estimate(http, off)
            assert [error["pointer"] for error in answer.json()["errors"]] == ["/rule/not/user_list"]
        await ask(made, "without", rule=off)
        assert await refusal(made, "without") == "rule_invalid"
        answer = await http.put(path, content=lines(len(ids)))
        assert (answer.status_code, answer.json()) == (200, {"members": 30_002})
        assert await qualified(http, off) == 1
        await ask(made, "with", rule=off)
        assert await total(made, "with") == 1
    async with made.running() as http:
        assert await qualified(http, {"user_list": id}) == 2
        assert (await http.delete(path)).status_code == 204
        assert (await estimate(http, off)).status_code == 422
        assert (await http.put("/internal/user-lists/lst_'", content=b"1")).status_code == 422
        for body in (b"", b"0", b"{}\n1", b'["a"]\n["\xff"]\n2', b"[1]\n1"):
            assert (await http.put(path, content=body)).status_code == 422

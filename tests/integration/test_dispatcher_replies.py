"""Answers to keyword texts: one each, in the language of the word, by the provider and number that were written to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from dispatcher.providers.keyword_texts import TEXTS
from dispatcher.providers.twilio_signature import sign
from dispatcher.replies import MOST_AN_HOUR
from postrider.contracts.definitions import AccountSettings, KeywordReplies
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

PERSON, NUMBER = "+15551230001", "+15005550009"


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        await made.provider("prv_a", receipt="none")
        await made.group(["prv_a"])
        yield made


class Phone:
    """Somebody who texts a sandbox provider; every text has an id of its own."""

    def __init__(self, stage: Stage, http: httpx.AsyncClient, number: str = PERSON) -> None:
        self.stage, self.http, self.number, self.sent = stage, http, number, 0

    async def says(self, body: str, *, again: bool = False, provider: str = "prv_a") -> None:
        self.sent += not again
        text = {"from": self.number, "to": NUMBER, "body": body, "id": f"{self.number}-{self.sent}"}
        answer = await self.http.post(f"/inbound/{provider}/token-of-{provider}", json=text)
        assert answer.status_code == 204

    async def has(self, *bodies: str) -> None:
        """All that came from us, in its order; and nothing is under way."""

        async def came() -> bool:
            rows = await self.stage.rows(
                "SELECT body, sent_from FROM sandbox_inbox WHERE sent_to = :phone ORDER BY id", phone=self.number
            )
            assert [tuple(row) for row in rows] == [(body, NUMBER) for body in bodies]
            assert await self.stage.rows("SELECT 1 FROM keyword_replies WHERE next_at IS NOT NULL") == []
            return True

        await eventually(came)


@pytest.fixture
async def phone(stage: Stage) -> AsyncIterator[Phone]:
    async with (
        dispatching(stage),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False) as http,
    ):
        yield Phone(stage, http)


async def test_each_keyword_is_answered_once_and_only_when_it_changed_something(phone: Phone) -> None:
    await phone.says("help")
    await phone.has(TEXTS["en"]["help"])
    await asyncio.gather(*(phone.says("ARRÊT", again=n > 0) for n in range(5)))
    await phone.has(TEXTS["en"]["help"], TEXTS["fr"]["stop"])
    await phone.says("stop")
    await phone.says("Hello there")
    await phone.says("Alta")
    await phone.has(TEXTS["en"]["help"], TEXTS["fr"]["stop"], TEXTS["es"]["start"])
    await phone.says("start")
    await phone.has(TEXTS["en"]["help"], TEXTS["fr"]["stop"], TEXTS["es"]["start"])
    kept = await phone.stage.rows("SELECT state, phone, sender, body FROM keyword_replies")
    assert [tuple(row) for row in kept] == [("accepted", "", "", "")] * 3, "what is over is no longer anybody's phone"


async def test_a_machine_that_answers_our_answers_is_left_alone(phone: Phone) -> None:
    for _ in range(MOST_AN_HOUR):
        await phone.says("HELP")
        await phone.says("INFO")
    await phone.has(*[TEXTS["en"]["help"]] * MOST_AN_HOUR)
    await phone.says("STOP")
    assert len(await phone.stage.rows("SELECT 1 FROM suppressions WHERE suppressed")) == 1, "obeyed all the same"
    other = Phone(phone.stage, phone.http, "+15551230002")
    await other.says("Hilfe")
    await other.has(TEXTS["de"]["help"])
    await phone.has(*[TEXTS["en"]["help"]] * MOST_AN_HOUR)


async def test_who_was_blocked_by_others_is_not_answered_and_cannot_lift_it(phone: Phone, stage: Stage) -> None:
    headers = {"Authorization": f"Bearer {stage.settings().service_token.get_secret_value()}"}
    blocked = {"phone": PERSON, "reason": "blocked", "source": "support"}
    assert (await phone.http.post("/internal/suppressions", json=blocked, headers=headers)).status_code == 201
    for word in ("STOP", "START", "HELP"):
        await phone.says(word)
    await phone.has()
    ((reason, suppressed),) = await stage.rows("SELECT reason, suppressed FROM suppressions")
    assert (reason, suppressed) == ("blocked", True)


async def test_the_accounts_own_texts_and_what_is_switched_off(phone: Phone, stage: Stage) -> None:
    own = KeywordReplies("es", {"stop": {"en": "Acme: bye", "es": "Acme: adiós"}}, ["start"])
    await stage.define_settings(AccountSettings(version=1, keyword_replies=own))
    await phone.says("Stop")
    await phone.has("Acme: adiós")
    await phone.says("start")
    await phone.says("info")
    await phone.has("Acme: adiós", TEXTS["es"]["help"])
    await stage.provider("prv_a", receipt="none", keyword_replies="off")

    async def silent() -> bool:
        await phone.says("help")
        assert len(await stage.rows("SELECT 1 FROM keyword_replies")) < phone.sent - 2
        return True

    await eventually(silent)


@pytest.mark.parametrize("outcome", ["in_doubt", "rejected_content", "rejected_later"])
async def test_what_is_not_taken_is_never_sent_on_doubt(phone: Phone, stage: Stage, outcome: str) -> None:
    await stage.provider("prv_b", outcome=outcome)
    waits, ends = {"rejected_later": ("waiting", None)}, {"in_doubt": "in_doubt", "rejected_content": "refused"}

    async def answered() -> bool:
        await phone.says("STOP", provider="prv_b", again=phone.sent > 0)
        states = [tuple(row) for row in await stage.rows("SELECT state, code FROM keyword_replies")]
        assert states == [(waits.get(outcome, (ends.get(outcome),))[0], f"sandbox_{outcome}")]
        return True

    await eventually(answered)
    assert await stage.rows("SELECT 1 FROM sandbox_inbox") == []


async def test_a_vendor_that_refuses_the_answer_for_an_opt_out_is_believed(stage: Stage, tmp_path: Path) -> None:
    """Its own list of opt-outs is longer than ours."""
    options = ("--refuse-code", "21610")
    async with twilio_process(tmp_path / "a", *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_t", port, keyword_replies="on")
        url = f"http://127.0.0.1:{stage.port}/inbound/prv_t/token-of-prv_t"
        form = {"MessageSid": "SM1", "From": PERSON, "To": NUMBER, "Body": "HELP"}
        headers = {"X-Twilio-Signature": sign(AUTH_TOKEN, url, form.items())}
        async with dispatching(stage) as dispatcher, httpx.AsyncClient(trust_env=False) as http:
            await eventually(lambda: dispatcher.fleet.adapter("prv_t") is not None)
            assert (await http.post(url, data=form, headers=headers)).status_code == 204

            async def suppressed() -> bool:
                rows = await stage.rows("SELECT reason FROM suppressions WHERE suppressed")
                assert [tuple(row) for row in rows] == [("provider_opt_out",)]
                return True

            await eventually(suppressed)
        assert [tuple(row) for row in await stage.rows("SELECT state, code FROM keyword_replies")] == [
            ("refused", "21610")
        ]


async def test_a_dispatcher_that_died_in_the_call_leaves_no_second_answer(stage: Stage) -> None:
    """The row is as such a process leaves it: marked, its lease over."""
    await stage.execute(
        "INSERT INTO keyword_replies (provider_id, inbound_id, reply_id, keyword, phone_hash, phone, sender, body,"
        " state, owner, next_at, created_at, updated_at) VALUES ('prv_a', 'in-1', gen_random_uuid(), 'stop', '\\x00',"
        f" '{PERSON}', '', 'bye', 'calling', 'dead', now() - interval '1 second', now(), now())"
    )
    async with dispatching(stage):

        async def over() -> bool:
            assert [tuple(row) for row in await stage.rows("SELECT state, code FROM keyword_replies")] == [
                ("in_doubt", "lease_over")
            ]
            return True

        await eventually(over)
    assert await stage.rows("SELECT 1 FROM sandbox_inbox") == []


async def test_a_vendor_that_confirms_by_itself_is_not_helped_unless_told(stage: Stage, tmp_path: Path) -> None:
    """Twilio's default: it answers STOP itself. Switched on, the answer comes from the number that was written to."""
    async with twilio_process(tmp_path / "a", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_t", port)
        await stage.twilio("prv_u", port, keyword_replies="on")

        async def stops(provider: str, person: str) -> None:
            url = f"http://127.0.0.1:{stage.port}/inbound/{provider}/token-of-{provider}"
            form = {"MessageSid": f"SM{person[1:]}", "From": person, "To": NUMBER, "Body": "STOP"}
            headers = {"X-Twilio-Signature": sign(AUTH_TOKEN, url, form.items())}
            assert (await http.post(url, data=form, headers=headers)).status_code == 204

        async with dispatching(stage) as dispatcher, httpx.AsyncClient(trust_env=False) as http:
            await eventually(lambda: dispatcher.fleet.adapter("prv_u") is not None)
            await stops("prv_t", "+15551230003")
            await stops("prv_u", "+15551230004")

            async def answered() -> bool:
                assert [row.state for row in await stage.rows("SELECT state FROM keyword_replies")] == ["accepted"]
                return True

            await eventually(answered)
        taken = [msgspec.json.decode(line) for line in (tmp_path / "a").read_bytes().splitlines()]
        assert [(each["to"], each["from"], each["body"]) for each in taken] == [
            ("+15551230004", NUMBER, TEXTS["en"]["stop"])
        ]

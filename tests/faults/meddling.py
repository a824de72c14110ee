"""What people and forgers do while a fault run goes on: groups and providers are edited, people answer STOP, a campaign
is stopped in the middle, callbacks are forged. Each act is a line of the ledger, for the checker.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from postrider.local.client import ApiClient, ApiProblem
from tests.faults.insisting import insist
from tests.faults.people import Person
from tests.faults.providers import Providers, Standin, settings_of
from tests.standins.vendor import Callback

STOP_SECONDS = 4.0
"""Between two people who say STOP, about."""
FORM = "application/x-www-form-urlencoded"


@dataclass
class Meddling:
    """`run` until cancelled. `groups`: by the campaign's key, id and names of the members that it can be sent by;
    `campaigns`: ids by key; `under_way`: keys of those whose groups are edited."""

    api: ApiClient
    providers: Providers
    groups: Mapping[str, tuple[str, Sequence[str]]]
    campaigns: Mapping[str, str]
    people: Sequence[Person]
    seed: int
    parts_per_second: float
    ledger: Path
    say: Callable[[str], None]
    under_way: list[str] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed} meddling")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._edit())
            tasks.create_task(self._answer_stop())
            tasks.create_task(self._forge())

    async def stop_campaign(self, key: str, sent: int) -> None:
        """Once so many of its texts are with a provider."""
        id = self.campaigns[key]
        accepted = 0
        while accepted < sent:
            await asyncio.sleep(0.3)
            accepted = (await insist(lambda: self.api.get(f"/v1/campaigns/{id}/report")))["funnel"]["accepted"]
        asked = time.time()
        await insist(partial(self._stop, id))
        self._note("campaign_stop", campaign=key, asked=asked, at=time.time())

    async def _stop(self, id: str) -> None:
        """A reply lost to a kill makes the second call a 409: then it is stopped already."""
        try:
            await self.api.post(f"/v1/campaigns/{id}/stop")
        except ApiProblem as problem:
            if problem.status != 409:
                raise

    async def _edit(self) -> None:
        """Members and their order, and what providers may carry; refused and lost edits are as good as none."""
        while True:
            await asyncio.sleep(self._chance.uniform(2.0, 8.0))
            try:
                if self._chance.random() < 0.7:
                    await self._edit_group()
                else:
                    await self._edit_provider()
            except (httpx.HTTPError, ApiProblem) as error:
                if isinstance(error, ApiProblem) and error.status not in (409, 503):
                    raise
                self.acts["edit not made"] += 1

    async def _edit_group(self) -> None:
        id, names = self.groups[self._chance.choice(self.under_way)]
        chosen = self._chance.sample(list(names), self._chance.randint(1, len(names)))
        group = await self.api.get(f"/v1/provider-groups/{id}")
        changed = group | {"provider_ids": self.providers.ids(chosen)}
        await self.api.call("PUT", f"/v1/provider-groups/{id}", changed, If_Match="*")
        self._note("group_edit", group=id, members=chosen)

    async def _edit_provider(self) -> None:
        standin = self._chance.choice(list(self.providers.standins.values()))
        provider = await self.api.get(f"/v1/providers/{standin.id}")
        rate = self.parts_per_second * self._chance.choice((0.5, 1.0, 2.0))
        provider["settings"] |= settings_of(standin.name, self.seed)
        await self.api.call("PUT", f"/v1/providers/{standin.id}", provider | {"parts_per_second": rate}, If_Match="*")
        self._note("provider_edit", provider=standin.name, parts_per_second=rate)

    async def _answer_stop(self) -> None:
        """Noted before and after: in between it may have been heard."""
        candidates = [person for person in self.people if person.may_say_stop]
        self._chance.shuffle(candidates)
        ways = [each for each in self.providers.standins.values() if each.account.plays_inbound]
        for person in candidates:
            await asyncio.sleep(self._chance.uniform(0.5, 2 * STOP_SECONDS))
            standin, word = self._chance.choice(ways), self._chance.choice(("STOP", "stop", "Unsubscribe"))
            asked, at = time.time(), None
            try:
                said = await standin.tell("_inbound", {"from": person.phone or "", "body": word})
                at = time.time() if 200 <= said.get("status", 0) < 300 else None
            except (aiohttp.ClientError, TimeoutError):
                self.acts["STOP lost"] += 1
            self._note("stop_word", phone=person.phone, provider=standin.name, asked=asked, at=at)

    async def _forge(self) -> None:
        """Receipts for texts that wait, and a STOP of somebody who said nothing, by one who lacks a secret."""
        while True:
            await asyncio.sleep(self._chance.uniform(1.0, 4.0))
            key = self._chance.choice(list(self.campaigns))
            try:
                page = await self.api.get(f"/v1/campaigns/{self.campaigns[key]}/messages", limit=20)
            except (httpx.HTTPError, ApiProblem) as error:
                if isinstance(error, ApiProblem) and error.status != 503:
                    raise
                continue
            for standin in self.providers.standins.values():
                reference = "0" * 32 + ".1"
                if page["items"]:
                    reference = f"{self._chance.choice(page['items'])['id']}.{self._chance.choice((1, 2))}"
                await self._forge_one(standin, reference)

    async def _forge_one(self, standin: Standin, reference: str) -> None:
        for callback in forgeries(standin, reference, self._chance):
            timeout = aiohttp.ClientTimeout(total=5)
            try:
                async with (
                    aiohttp.ClientSession(timeout=timeout) as session,
                    session.post(
                        callback.url, data=callback.body,
                        headers={"Content-Type": callback.content_type, "X-Twilio-Signature": "Zm9yZ2Vk"},
                    ) as response,
                ):  # fmt: skip
                    self._note("forged", provider=standin.name, status=response.status)
            except (aiohttp.ClientError, TimeoutError):
                self.acts["forgery lost"] += 1

    def _note(self, what: str, **more: Any) -> None:
        self.acts[what] += 1
        with self.ledger.open("a") as file:
            file.write(json.dumps({"what": what, "moment": time.time(), **more}) + "\n")


def forgeries(standin: Standin, reference: str, chance: random.Random) -> list[Callback]:
    """Everybody's: the wrong secret in the URL. Of those that sign: the right URL, and no or a wrong signature."""
    id = f"SM{chance.getrandbits(128):032x}"
    form = f"MessageSid={id}&MessageStatus=delivered&To=%2B12005550015&AccountSid=AC{'0' * 32}".encode()
    clevertap = json.dumps([{"event": "delivered", "data": [{"ts": 1, "meta": reference, "description": "yes"}]}])
    stranger = standin.callback_url.rsplit("/", 1)[0] + "/" + "0" * 22
    urls = [f"{stranger}?reference={reference}"]
    if standin.name in ("twilio", "vonage"):
        urls.append(f"{standin.callback_url}?reference={reference}")
    if standin.name == "vonage":
        form = f"messageId={id}&status=delivered&err-code=0&client-ref={reference}&msisdn=12005550015&sig=00".encode()
    if standin.account.kind == "generic":
        return [Callback(url, clevertap.encode(), "application/json") for url in urls]
    return [Callback(url, form, FORM) for url in urls]

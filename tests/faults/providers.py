"""The providers of a fault run: stand-ins as processes, one for each, that misbehave as the seed has it; they can be
killed, and are there again on the same port with all that they remember.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from postrider.local.client import ApiClient
from tests.standins.accounts import ACCOUNTS, Account
from tests.standins.running import standin_started

TIMEOUT_SECONDS = 3
IN_DOUBT_WAIT_SECONDS = 8
LOOKS_UP = {"twilio"}
"""Names of accounts whose texts can be looked up."""


def misbehaviour(name: str, seed: int) -> list[str]:
    """Command-line options. Each provider of a run is another one: some are nearly well."""
    chance = random.Random(f"{seed} {name}")
    options = ["--seed", str(seed)]

    def share(option: str, most: float) -> None:
        options.extend((f"--{option}", f"{chance.choice((0.0, 0.3, 1.0)) * most:.3f}"))

    options.extend(("--drop-after-accept", f"{chance.uniform(0.02, 0.10):.3f}"))
    share("error-500-after-accept", 0.05)
    share("garbage-reply", 0.03)
    share("hang", 0.02)
    share("slow", 0.05)
    share("reject-429", 0.15)
    options.extend(("--latency-ms", str(chance.choice((0, 20, 100)))))
    if name != "twilio":
        share("cut-reply", 0.03)
    # Of odd seeds receipts settle most doubts of Twilio's; of even ones there are none and only look-ups can.
    if ACCOUNTS[name].reports and (name != "twilio" or seed % 2):
        options.extend(("--receipts", "delivered", "--receipt-chaos"))
        share("lose-receipts", 0.10)
    if name == "vonage":
        options.extend(("--callbacks-by", chance.choice(("get", "form", "json"))))
    elif name == "exotel":
        options.append("--bulk-chaos")
    elif name == "generic-batch":
        share("forget-records", 0.05)
        options.extend(("--token-seconds", chance.choice(("20", "600"))))
    elif name == "msg91":
        options.extend(("--webhook-version", _msg91_version(seed)))
    return options


def _msg91_version(seed: int) -> str:
    return random.Random(f"{seed} version").choice(("v2", "v3", "v4"))


def settings_of(name: str, seed: int) -> dict[str, Any]:
    """What we are told of it beside the account."""
    settings: dict[str, Any] = {"timeout_seconds": TIMEOUT_SECONDS, "in_doubt_wait_seconds": IN_DOUBT_WAIT_SECONDS}
    if name == "msg91":
        settings |= {"webhook_version": _msg91_version(seed), "recipients_per_call": 20}
    return settings


@dataclass
class Standin:
    """One of them. `id`, `callback_url`, `inbound_url` as the API gave them; `pid` None while it is away."""

    name: str
    log: Path
    seed: int
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    id: str = ""
    callback_url: str = ""
    inbound_url: str = ""

    @property
    def account(self) -> Account:
        return ACCOUNTS[self.name]

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    async def start(self) -> None:
        account = self.account
        options = (*account.options, *misbehaviour(self.name, self.seed), "--port", str(self.port))
        self.process, self.port = await standin_started(account.module, self.log, *options)
        if self.callback_url:
            await self.tell("_account", {"callback_url": self.callback_url, "inbound_url": self.inbound_url})

    async def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def register(self, api: ApiClient, parts_per_second: float) -> None:
        definition = self.account.definition(self.name, self.port, **settings_of(self.name, self.seed))
        made = await api.post("/v1/providers", {**definition, "parts_per_second": parts_per_second})
        self.id, self.callback_url, self.inbound_url = made["id"], made["callback_url"], made["inbound_url"]
        await self.tell("_account", {"callback_url": self.callback_url, "inbound_url": self.inbound_url})

    async def tell(self, path: str, what: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer. Raises aiohttp's errors and TimeoutError while it is away."""
        timeout = aiohttp.ClientTimeout(total=8)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"http://127.0.0.1:{self.port}/{path}", json=what) as response,
        ):
            said: dict[str, Any] = await response.json() if response.status != 204 else {}
            return said


@dataclass
class Providers:
    """All of a run, by name."""

    standins: dict[str, Standin] = field(default_factory=dict)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, folder: Path, names: Sequence[str], seed: int) -> AsyncIterator[Providers]:
        """Each keeps its texts in `folder/<name>.jsonl`. Ended, however they stand, with the block."""
        made = cls({name: Standin(name, folder / f"{name}.jsonl", seed) for name in names})
        try:
            await asyncio.gather(*(standin.start() for standin in made.standins.values()))
            yield made
        finally:
            await asyncio.gather(*(standin.kill() for standin in made.standins.values()))

    async def register(self, api: ApiClient, parts_per_second: float) -> None:
        for standin in self.standins.values():
            await standin.register(api, parts_per_second)

    def ids(self, names: Sequence[str]) -> list[str]:
        return [self.standins[name].id for name in names]

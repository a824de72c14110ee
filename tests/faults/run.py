"""One fault run: the suite and its providers are started, campaigns go out one after the other while everything is
killed, edited and forged, and what everybody knows in the end is written down. Decides nothing: `checker` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import make_url

from postrider.local.client import ApiClient, ApiProblem
from postrider.local.home import load_secrets
from postrider.local.parts import print_line as say
from postrider.local.ports import free_port
from postrider.local.services import (
    CAMPAIGN_API,
    DEVELOPMENT_KEY,
    DISPATCHER,
    SERVICES,
    Service,
    ServiceProcess,
    service_environment,
)
from postrider.local.suite import Suite
from postrider.local.supervisor import Supervisor
from postrider.postgres.database import role_password
from tests.faults.chaos import SECONDS_A_KILL, Chaos
from tests.faults.checker import ANSWER
from tests.faults.insisting import insist
from tests.faults.leftovers import leftovers
from tests.faults.meddling import Meddling
from tests.faults.people import BODY, CART, CART_BODY, RULE, VARIABLES, Person, make_people, make_shoppers
from tests.faults.providers import LOOKS_UP, Providers
from tests.faults.witness import Witness
from tests.standins.accounts import ACCOUNTS
from tests.standins.postgres_proxy import PostgresProxy

ROOT = Path(__file__).resolve().parents[2]
OUTAGE_SECONDS = 240.0
DRAIN_SECONDS = 240.0
SECONDS_AHEAD = 10.0
GROUPS: Mapping[str, tuple[str, ...]] = {
    "K1": ("vonage", "twilio", "generic"),
    "K2": ("exotel", "generic-batch", "twilio"),
    "K3": ("msg91", "twilio", "netcore"),
    "K4": ("generic-batch", "vonage", "exotel"),
    "KL": ("twilio", "generic", "vonage"),
}
"""By the campaign's key, with which each of its texts begins: the providers it can be sent by, until it is edited the
first of them."""
LIVE, STOPPED = "KL", "K4"


@dataclass(frozen=True)
class Plan:
    """`campaigns`: keys of those that are scheduled, beside the live one."""

    seed: int
    people: int
    kills: int
    shoppers: int = 300
    outages: bool = False
    campaigns: tuple[str, ...] = ("K1", "K2", "K3", "K4")

    @property
    def seconds(self) -> float:
        """About as long as it goes on."""
        return self.kills * SECONDS_A_KILL + (OUTAGE_SECONDS if self.outages else 0.0)

    @property
    def parts_per_second(self) -> float:
        """So that a campaign is under way until about the next one begins."""
        return max(6.0, 1.3 * self.people * len(self.campaigns) / self.seconds)

    @property
    def providers(self) -> list[str]:
        return sorted({name for key in (*self.campaigns, LIVE) for name in GROUPS[key]})


async def play(plan: Plan, base: Path, jars: Path) -> Path:
    """The run; returns the folder with the ledgers, in `base`."""
    folder = base / f"{'outages' if plan.outages else 'faults'}-{plan.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    people, shoppers = make_people(plan.people, plan.seed), make_shoppers(plan.shoppers)
    for key in (*plan.campaigns, LIVE):
        (folder / key).mkdir(parents=True)
        who = shoppers if key == LIVE else people
        write_lines(folder / key / "people.jsonl", (person.line(key) for person in who))
    (folder / "providers").mkdir()
    keep = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_") and name not in keep}
    env["POSTRIDER_ALLOWED_PRIVATE_HOSTS"] = "127.0.0.0/8"
    async with AsyncExitStack() as running:
        enter = running.enter_async_context
        providers = await enter(Providers.started(folder / "providers", plan.providers, plan.seed))
        parts = await enter(Suite(folder / "parts", env, say, jars=jars, services=()))
        assert parts.addresses is not None
        address = make_url(parts.addresses.database_url)
        proxy = PostgresProxy(str(address.host), int(address.port or 5432), plan.seed)
        wire = await enter(proxy)
        through = address.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
        env |= {"KAFKA_BOOTSTRAP_SERVERS": parts.addresses.bootstrap_servers, "DATABASE_URL": through}
        suite = await enter(Suite(folder / "home", env, say))
        second = await enter(second_dispatcher(suite, env))
        note_secrets(folder, suite, providers)
        run_files = [parts.home.run_file, suite.home.run_file, second]
        ledger = folder / "outages.jsonl"
        chaos = Chaos(run_files, providers, plan.seed, say, ledger, wire, kills=plan.kills, outages=plan.outages)
        api = await enter(ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY))
        stage = await prepare(plan, api, providers, people, shoppers, folder)
        watching = asyncio.create_task(
            Witness({each.name: suite.url(each) for each in SERVICES}, folder / "health.jsonl").run()
        )
        try:
            await stage.under_faults(chaos)
            await suite.until_ready()
            await asyncio.sleep(3)
            await stage.drained()
            left = await leftovers(parts.addresses.database_url, parts.addresses.bootstrap_servers)
            (folder / "leftovers.json").write_text(json.dumps(left))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    say(f"{chaos.kills} kills; {dict(sorted(chaos.acts.items()))}, cut {wire.cuts}; {dict(stage.meddling.acts)}")
    return folder


def judged(folder: Path, *, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """The checker's verdict on it; what it says is kept with `quiet`, else printed."""
    command = [sys.executable, "-m", "tests.faults.checker", str(folder)]
    return subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=quiet)


@asynccontextmanager
async def second_dispatcher(suite: Suite, env: Mapping[str, str]) -> AsyncIterator[Path]:
    """Beside the suite's own, started again like it; its run file."""
    assert suite.addresses is not None
    port = free_port()
    environment = service_environment(
        DISPATCHER, env, home=suite.home, ports={**suite.ports, DISPATCHER.name: port}, addresses=suite.addresses,
        secrets=load_secrets(suite.home),
    )  # fmt: skip
    service = Service("dispatcher-2", DISPATCHER.module, DISPATCHER.port_variable, port)
    process, run_file = ServiceProcess(service, suite.home, port, environment), suite.home.path / "second.json"

    def record() -> None:
        partial_file = run_file.with_suffix(".partial")
        partial_file.write_text(json.dumps({process.name: {"pid": process.child.pid}} if process.child else {}))
        partial_file.replace(run_file)

    process.spawn()
    record()
    supervision = asyncio.create_task(Supervisor([process], say, on_start=record).run())
    try:
        yield run_file
    finally:
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)
        await process.stop()


async def prepare(
    plan: Plan, api: ApiClient, providers: Providers, people: list[Person], shoppers: list[Person], folder: Path
) -> Stage:
    """Everything but the scheduled campaigns' schedule."""
    answer = {"stop": {"en": f"{ANSWER} You will get no more texts."}}
    await api.settings(account_time_zone="Etc/UTC", default_country="US", keyword_replies=answer)
    await providers.register(api, plan.parts_per_second)
    kinds = {each.id: {"name": each.name, "looks_up": each.name in LOOKS_UP} for each in providers.standins.values()}
    (folder / "providers.json").write_text(json.dumps(kinds))
    messages = [message for person in people for message in (person.identify(), person.track())]
    messages += [shopper.identify() for shopper in shoppers]
    for start in range(0, len(messages), 1000):
        await api.batch(messages[start : start + 1000])
    groups: dict[str, tuple[str, tuple[str, ...]]] = {}
    campaigns: dict[str, str] = {}
    for key in (*plan.campaigns, LIVE):
        given = {"name": key, "provider_ids": providers.ids(GROUPS[key]), "is_default": key == LIVE}
        group = await api.post("/v1/provider-groups", given)
        groups[key] = group["id"], GROUPS[key]
        campaigns[key] = (await api.post("/v1/campaigns", definition(key, group["id"], providers)))["id"]
    await api.post(f"/v1/campaigns/{campaigns[LIVE]}/schedule")
    say(f"{len(people)} people, {len(campaigns)} campaigns {campaigns}, seed {plan.seed}, about {plan.seconds:.0f} s")
    meddling = Meddling(
        api,
        providers,
        groups,
        campaigns,
        people,
        plan.seed,
        plan.parts_per_second,
        folder / "meddling.jsonl",
        say,
        under_way=[LIVE],
    )
    return Stage(plan, api, campaigns, shoppers, meddling, folder)


def definition(key: str, group_id: str, providers: Providers) -> dict[str, Any]:
    """A campaign: the live one, or one that is to be scheduled."""
    is_live = key == LIVE
    what: dict[str, Any] = {"body": f"{key} {CART_BODY if is_live else BODY}", "provider_group_id": group_id}
    templated = [name for name in GROUPS[key] if not ACCOUNTS[name].takes_bodies]
    if templated:
        template = {"template_id": key, "template_variables": list(VARIABLES)}
        what["by_provider"] = dict.fromkeys(providers.ids(templated), template)
    return {
        "name": key, "kind": "live_action" if is_live else "one_time", "message_class": "transactional",
        "when": {} if is_live else {"at": _honolulu(60.0), "time_zone": "user", "passed_zone": "send_now"},
        "who": {"trigger": {"event": CART}} if is_live else {"rule": RULE},
        "what": what,
    }  # fmt: skip


def _honolulu(seconds_ahead: float) -> str:
    """The last zone's people are texted at that moment, everybody else's time has passed."""
    at = datetime.now(ZoneInfo("Pacific/Honolulu")) + timedelta(seconds=seconds_ahead)
    return at.strftime("%Y-%m-%dT%H:%M:%S")


@dataclass
class Stage:
    """What goes on meanwhile, and what is known afterwards."""

    plan: Plan
    api: ApiClient
    campaigns: Mapping[str, str]
    shoppers: list[Person]
    meddling: Meddling
    folder: Path

    async def under_faults(self, chaos: Chaos) -> None:
        """Until the kills are made, everybody has shopped, and every campaign is begun and over, or patience is."""
        storm = asyncio.create_task(chaos.run())
        meddling = asyncio.create_task(self.meddling.run())
        work = [
            asyncio.create_task(self._shop()),
            *(asyncio.create_task(self._go_out(nth, key)) for nth, key in enumerate(self.plan.campaigns)),
        ]
        try:
            waiting = {storm, *work}
            while waiting:
                done, waiting = await asyncio.wait({*waiting, meddling}, return_when=asyncio.FIRST_COMPLETED)
                waiting.discard(meddling)
                for task in done:
                    await task
        finally:
            for task in (storm, meddling, *work):
                task.cancel()
            await asyncio.gather(storm, meddling, *work, return_exceptions=True)

    async def _shop(self) -> None:
        """One cart after another; what is refused in an outage is sent again, as SDKs do, under its messageId."""
        for shopper in self.shoppers:
            await insist(partial(self.api.batch, [shopper.track()]))
            await asyncio.sleep(self.plan.seconds / len(self.shoppers))

    async def _go_out(self, nth: int, key: str) -> None:
        id, began = self.campaigns[key], time.monotonic()
        await asyncio.sleep(nth * self.plan.seconds / len(self.plan.campaigns))
        campaign = await insist(lambda: self.api.get(f"/v1/campaigns/{id}"))
        campaign["when"] = campaign["when"] | {"at": _honolulu(SECONDS_AHEAD)}
        await insist(partial(self.api.call, "PUT", f"/v1/campaigns/{id}", campaign, If_Match="*"))
        await insist(partial(self._schedule, id))
        self.meddling.under_way.append(key)
        if key == STOPPED:
            await self.meddling.stop_campaign(key, self.plan.people // 5)
        while True:
            status = (await insist(lambda: self.api.get(f"/v1/campaigns/{id}")))["status"]
            if status in ("completed", "stopped"):
                say(f"{key} {status} after {time.monotonic() - began:.0f} s")
                return
            if time.monotonic() - began > self.plan.seconds + DRAIN_SECONDS:
                say(f"{key} NOT over after {time.monotonic() - began:.0f} s")
                return
            await asyncio.sleep(1)

    async def _schedule(self, id: str) -> None:
        """A reply lost to a kill makes the second call a 409: then it is scheduled already."""
        try:
            await self.api.post(f"/v1/campaigns/{id}/schedule")
        except ApiProblem as problem:
            if problem.status != 409:
                raise

    async def drained(self) -> None:
        for key, id in self.campaigns.items():
            await self._drained(self.folder / key, id)

    async def _drained(self, folder: Path, id: str) -> None:
        """The message log is a second behind; it is read when nothing is open and it no longer changes."""
        messages: list[dict[str, Any]] = []
        expected = sum(json.loads(line)["qualifies"] for line in (folder / "people.jsonl").read_text().splitlines())
        for _ in range(60):
            previous, messages = messages, await insist(lambda: self.api.items(f"/v1/campaigns/{id}/messages"))
            is_open = any(message["status"] in ("pending", "in_doubt") for message in messages)
            if messages == previous and not is_open and len(messages) >= expected:
                break
            await asyncio.sleep(2)
        report = await insist(lambda: self.api.get(f"/v1/campaigns/{id}/report"))
        (folder / "report.json").write_text(json.dumps(report, indent=1))
        write_lines(folder / "messages.jsonl", messages)


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def note_secrets(folder: Path, suite: Suite, providers: Providers) -> None:
    """Whatever must not be in any log, for the checker. The development key and accounts' ids are public."""
    assert suite.addresses is not None
    password = make_url(suite.addresses.database_url).password
    secrets = {str(password), *load_secrets(suite.home).values()}
    secrets |= {role_password(suite.addresses.database_url, service.name) for service in SERVICES}
    for standin in providers.standins.values():
        values = standin.account.credentials.values()
        secrets |= {value for value in values if isinstance(value, str) and len(value) > 8}
    (folder / "secrets.json").write_text(json.dumps(sorted(secrets)))

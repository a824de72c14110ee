"""One fault run, start to verdict: `python -m tests.faults --seed 1 [--outages]`. Exit code 0 only when every promise
held.

The suite runs as `make run` runs it, with a wire to Postgres that can be cut; everything is done through HTTP and
signals. A campaign goes out to people who are known before, another to whoever fills a cart meanwhile. The provider is
a process of its own that drops one reply in ten after it accepted the text. The verdict comes from
`tests.faults.checker`, a program that knows nothing of Postrider.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import httpx
from sqlalchemy import make_url

from postrider.local.client import ApiClient, ApiProblem
from postrider.local.home import load_secrets
from postrider.local.parts import print_line as say
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY, SERVICES
from postrider.local.suite import Suite
from postrider.postgres.database import role_password
from tests.faults.chaos import Chaos
from tests.faults.people import BODY, CART, CART_BODY, RULE, Person, make_people, make_shoppers
from tests.faults.witness import Witness
from tests.standins.postgres_proxy import PostgresProxy
from tests.standins.running import twilio_process

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, TOKEN = "AC" + "0" * 32, "token-of-the-stand-in"
PATIENCE_SECONDS = 420.0
CHAOS_SECONDS = 60.0
OUTAGE_SECONDS = 240.0
SECONDS_AHEAD = 20.0
SHOPPERS = 300


async def insist(action: Callable[[], Awaitable[T]], seconds: float = 90.0) -> T:
    """Repeats a request while the API is being killed under it. A refusal that is not an outage is raised."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await action()
        except (httpx.HTTPError, ApiProblem) as error:
            if isinstance(error, ApiProblem) and error.status != 503:
                raise
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.3)


async def prepare_campaigns(
    api: ApiClient, people: list[Person], shoppers: list[Person], port: int, *, outages: bool
) -> tuple[str, str]:
    """The scheduled campaign, which is not scheduled yet, and the live one, which runs."""
    await api.settings(account_time_zone="Etc/UTC", default_country="US")
    provider = await api.post(
        "/v1/providers",
        {
            "name": "Stand-in",
            "kind": "twilio",
            "settings": {
                "base_url": f"http://127.0.0.1:{port}", "account_sid": ACCOUNT, "from": "+12025550100",
                "timeout_seconds": 3, "in_doubt_wait_seconds": 8,
            },
            "credentials": {"auth_token": TOKEN},
            "parts_per_second": 120 if not outages else 22,
        },
    )  # fmt: skip
    group = await api.post(
        "/v1/provider-groups", {"name": "Only", "provider_ids": [provider["id"]], "is_default": True}
    )
    messages = [message for person in people for message in (person.identify(), person.track())]
    messages += [shopper.identify() for shopper in shoppers]
    for start in range(0, len(messages), 1000):
        await api.batch(messages[start : start + 1000])
    at = datetime.now(ZoneInfo("Pacific/Honolulu")) + timedelta(seconds=SECONDS_AHEAD)
    scheduled = await api.post(
        "/v1/campaigns",
        {
            "name": "Fault run", "kind": "one_time", "message_class": "transactional",
            "when": {"at": at.strftime("%Y-%m-%dT%H:%M:%S"), "time_zone": "user", "passed_zone": "send_now"},
            "who": {"rule": RULE},
            "what": {"body": BODY, "provider_group_id": group["id"]},
        },
    )  # fmt: skip
    live = await api.post(
        "/v1/campaigns",
        {
            "name": "Carts", "kind": "live_action", "message_class": "transactional", "when": {},
            "who": {"trigger": {"event": CART}},
            "what": {"body": CART_BODY, "provider_group_id": group["id"]},
        },
    )  # fmt: skip
    await api.post(f"/v1/campaigns/{live['id']}/schedule")
    return str(scheduled["id"]), str(live["id"])


async def shop(api: ApiClient, shoppers: list[Person], seconds: float) -> None:
    """One cart after another; what is refused in an outage is sent again, as SDKs do, under its messageId."""
    for shopper in shoppers:
        await insist(partial(api.batch, [shopper.track()]), 240.0)
        await asyncio.sleep(seconds / len(shoppers))


async def run_under_faults(
    chaos: Chaos, api: ApiClient, campaign: str, shoppers: list[Person], *, outages: bool
) -> None:
    storm = asyncio.create_task(chaos.run())
    shopping = asyncio.create_task(shop(api, shoppers, OUTAGE_SECONDS if outages else CHAOS_SECONDS))
    try:
        await insist(lambda: _schedule(api, campaign), 150.0)
        await _until_completed(storm, chaos, api, campaign)
        storm.cancel()
        await asyncio.wait_for(shopping, 300)
    finally:
        for task in (storm, shopping):
            task.cancel()
        await asyncio.gather(storm, shopping, return_exceptions=True)


async def _until_completed(storm: asyncio.Task[None], chaos: Chaos, api: ApiClient, campaign: str) -> None:
    began = time.monotonic()
    shown, steady_at = 0.0, None
    while time.monotonic() - began < PATIENCE_SECONDS:
        if storm.done() and not storm.cancelled():
            await storm  # it ends by itself only by an error
        if chaos.steady.is_set():
            steady_at = steady_at or time.monotonic()
            if time.monotonic() - steady_at > CHAOS_SECONDS:
                storm.cancel()
        state = await insist(lambda: api.get(f"/v1/campaigns/{campaign}"))
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            funnel = (await insist(lambda: api.get(f"/v1/campaigns/{campaign}/report")))["funnel"]
            say(f"{time.monotonic() - began:4.0f} s  {state['status']}: { {k: n for k, n in funnel.items() if n} }")
        if state["status"] == "completed":
            say(f"completed after {time.monotonic() - began:.0f} s")
            steady = asyncio.create_task(chaos.steady.wait())  # the live campaign goes on
            await asyncio.wait({storm, steady}, return_when=asyncio.FIRST_COMPLETED)
            steady.cancel()
            return
        await asyncio.sleep(1)
    say(f"NOT completed within {PATIENCE_SECONDS:.0f} s")


async def _schedule(api: ApiClient, campaign: str) -> Any:
    """A reply lost to a kill makes the second call a 409: then it is scheduled already."""
    try:
        return await api.post(f"/v1/campaigns/{campaign}/schedule")
    except ApiProblem as problem:
        if problem.status == 409:
            return None
        raise


async def collect(api: ApiClient, campaign: str, expected: int, folder: Path) -> None:
    """The message log is a second behind; it is read when nothing is open and it no longer changes."""
    messages: list[dict[str, Any]] = []
    for _ in range(45):
        previous, messages = messages, await insist(lambda: api.items(f"/v1/campaigns/{campaign}/messages"))
        open_ones = [message for message in messages if message["status"] in ("pending", "in_doubt")]
        if messages == previous and not open_ones and len(messages) >= expected:
            break
        await asyncio.sleep(2)
    report = await insist(lambda: api.get(f"/v1/campaigns/{campaign}/report"))
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    write_lines(folder / "messages.jsonl", messages)


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def note_secrets(folder: Path, suite: Suite) -> None:
    """Whatever must not be in any log, for the checker. The development key and the account's id are public."""
    assert suite.addresses is not None
    password = make_url(suite.addresses.database_url).password
    secrets = {TOKEN, str(password), *load_secrets(suite.home).values()}
    secrets |= {role_password(suite.addresses.database_url, service.name) for service in SERVICES}
    (folder / "secrets.json").write_text(json.dumps(sorted(secrets)))


async def play(seed: int, count: int, base: Path, *, outages: bool) -> Path:
    """The run; returns the folder with the ledgers."""
    folder = base / f"{'outages' if outages else 'faults'}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "live").mkdir(parents=True)
    people, shoppers = make_people(count, seed), make_shoppers(SHOPPERS)
    write_lines(folder / "people.jsonl", (person.line() for person in people))
    write_lines(folder / "live" / "people.jsonl", (shopper.line() for shopper in shoppers))
    keep = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_") and name not in keep}
    env["POSTRIDER_ALLOWED_PRIVATE_HOSTS"] = "127.0.0.0/8"
    # With odd seeds receipts settle most doubts; with even ones there are none and only look-ups can.
    receipts = ("--receipts", "delivered", "--receipt-chaos") if seed % 2 else ("--receipts", "none")
    flags = ("--drop-after-accept", "0.1", "--error-500-after-accept", "0.02", *receipts, "--seed", str(seed))
    async with AsyncExitStack() as running:
        log = folder / "accepted.jsonl"
        port = await running.enter_async_context(twilio_process(log, *flags, account_sid=ACCOUNT, auth_token=TOKEN))
        jars = base / "kafka" / "libs"
        parts = await running.enter_async_context(Suite(folder / "parts", env, say, jars=jars, services=()))
        assert parts.addresses is not None
        address = make_url(parts.addresses.database_url)
        proxy = PostgresProxy(str(address.host), int(address.port or 5432), seed)
        wire = await running.enter_async_context(proxy)
        through = address.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
        env |= {"KAFKA_BOOTSTRAP_SERVERS": parts.addresses.bootstrap_servers, "DATABASE_URL": through}
        suite = await running.enter_async_context(Suite(folder / "home", env, say))
        note_secrets(folder, suite)
        provider = folder / "provider.json"
        provider.write_text(json.dumps({"provider": {"pid": await pid_of_provider(port)}}))
        chaos = Chaos(
            [parts.home.run_file, suite.home.run_file, provider], seed, say, folder / "outages.jsonl", wire,
            outages=outages,
        )  # fmt: skip
        witness = Witness({each.name: suite.url(each) for each in SERVICES}, folder / "health.jsonl")
        api = await running.enter_async_context(ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY))
        scheduled, live = await prepare_campaigns(api, people, shoppers, port, outages=outages)
        say(f"{count} people; campaign {scheduled}, live {live}; seed {seed}")
        watching = asyncio.create_task(witness.run())
        try:
            await run_under_faults(chaos, api, scheduled, shoppers, outages=outages)
            await suite.until_ready()
            await asyncio.sleep(3)
            await collect(api, scheduled, sum(person.qualifies for person in people), folder)
            await collect(api, live, len(shoppers), folder / "live")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    say(f"{dict(sorted(chaos.acts.items()))}, cut {wire.cuts}")
    return folder


async def pid_of_provider(port: int) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return int((await client.get(f"http://127.0.0.1:{port}/_stats")).json()["pid"])


def main(seed: int, count: int, base: Path, *, outages: bool) -> int:
    folder = asyncio.run(play(seed, count, base, outages=outages))
    return subprocess.run([sys.executable, "-m", "tests.faults.checker", str(folder)], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--people", type=int, default=3000)
    parser.add_argument("--outages", action="store_true", help="take Kafka and Postgres away too")
    given = parser.parse_args()
    base = Path(os.environ.get("POSTRIDER_HOME", ".local")).resolve()
    sys.exit(main(given.seed, given.people, base, outages=given.outages))

"""One fault run, start to verdict: `python -m tests.faults --seed 1 [--outages]`. Exit code 0 only when every promise
held.

The suite runs as `make run` runs it; everything is done through HTTP and signals; the provider is a process of its own
that drops one reply in ten after it accepted the text. The verdict comes from `tests.faults.checker`, a program that
knows nothing of Postrider.
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
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import httpx

from postrider.local.client import ApiClient, ApiProblem
from postrider.local.parts import print_line as say
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY
from postrider.local.suite import Suite
from tests.faults.chaos import Chaos
from tests.faults.people import BODY, RULE, Person, make_people
from tests.standins.running import twilio_process

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, TOKEN = "AC" + "0" * 32, "token-of-the-stand-in"
PATIENCE_SECONDS = 420.0
CHAOS_SECONDS = 60.0
OUTAGE_SECONDS = 150.0


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


async def prepare_campaign(
    api: ApiClient, people: list[Person], port: int, seconds_ahead: float, *, outages: bool
) -> str:
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
            "parts_per_second": 120 if not outages else 40,
        },
    )  # fmt: skip
    group = await api.post(
        "/v1/provider-groups", {"name": "Only", "provider_ids": [provider["id"]], "is_default": True}
    )
    messages = [message for person in people for message in (person.identify(), person.track())]
    for start in range(0, len(messages), 1000):
        await api.batch(messages[start : start + 1000])
    at = datetime.now(ZoneInfo("Pacific/Honolulu")) + timedelta(seconds=seconds_ahead)
    campaign = await api.post(
        "/v1/campaigns",
        {
            "name": "Fault run", "kind": "one_time", "message_class": "transactional",
            "when": {"at": at.strftime("%Y-%m-%dT%H:%M:%S"), "time_zone": "user", "passed_zone": "send_now"},
            "who": {"rule": RULE},
            "what": {"body": BODY, "provider_group_id": group["id"]},
        },
    )  # fmt: skip
    return str(campaign["id"])


async def run_under_faults(suite: Suite, api: ApiClient, campaign: str, seed: int, *, outages: bool) -> Chaos:
    chaos = Chaos(suite.home.run_file, seed, say, outages=outages)
    storm = asyncio.create_task(chaos.run())
    await insist(lambda: _schedule(api, campaign))
    began = time.monotonic()
    shown = 0.0
    while time.monotonic() - began < PATIENCE_SECONDS:
        if storm.done() and not storm.cancelled():
            await storm  # it ends by itself only by an error
        if time.monotonic() - began > (OUTAGE_SECONDS if outages else CHAOS_SECONDS):
            storm.cancel()
        state = await insist(lambda: api.get(f"/v1/campaigns/{campaign}"))
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            funnel = (await insist(lambda: api.get(f"/v1/campaigns/{campaign}/report")))["funnel"]
            say(f"{time.monotonic() - began:4.0f} s  {state['status']}: { {k: n for k, n in funnel.items() if n} }")
        if state["status"] == "completed":
            say(f"completed after {time.monotonic() - began:.0f} s")
            break
        await asyncio.sleep(1)
    else:
        say(f"NOT completed within {PATIENCE_SECONDS:.0f} s")
    storm.cancel()
    await asyncio.gather(storm, return_exceptions=True)
    return chaos


async def _schedule(api: ApiClient, campaign: str) -> Any:
    """A reply lost to a kill makes the second call a 409: then it is scheduled already."""
    try:
        return await api.post(f"/v1/campaigns/{campaign}/schedule")
    except ApiProblem as problem:
        if problem.status == 409:
            return None
        raise


async def collect(api: ApiClient, campaign: str, folder: Path) -> None:
    """The message log is a second behind; it is read when it no longer changes."""
    report = await insist(lambda: api.get(f"/v1/campaigns/{campaign}/report"))
    messages: list[dict[str, Any]] = []
    for _ in range(30):
        previous, messages = messages, await insist(lambda: api.items(f"/v1/campaigns/{campaign}/messages"))
        open_ones = [message for message in messages if message["status"] in ("pending", "in_doubt")]
        if messages == previous and not open_ones and len(messages) >= report["funnel"]["qualified"]:
            break
        await asyncio.sleep(2)
    report = await insist(lambda: api.get(f"/v1/campaigns/{campaign}/report"))
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    with (folder / "messages.jsonl").open("w") as file:
        file.writelines(json.dumps(message) + "\n" for message in messages)


async def play(seed: int, count: int, base: Path, *, outages: bool) -> Path:
    """The run; returns the folder with the ledgers."""
    folder = base / f"{'outages' if outages else 'faults'}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    people = make_people(count, seed)
    with (folder / "people.jsonl").open("w") as file:
        file.writelines(json.dumps(person.line()) + "\n" for person in people)
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
    env["POSTRIDER_ALLOWED_PRIVATE_HOSTS"] = "127.0.0.0/8"
    # With odd seeds receipts settle most doubts; with even ones there are none and only look-ups can.
    receipts = ("--receipts", "delivered", "--receipt-chaos") if seed % 2 else ("--receipts", "none")
    flags = ("--drop-after-accept", "0.1", "--error-500-after-accept", "0.02", *receipts, "--seed", str(seed))
    log = folder / "accepted.jsonl"
    async with twilio_process(log, *flags, account_sid=ACCOUNT, auth_token=TOKEN) as port:
        async with Suite(folder / "home", env, say, jars=base / "kafka" / "libs") as suite:
            async with ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY) as api:
                campaign = await prepare_campaign(api, people, port, seconds_ahead=20, outages=outages)
                say(f"{count} people; campaign {campaign}; seed {seed}")
                chaos = await run_under_faults(suite, api, campaign, seed, outages=outages)
                await suite.until_ready()
                await asyncio.sleep(3)
                await collect(api, campaign, folder)
    say(f"SIGKILL {chaos.kills}, SIGSTOP {chaos.stops}")
    return folder


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

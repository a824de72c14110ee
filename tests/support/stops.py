"""A campaign that is running through two dispatchers, to be stopped; and what must hold of the provider's log then.

Both moments are read from one clock, the machine's: when the stand-in read the first byte of each call, and when the
API's answer to the stop was there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from demo.story import adds_up
from postrider.local.client import ApiClient
from postrider.local.home import load_secrets
from postrider.local.ports import free_port
from postrider.local.process import Child, Command
from postrider.local.services import DISPATCHER, service_environment, url_of
from postrider.local.suite import Suite
from tests.standins.running import twilio_process
from tests.support.eventually import eventually

PROMISED_SECONDS = 1.0
"""docs/guarantee.md: no call begins later than this after the 200 of a stop, or the 2xx to a person's STOP."""
ACCOUNT, TOKEN = "AC" + "0" * 32, "token-of-the-stand-in"


@dataclass(frozen=True)
class Stopping:
    """`second`: the pid of the second dispatcher; the first is the suite's."""

    suite: Suite
    api: ApiClient
    campaign: str
    people: int
    log: Path
    second: int
    inbound_url: str

    def calls(self) -> list[tuple[float, str]]:
        """(when it began, to whom) of every text that the provider took."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        read = [msgspec.json.decode(line) for line in lines if line.endswith(b"}")]
        return [(line["began"], line["to"]) for line in read]

    async def stop(self) -> float:
        """The moment at which the 200 was there."""
        return await self.do("stop")

    async def do(self, action: str) -> float:
        await self.api.post(f"/v1/campaigns/{self.campaign}/{action}")
        return time.time()

    async def check(self, answered_at: float, asleep: int = 0) -> None:
        """Nothing began too late, and everybody is accounted for. `asleep`: how many dispatchers stood still; a process
        that is put to sleep between its last look and the write of the first byte has one text in its hand there, and
        no more."""
        counts = await eventually(self._settled, 60)
        calls = self.calls()
        self.check_promise(answered_at, asleep)
        assert max(Counter(to for _, to in calls).values()) == 1
        assert 0 < len(calls) == counts["accepted"] < self.people, "it was stopped in the middle"
        assert counts["cancelled"] == self.people - len(calls)
        assert (await self.api.get(f"/v1/campaigns/{self.campaign}"))["status"] == "stopped"
        reasons = await eventually(self._whole_log, 30)
        assert reasons == {"campaign_stopped": counts["cancelled"]}

    def check_promise(self, answered_at: float, asleep: int = 0) -> None:
        late = [began - answered_at for began, _ in self.calls() if began > answered_at + PROMISED_SECONDS]
        assert len(late) <= asleep, f"seconds after the 200: {late[:10]}"

    async def check_all_sent(self) -> None:
        """Everybody has one text."""
        await self.api.until_campaign(self.campaign, 90, "completed")
        counts = (await self.api.get(f"/v1/campaigns/{self.campaign}/report"))["funnel"]
        assert counts["accepted"] == counts["qualified"] == self.people, counts
        assert len({to for _, to in self.calls()}) == len(self.calls()) == self.people

    async def _settled(self) -> dict[str, int]:
        counts: dict[str, int] = (await self.api.get(f"/v1/campaigns/{self.campaign}/report"))["funnel"]
        assert adds_up(counts), counts
        assert counts["accepted"] + counts["cancelled"] == counts["qualified"] == self.people, counts
        return counts

    async def _whole_log(self) -> Counter[str]:
        rows = await self.api.items(f"/v1/campaigns/{self.campaign}/messages")
        assert len(rows) == self.people and all(row["status"] != "pending" for row in rows)
        return Counter(row["reason"] for row in rows if row["status"] == "cancelled")


@contextlib.asynccontextmanager
async def stopping(
    suite: Suite, api: ApiClient, folder: Path, people: int, *options: str, parts_per_second: int = 150, begun: int = 40
) -> AsyncIterator[Stopping]:
    """Inside, at least `begun` calls have begun and most have not. `options`: the stand-in's."""
    log, tag = folder / "calls.jsonl", uuid.uuid4().hex[:10]
    async with (
        twilio_process(log, *options, account_sid=ACCOUNT, auth_token=TOKEN) as port,
        another_dispatcher(suite, folder) as second,
    ):
        settings = {"base_url": f"http://127.0.0.1:{port}", "account_sid": ACCOUNT, "from": "+12025550100"}
        provider = await api.post(
            "/v1/providers",
            {"name": tag, "kind": "twilio", "settings": settings, "credentials": {"auth_token": TOKEN},
             "parts_per_second": parts_per_second},
        )  # fmt: skip
        everybody = [
            {"type": "identify", "userId": f"{tag}-{n}", "messageId": f"{tag}-{n}",
             "traits": {"phone": f"+1303{5_550_000 + n}", "tag": tag}}
            for n in range(people)
        ]  # fmt: skip
        for start in range(0, people, 1_000):
            await api.batch(everybody[start : start + 1_000])
        made = await api.post(
            "/v1/campaigns",
            {
                "name": tag, "kind": "one_time", "message_class": "transactional",
                "when": {"at": "now", "time_zone": "account"},
                "who": {"rule": {"all": [{"attribute": {"name": "tag", "op": "eq", "value": tag}}]}},
                "what": {"body": "Hello", "provider_id": provider["id"]},
            },
        )  # fmt: skip
        await api.post(f"/v1/campaigns/{made['id']}/schedule")
        scene = Stopping(suite, api, made["id"], people, log, second, provider["inbound_url"])
        await eventually(lambda: len(scene.calls()) >= begun, 60)
        yield scene


@contextlib.asynccontextmanager
async def another_dispatcher(suite: Suite, folder: Path) -> AsyncIterator[int]:
    """Beside the suite's own, on its parts and with its keys. Ready inside; its pid.

    Each time on the same port: by it the broker knows again who has its partitions, instead of waiting for a member
    that does not come back.
    """
    assert suite.addresses is not None
    kept_port = suite.home.path / "second-dispatcher.port"
    if not kept_port.exists():
        kept_port.write_text(str(free_port()))
    port = int(kept_port.read_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTRIDER_", "KAFKA_"))}
    env = service_environment(
        DISPATCHER, {**kept, "POSTRIDER_ALLOWED_PRIVATE_HOSTS": "127.0.0.0/8"}, home=suite.home,
        ports={**suite.ports, DISPATCHER.name: port}, addresses=suite.addresses, secrets=load_secrets(suite.home),
    )  # fmt: skip
    log, pid_file = folder / "second-dispatcher.log", folder / "second-dispatcher.json"
    child = Child(Command("second-dispatcher", [sys.executable, "-m", DISPATCHER.module], env, log, pid_file))
    try:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get(f"{url_of(port)}/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_ready, 60)
        yield child.pid
    finally:
        await child.stop(20)

"""Kannel (bearerbox and smsbox) as the peer of the dispatcher: texts in over HTTP (sendsms), out over `smsc = http`,
system-type `generic`, to the same sink.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from benchmarks.debian import Unavailable, Unpacked
from benchmarks.nginx_sink import Sink
from postrider.local.ports import free_port

PACKAGES = ("kannel", "libct4", "libhiredis0.14", "libmariadb3", "libpcre3")
LOCAL = Path(".local").resolve()
CLIENTS = 32
START_SECONDS = 20.0
GIVE_UP_SECONDS = 120.0
CONFIGURATION = """
group = core
admin-port = {admin}
admin-password = bench
admin-allow-ip = 127.0.0.1
admin-deny-ip = "*.*.*.*"
smsbox-port = {box}
smsbox-interface = 127.0.0.1
log-level = 3
dlr-storage = internal
sms-outgoing-queue-limit = 1000000
sms-incoming-queue-limit = 1000000
{store}

group = smsc
smsc = http
smsc-id = sink
system-type = generic
send-url = "http://127.0.0.1:{sink}/send?to=%p&from=%P&text=%b&ref=%I"
status-success-regex = "OK"
generic-foreign-id-regex = "OK: (.*)"
port = {inbound}
connect-allow-ip = 127.0.0.1
max-pending-submits = {pending}

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
log-level = 3

group = sendsms-user
username = bench
password = bench
max-messages = 1
"""


@dataclass(frozen=True)
class Manner:
    """How Kannel keeps what it has taken. `wants_receipts`: each text is sent with a dlr-mask for delivered and failed,
    so that Kannel remembers the sink's id for it, as we do."""

    name: str
    store: str
    wants_receipts: bool


MANNERS = (
    Manner("Kannel, store-type = spool, receipts", "store-type = spool\nstore-location = {folder}", True),
    Manner("Kannel, store-type = file, receipts", "store-type = file\nstore-location = {folder}/store", True),
    Manner("Kannel, nothing kept, no receipts", "", False),
)


@dataclass
class Kannel:
    manner: Manner
    sendsms: int
    pids: dict[str, int]

    async def send(self, sink: Sink, texts: int) -> float:
        """Texts a second from the first request to sendsms until the sink has answered the last one."""
        before = await sink.texts()
        numbers = iter(range(texts))
        receipts = "&dlr-mask=3&dlr-url=" + quote("http://127.0.0.1/receipt?id=%F", safe="")
        refused: list[bytes] = []

        async def client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.sendsms)
            for number in numbers:
                query = f"username=bench&password=bench&from=123&to=%2B1555{1000000 + number}&text=Hi+u-{number}"
                query += receipts if self.manner.wants_receipts else ""
                writer.write(f"GET /cgi-bin/sendsms?{query} HTTP/1.1\r\nHost: kannel\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                body = await reader.readexactly(length)
                if b" 202 " not in head[:16]:
                    refused.append(body)
            writer.close()

        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        if refused:
            raise RuntimeError(f"Kannel refused {len(refused)} texts: {refused[0]!r}")
        until = began + GIVE_UP_SECONDS
        while await sink.texts() - before < texts:
            if time.monotonic() > until:
                raise TimeoutError(f"Kannel has sent {await sink.texts() - before} of {texts} texts")
            await asyncio.sleep(0.02)
        return texts / (time.monotonic() - began)


def version(packages: Unpacked) -> str:
    program = packages.program("bearerbox")
    told = subprocess.run([program, "--version"], env=packages.environment, capture_output=True, text=True, check=False)
    return told.stdout.splitlines()[0]


@asynccontextmanager
async def kannel(packages: Unpacked, manner: Manner, sink: Sink, pending: int) -> AsyncIterator[Kannel]:
    """`pending`: texts under way at the sink, at most."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=LOCAL) as name:
        folder = Path(name)
        sendsms, box = free_port(), free_port()
        configuration = folder / "kannel.conf"
        store = manner.store.format(folder=folder)
        configuration.write_text(
            CONFIGURATION.format(
                admin=free_port(), box=box, store=store, sink=sink.port, inbound=free_port(),
                pending=pending, sendsms=sendsms,
            )
        )  # fmt: skip
        processes: list[asyncio.subprocess.Process] = []
        output_path = folder / "output"
        try:
            with output_path.open("wb") as output:
                for box_name, port in (("bearerbox", box), ("smsbox", sendsms)):
                    program = packages.program(box_name)
                    processes.append(
                        await asyncio.create_subprocess_exec(
                            program, "-v", "3", str(configuration), env=packages.environment,
                            stdout=output, stderr=output,
                        )
                    )  # fmt: skip
                    await _listens(port, output_path)
            await asyncio.sleep(1)  # smsbox listens before it has found bearerbox
            pids = {"bearerbox": processes[0].pid, "smsbox": processes[1].pid}
            yield Kannel(manner, sendsms, pids)
        finally:
            for process in reversed(processes):
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def _listens(port: int, output: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    said = await asyncio.to_thread(output.read_text, errors="replace")
    raise Unavailable(f"Kannel does not start: {said[-500:]}")

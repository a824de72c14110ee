"""nginx as a provider that takes every text at once and says which id it has: the same sink for every sender.

It counts requests and puts nothing on disk, so that it costs the senders' cores next to nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.debian import Unpacked
from postrider.local.ports import free_port

LOCAL = Path(".local").resolve()
PACKAGES = ("nginx",)
CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location = /stats {{ stub_status; }}
    location = /send {{ default_type text/plain; return 200 "OK: $request_id"; }}
  }}
}}
"""


@dataclass
class Sink:
    port: int
    pid: int
    http: httpx.AsyncClient
    asked: int = 0

    async def texts(self) -> int:
        """Requests answered so far, without our questions."""
        self.asked += 1
        page = (await self.http.get(f"http://127.0.0.1:{self.port}/stats")).text
        return int(page.split()[9]) - self.asked


@asynccontextmanager
async def sink(nginx: Unpacked) -> AsyncIterator[Sink]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=LOCAL) as name:
        folder, port = Path(name), free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, port=port))
        process = await asyncio.create_subprocess_exec(
            nginx.program("nginx"), "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log"),
            env=nginx.environment,
        )  # fmt: skip
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                taker = Sink(port, process.pid, http)
                async with asyncio.timeout(10):
                    while True:
                        try:
                            await taker.texts()
                        except httpx.ConnectError:
                            taker.asked -= 1
                            await asyncio.sleep(0.05)
                        else:
                            break
                yield taker
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

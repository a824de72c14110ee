"""A Vonage-shaped provider as a process: takes texts, keeps them for good, and misbehaves as told.

    python -m tests.standins.vonage --port 0 --log PATH --api-key … --api-secret … [misbehaviour]

The first line of stdout is its port. Every accepted text is one JSON line in PATH, on disk (fsync) before its reply
leaves. It answers 200 whatever became of a text, part by part, and sends receipts by GET, as a form or as JSON, one for
each part. With a signature method it signs its callbacks, and takes signed requests beside those with the secret.

GET /account/get-balance with Basic credentials; GET /_stats counts; POST /_inbound {"from", "to", "body", "url"} and
optionally {"more": {…}} pushes an inbound text to `url`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import parse_qsl, urlencode

import aiohttp
import msgspec
import uvloop
from yarl import URL

from dispatcher.providers.vonage_signature import is_signed, sign
from tests.standins.durable_log import DurableLog
from tests.standins.http_connection import Connection, Reply, Request
from tests.standins.vonage_text import Text, as_it_arrives, parts_of, receipt, refusal, taken, wrong_with

WEBHOOK_SENDERS = 16
WEBHOOK_TRIES = 3
RECEIPTS = {"delivered": ("delivered", "0"), "failed": ("failed", "6"), "opted-out": ("failed", "9")}
"""(status, err-code) of a part's last receipt. `last-part-failed`: of the last part only."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Shares are of all sends, 0 to 1, drawn in this order: throttle, then, of an accepted text: drop, 500, hang."""

    api_key: str
    api_secret: str
    signature_method: str | None = None
    signature_secret: str = ""
    drop_after_accept: float = 0.0
    error_500_after_accept: float = 0.0
    hang: float = 0.0
    throttle: float = 0.0
    refuse_status: int | None = None
    first_part_only: bool = False
    latency_ms: float = 0.0
    receipts: str = "none"
    receipts_by: str = "form"
    receipt_chaos: bool = False
    seed: int | None = None


@dataclass
class Vonage:
    """The account: decides on each request. `webhooks` is where callbacks wait to be pushed."""

    behaviour: Behaviour
    log: DurableLog
    stats: dict[str, int] = field(default_factory=dict)
    webhooks: asyncio.Queue[tuple[str, dict[str, str]]] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self._random = random.Random(self.behaviour.seed)
        user = f"{self.behaviour.api_key}:{self.behaviour.api_secret}".encode()
        self._authorization = b"Basic " + base64.b64encode(user)
        self._timers: set[asyncio.Task[None]] = set()
        self.stats = {"remembered": len(self.log.earlier)}

    def count(self, what: str) -> None:
        self.stats[what] = self.stats.get(what, 0) + 1

    def handle(self, request: Request, reply: Reply, drop: Callable[[], None]) -> None:
        """Answers through `reply`, now or later; `drop` closes the connection without a word."""
        path = request.url.partition(b"?")[0]
        if path == b"/_stats":
            reply(200, _json({"pid": os.getpid(), **self.stats}), b"")
        elif path == b"/_inbound" and request.method == "POST":
            self._inbound(msgspec.json.decode(request.body), reply)
        elif path == b"/sms/json" and request.method == "POST":
            self._send(dict(parse_qsl(request.body.decode(), keep_blank_values=True)), reply, drop)
        elif path == b"/account/get-balance" and request.method == "GET":
            if request.authorization != self._authorization:
                return reply(401, _json({"error-code": "401", "error-code-label": "authentication failed"}), b"")
            reply(200, _json({"value": 3.14159, "autoReload": False}), b"")
        else:
            reply(404, b"", b"")
        return None

    def _send(self, form: dict[str, str], reply: Reply, drop: Callable[[], None]) -> None:
        behaviour = self.behaviour
        self.count("sends")
        wrong = self._unauthentic(form) or wrong_with(form)
        if behaviour.refuse_status is not None:
            wrong = (behaviour.refuse_status, "Refused as told")
        elif wrong is None and self._happens(behaviour.throttle):
            wrong = (1, "Throughput Rate Exceeded - please wait [ 30 ] and retry")
        if wrong is not None:
            self.count(f"status_{wrong[0]}")
            return reply(200, _json(refusal(*wrong)), b"")
        body = as_it_arrives(form)
        parts = parts_of(body)
        text = Text(
            ids=[f"{self._random.getrandbits(64):016X}" for _ in range(1 if behaviour.first_part_only else parts)],
            parts=parts,
            to=form["to"],
            sender=form["from"],
            body=body,
            type=form.get("type", "text"),
            client_ref=form.get("client-ref"),
            callback=form.get("callback") if form.get("status-report-req") == "true" else None,
            ttl=form.get("ttl"),
            created=time.time(),
        )
        shares = (
            ("dropped", behaviour.drop_after_accept),
            ("error_500", behaviour.error_500_after_accept),
            ("hung", behaviour.hang),
        )
        fate = next((name for name, share in shares if self._happens(share)), "replied")
        self.log.append(text.line(), lambda: self._on_disk(text, fate, reply, drop))
        return None

    def _unauthentic(self, form: dict[str, str]) -> tuple[int, str] | None:
        behaviour = self.behaviour
        if form.get("api_key") != behaviour.api_key:
            return 4, "Bad Credentials"
        if "sig" in form and "api_secret" in form:
            return 32, "Signature And API Secret Disallowed"
        if "sig" not in form:
            return None if form.get("api_secret") == behaviour.api_secret else (4, "Bad Credentials")
        method, secret = behaviour.signature_method, behaviour.signature_secret
        stamp = form.get("timestamp", "")
        is_fresh = stamp.isdigit() and abs(time.time() - int(stamp)) < 300
        if method is None or not is_fresh or not is_signed(method, secret, form):
            return 14, "Invalid Signature"
        return None

    def _on_disk(self, text: Text, fate: str, reply: Reply, drop: Callable[[], None]) -> None:
        self.count(fate)
        if text.callback and self.behaviour.receipts != "none":
            self._start(self._receipts(text, text.callback))
        if fate == "hung":
            return
        if fate == "dropped":
            self._later(drop)
        elif fate == "error_500":
            self._later(lambda: reply(500, b"<html>", b""))
        else:
            body = _json(taken(text, text.parts))
            self._later(lambda: reply(200, body, b""))

    def _later(self, act: Callable[[], None]) -> None:
        if self.behaviour.latency_ms:
            asyncio.get_running_loop().call_later(self.behaviour.latency_ms / 1000, act)
        else:
            act()

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    async def _receipts(self, text: Text, url: str) -> None:
        """Two for each part; in chaos, parts and words in any order, and some twice."""
        said = []
        for number, id in enumerate(text.ids, start=1):
            kind = self.behaviour.receipts
            if kind == "last-part-failed":
                kind = "failed" if number == text.parts else "delivered"
            said += [receipt(text, id, *each, self.behaviour.api_key) for each in (("buffered", "0"), RECEIPTS[kind])]
        if self.behaviour.receipt_chaos:
            said += [each for each in said if self._happens(0.3)]
            self._random.shuffle(said)
        for each in said:
            self.webhooks.put_nowait((url, each))
            await asyncio.sleep(0.01)

    def _inbound(self, order: dict[str, Any], reply: Reply) -> None:
        words = order["body"].split()
        said = {
            "api-key": self.behaviour.api_key,
            "msisdn": order["from"],
            "to": order["to"],
            "messageId": f"{self._random.getrandbits(64):016X}",
            "text": order["body"],
            "type": "text" if order["body"].isascii() else "unicode",
            "keyword": words[0].upper() if words else "",
            "message-timestamp": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            **order.get("more", {}),
        }

        async def push() -> None:
            async with aiohttp.ClientSession() as session:
                try:
                    status = await self.push(session, order["url"], self._signed(said))
                except (aiohttp.ClientError, TimeoutError) as error:
                    return reply(502, _json({"error": type(error).__name__}), b"")
            return reply(200, _json({"status": status, "id": said["messageId"]}), b"")

        self._start(push())

    def _signed(self, said: dict[str, str]) -> dict[str, str]:
        """Signed once, before it is pushed for the first time; HMACs in capitals."""
        method = self.behaviour.signature_method
        if method is None:
            return said
        stamped = {**said, "timestamp": str(int(time.time())), "nonce": secrets.token_hex(16)}
        signature = sign(method, self.behaviour.signature_secret, stamped)
        return {**stamped, "sig": signature if method == "md5hash" else signature.upper()}

    async def push(self, session: aiohttp.ClientSession, url: str, said: dict[str, str]) -> int:
        timeout = aiohttp.ClientTimeout(total=15)
        by = self.behaviour.receipts_by
        if by == "get":
            joint = "&" if "?" in url else "?"
            call = session.get(URL(f"{url}{joint}{urlencode(said)}", encoded=True), timeout=timeout)
        elif by == "json":
            call = session.post(url, json=said, timeout=timeout)
        else:
            call = session.post(url, data=said, timeout=timeout)
        async with call as response:
            await response.read()
            return response.status

    async def send_webhooks(self) -> None:
        """One of the senders: takes callbacks until cancelled, tries each a few times, as the vendor does."""
        async with aiohttp.ClientSession() as session:
            while True:
                url, said = await self.webhooks.get()
                signed = self._signed(said)
                for attempt in range(WEBHOOK_TRIES):
                    if attempt:
                        await asyncio.sleep(0.5 * attempt)
                    try:
                        if await self.push(session, url, signed) < 300:
                            self.count("receipts_taken")
                            break
                    except (aiohttp.ClientError, TimeoutError):
                        self.count("receipts_failed")

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


async def serve(behaviour: Behaviour, log: DurableLog, port: int, announce: TextIO) -> None:
    """Runs until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    vonage = Vonage(behaviour, log)
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(vonage.handle, connections), "127.0.0.1", port, backlog=1024)
    senders = [loop.create_task(vonage.send_webhooks()) for _ in range(WEBHOOK_SENDERS)]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(server.sockets[0].getsockname()[1], file=announce, flush=True)
    await stop.wait()
    server.close()
    for connection in list(connections):
        connection.transport.abort()
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    log.close()


def parse(arguments: list[str]) -> tuple[Behaviour, Path, int]:
    parser = argparse.ArgumentParser(prog="tests.standins.vonage", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--api-secret", required=True)
    parser.add_argument("--signature-method", choices=("md5hash", "md5", "sha1", "sha256", "sha512"))
    parser.add_argument("--signature-secret", default="")
    for share in ("drop-after-accept", "error-500-after-accept", "hang", "throttle"):
        parser.add_argument(f"--{share}", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--refuse-status", type=int, help="every send is refused with this status")
    parser.add_argument("--first-part-only", action="store_true", help="the other parts of a text are throttled")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--receipts", choices=(*RECEIPTS, "last-part-failed", "none"), default="none")
    parser.add_argument("--receipts-by", choices=("get", "form", "json"), default="form")
    parser.add_argument("--receipt-chaos", action="store_true", help="receipts doubled and out of order")
    parser.add_argument("--seed", type=int)
    given = vars(parser.parse_args(arguments))
    log, port = given.pop("log"), given.pop("port")
    return Behaviour(**given), log, port


def main(arguments: list[str]) -> None:
    behaviour, path, port = parse(arguments)
    run: Callable[[Awaitable[None]], None] = uvloop.run  # type: ignore[assignment]
    with contextlib.suppress(KeyboardInterrupt):
        run(serve(behaviour, DurableLog(path), port, sys.stdout))


if __name__ == "__main__":
    main(sys.argv[1:])

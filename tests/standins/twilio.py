"""A Twilio-shaped provider as a process: takes texts, keeps them for good, and misbehaves as told.

    python -m tests.standins.twilio --port 0 --log PATH --account-sid AC… --auth-token … [misbehaviour]

The first line of stdout is its port. Every accepted text is one JSON line in PATH, on disk (fsync, several requests
per call) before its reply leaves: the ledger that a checker compares ours with. A restart with the same PATH remembers
earlier texts. Raw asyncio and httptools, because it is the benchmark's sink too and must not be what is measured.

GET /_stats counts; POST /_inbound {"from", "body"}, with "to" and "url" if need be, posts a signed inbound text;
POST /_account {"inbound_url"} says where to; POST /_faults {"hang": 1, …} changes the misbehaviour.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import aiohttp
import msgspec
import uvloop

from dispatcher.providers.twilio_signature import sign
from tests.standins.durable_log import DurableLog, ToldLog
from tests.standins.http_connection import Connection, Reply, Request
from tests.standins.twilio_text import Text, resource, wrong_with
from tests.standins.vendor import OUR_NUMBER, SLOW_SECONDS

WEBHOOK_SENDERS = 16
WEBHOOK_TRIES = 3
SHARES = (
    "drop-after-accept", "error-500-after-accept", "hang", "garbage-reply", "slow", "reject-429", "lose-receipts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Shares are of all sends, 0 to 1, drawn in this order: 429, then, the text being accepted: drop, 500, hang,
    garbage, slow. `lose_receipts`: of the texts, how many are never reported."""

    account_sid: str
    auth_token: str
    drop_after_accept: float = 0.0
    error_500_after_accept: float = 0.0
    hang: float = 0.0
    garbage_reply: float = 0.0
    slow: float = 0.0
    lose_receipts: float = 0.0
    reject_429: float = 0.0
    refuse_code: int | None = None
    latency_ms: float = 0.0
    index_lag_ms: float = 0.0
    receipts: str = "none"
    receipt_chaos: bool = False
    seed: int | None = None
    number: str | None = None


@dataclass
class Twilio:
    """The account: decides on each request. `webhooks` is where signed callbacks wait to be posted."""

    behaviour: Behaviour
    log: DurableLog
    texts: dict[str, Text] = field(default_factory=dict)
    by_number: dict[str, list[Text]] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)
    webhooks: asyncio.Queue[tuple[str, list[tuple[str, str]]]] = field(default_factory=asyncio.Queue)
    inbound_url: str | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.behaviour.seed)
        user = f"{self.behaviour.account_sid}:{self.behaviour.auth_token}".encode()
        self._authorization = b"Basic " + base64.b64encode(user)
        self._account_path = f"/2010-04-01/Accounts/{self.behaviour.account_sid}".encode()
        self._messages_path = self._account_path + b"/Messages.json"
        self._told = ToldLog(self.log.path)
        self._timers: set[asyncio.Task[None]] = set()
        for line in self.log.earlier:
            self._keep(Text.from_line(line))
        self.stats = {"remembered": len(self.texts)}

    def count(self, what: str) -> None:
        self.stats[what] = self.stats.get(what, 0) + 1

    def handle(self, request: Request, reply: Reply, drop: Callable[[], None]) -> None:
        """Answers through `reply`, now or later; `drop` closes the connection without a word."""
        path, _, query = request.url.partition(b"?")
        if path == b"/_stats":
            reply(200, _json({"accepted": len(self.texts), "pid": os.getpid(), **self.stats}), b"")
        elif path == b"/_account" and request.method == "POST":
            self.inbound_url = msgspec.json.decode(request.body).get("inbound_url", self.inbound_url)
            reply(204, b"", b"")
        elif path == b"/_faults" and request.method == "POST":
            self.behaviour = dataclasses.replace(self.behaviour, **msgspec.json.decode(request.body))
            reply(204, b"", b"")
        elif path == b"/_inbound" and request.method == "POST":
            self._inbound(msgspec.json.decode(request.body), reply)
        elif request.authorization != self._authorization:
            self.count("unauthorized")
            reply(401, _error(20003, "Authenticate", 401), b"")
        elif path == self._messages_path and request.method == "POST":
            self._send(request, reply, drop)
        elif path == self._messages_path and request.method == "GET":
            self.count("lists")
            reply(200, _json(self._list(query.decode())), b"")
        elif path == self._account_path + b".json":
            reply(200, _json({"sid": self.behaviour.account_sid, "status": "active"}), b"")
        elif path == self._account_path + b"/IncomingPhoneNumbers.json":
            wanted = dict(parse_qsl(query.decode())).get("PhoneNumber", "")
            entry = {"phone_number": wanted, "capabilities": {"sms": True, "voice": True}}
            owned = self.behaviour.number in (None, wanted)
            reply(200, _json({"incoming_phone_numbers": [entry] if owned else []}), b"")
        elif path.startswith(b"/v1/Services/MG"):
            service = path.rpartition(b"/")[2].decode()
            reply(200, _json({"sid": service, "account_sid": self.behaviour.account_sid}), b"")
        else:
            reply(404, _error(20404, "The requested resource was not found", 404), b"")

    def _send(self, request: Request, reply: Reply, drop: Callable[[], None]) -> None:
        behaviour = self.behaviour
        self.count("sends")
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        if behaviour.refuse_code is not None:
            self.count("refused")
            return reply(400, _error(behaviour.refuse_code, "Refused as told", 400), b"")
        if self._happens(behaviour.reject_429):
            self.count("rejected_429")
            return reply(429, _error(20429, "Too Many Requests", 429), b"Retry-After: 1\r\n")
        wrong = wrong_with(form)
        if wrong is not None:
            self.count("invalid")
            return reply(400, _error(*wrong, 400), b"")
        text = Text(
            sid=f"SM{self._random.getrandbits(128):032x}",
            to=form["To"],
            sender=form.get("From"),
            service=form.get("MessagingServiceSid"),
            body=form["Body"],
            status_callback=form.get("StatusCallback"),
            validity=form.get("ValidityPeriod"),
            created=time.time(),
            began=request.began,
        )
        fate = next(
            (
                name
                for name, share in (
                    ("dropped", behaviour.drop_after_accept),
                    ("error_500", behaviour.error_500_after_accept),
                    ("hung", behaviour.hang),
                    ("garbage", behaviour.garbage_reply),
                    ("slow", behaviour.slow),
                )
                if self._happens(share)
            ),
            "replied",
        )
        self.log.append(text.line(), lambda: self._on_disk(text, fate, reply, drop))
        return None

    def _on_disk(self, text: Text, fate: str, reply: Reply, drop: Callable[[], None]) -> None:
        self._keep(text)
        self.count(fate)
        is_reported = self.behaviour.receipts != "none" and not self._happens(self.behaviour.lose_receipts)
        if text.status_callback and is_reported:
            self._start(self._receipts(text))
        if fate == "hung":
            return
        if fate == "dropped":
            self._later(drop)
        elif fate == "error_500":
            self._later(lambda: reply(500, _error(20500, "Internal Server Error", 500), b""))
        elif fate == "garbage":
            self._later(lambda: reply(201, b"<html>\x00{it works!", b""))
        else:
            body = _json(resource(text, self.behaviour.account_sid))
            self._later(lambda: reply(201, body, b""), SLOW_SECONDS if fate == "slow" else 0.0)

    def _later(self, act: Callable[[], None], more_seconds: float = 0.0) -> None:
        if self.behaviour.latency_ms or more_seconds:
            asyncio.get_running_loop().call_later(self.behaviour.latency_ms / 1000 + more_seconds, act)
        else:
            act()

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _keep(self, text: Text) -> None:
        self.texts[text.sid] = text
        self.by_number.setdefault(text.to, []).append(text)

    def _list(self, query: str) -> dict[str, Any]:
        """Newest first. `Page` counts pages, as in the vendor's own next_page_uri."""
        wanted = dict(parse_qsl(query))
        size = max(1, min(int(wanted.get("PageSize", "50")), 1000))
        page = int(wanted.get("Page", "0"))
        texts = self.by_number.get(wanted["To"], []) if "To" in wanted else list(self.texts.values())
        visible = time.time() - self.behaviour.index_lag_ms / 1000
        newest_first = [text for text in reversed(texts) if text.created <= visible]
        entries = newest_first[page * size : (page + 1) * size]
        more = len(newest_first) > (page + 1) * size
        uri = self._messages_path.decode()
        next_query = urlencode({**wanted, "PageSize": size, "Page": page + 1})
        return {
            "messages": [resource(text, self.behaviour.account_sid) for text in entries],
            "page": page,
            "page_size": size,
            "uri": f"{uri}?{query}",
            "next_page_uri": f"{uri}?{next_query}" if more else None,
        }

    async def _receipts(self, text: Text) -> None:
        last = "delivered" if self.behaviour.receipts == "delivered" else "undelivered"
        statuses = ["queued", "sent", last]
        if self.behaviour.receipt_chaos:
            if self._happens(0.3):
                statuses.append(self._random.choice(statuses))
            if self._happens(0.3):
                self._random.shuffle(statuses)
        text.status = last
        text.error_code = 30008 if last == "undelivered" else None
        for status in statuses:
            form = [
                ("MessageSid", text.sid),
                ("SmsSid", text.sid),
                ("MessageStatus", status),
                ("SmsStatus", status),
                ("To", text.to),
                ("AccountSid", self.behaviour.account_sid),
                ("ApiVersion", "2010-04-01"),
            ]
            form += [("From", text.sender)] if text.sender else [("MessagingServiceSid", text.service or "")]
            if status == "undelivered":
                form.append(("ErrorCode", "30008"))
            assert text.status_callback is not None
            self.webhooks.put_nowait((text.status_callback, form))
            await asyncio.sleep(0.01)

    def _inbound(self, order: dict[str, str], reply: Reply) -> None:
        url = order.get("url", self.inbound_url)
        if url is None:
            return reply(404, _json({"error": "nowhere to push it to"}), b"")
        sid = f"SM{self._random.getrandbits(128):032x}"
        form = [
            ("MessageSid", sid),
            ("SmsSid", sid),
            ("AccountSid", self.behaviour.account_sid),
            ("From", order["from"]),
            ("To", order.get("to", OUR_NUMBER)),
            ("Body", order["body"]),
            ("NumMedia", "0"),
        ]

        async def post() -> None:
            async with aiohttp.ClientSession() as session:
                try:
                    status = await self.post_signed(session, url, form)
                except (aiohttp.ClientError, TimeoutError) as error:
                    return reply(502, _json({"error": type(error).__name__}), b"")
            return reply(200, _json({"status": status, "sid": sid}), b"")

        self._start(post())
        return None

    async def post_signed(self, session: aiohttp.ClientSession, url: str, form: list[tuple[str, str]]) -> int:
        headers = {"X-Twilio-Signature": sign(self.behaviour.auth_token, url, form)}
        timeout = aiohttp.ClientTimeout(total=15)
        async with session.post(url, data=form, headers=headers, timeout=timeout) as response:
            await response.read()
            return response.status

    async def send_webhooks(self) -> None:
        """One of the senders: takes callbacks until cancelled, tries each a few times, as the vendor does."""
        async with aiohttp.ClientSession() as session:
            while True:
                url, form = await self.webhooks.get()
                for attempt in range(WEBHOOK_TRIES):
                    if attempt:
                        await asyncio.sleep(0.5 * attempt)
                    try:
                        if await self.post_signed(session, url, form) < 300:
                            self.count("receipts_taken")
                            self._told.append(parse_qs(urlsplit(url).query).get("reference", []))
                            break
                    except (aiohttp.ClientError, TimeoutError):
                        self.count("receipts_failed")

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _error(code: int, message: str, status: int) -> bytes:
    return _json({"code": code, "message": message, "more_info": f"errors/{code}", "status": status})


async def serve(behaviour: Behaviour, log: DurableLog, port: int, announce: TextIO) -> None:
    """Runs until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    twilio = Twilio(behaviour, log)
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(twilio.handle, connections), "127.0.0.1", port, backlog=1024)
    senders = [loop.create_task(twilio.send_webhooks()) for _ in range(WEBHOOK_SENDERS)]
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
    parser = argparse.ArgumentParser(prog="tests.standins.twilio", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--account-sid", required=True)
    parser.add_argument("--auth-token", required=True)
    for share in SHARES:
        parser.add_argument(f"--{share}", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--refuse-code", type=int, help="every send is refused with this error")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--index-lag-ms", type=float, default=0.0, help="how long the list does not show a text")
    parser.add_argument("--receipts", choices=("delivered", "undelivered", "none"), default="none")
    parser.add_argument("--receipt-chaos", action="store_true", help="receipts doubled and out of order")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--number", help="the only one that the account has; by default it has any")
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

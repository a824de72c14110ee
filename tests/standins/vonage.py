"""A Vonage-shaped provider as a process: takes texts, keeps them for good, and misbehaves as told.

    python -m tests.standins.vonage --port 0 --log PATH --api-key … --api-secret … [misbehaviour]

The first line of stdout is its port. Every accepted text is one JSON line in PATH, on disk (fsync) before its reply
leaves; a restart remembers them. It answers 200 whatever became of a text, part by part (--reject-429 is its status 1),
and sends receipts by GET, as a form or as JSON, one for each part. With a signature method it signs its callbacks, and
takes signed requests beside those with the secret.

GET /account/get-balance with Basic credentials; GET /_stats counts; POST /_faults {"hang": 1, …} changes the
misbehaviour; POST /_inbound {"from", "to", "body", "url"} pushes an inbound text to `url`.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from yarl import URL

from dispatcher.providers.vonage_signature import is_signed, sign
from tests.standins.durable_log import DurableLog
from tests.standins.vendor import Callback, Vendor, fault_arguments, faults_of, run
from tests.standins.vonage_text import Text, as_it_arrives, parts_of, receipt, refusal, taken, wrong_with

RECEIPTS = {"delivered": ("delivered", "0"), "failed": ("failed", "6"), "opted-out": ("failed", "9")}
"""(status, err-code) of a part's last receipt. `last-part-failed`: of the last part only."""
FORM, JSON, BY_GET = "application/x-www-form-urlencoded", "application/json", ""
"""How callbacks come, as their content type."""


@dataclass
class Vonage(Vendor):
    api_key: str = ""
    api_secret: str = ""
    signature_method: str | None = None
    signature_secret: str = ""
    callbacks_by: str = FORM
    refuse_status: int | None = None
    first_part_only: bool = False

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/sms/json", self.send)
        router.add_get("/account/get-balance", self.balance)

    async def balance(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != aiohttp.BasicAuth(self.api_key, self.api_secret).encode():
            said = {"error-code": "401", "error-code-label": "authentication failed"}
            return web.json_response(said, status=401)
        return web.json_response({"value": 3.14159, "autoReload": False})

    async def send(self, request: web.Request) -> web.StreamResponse:
        self.count("sends")
        form = {name: str(value) for name, value in (await request.post()).items()}
        wrong = self._unauthentic(form) or wrong_with(form)
        if self.refuse_status is not None:
            wrong = (self.refuse_status, "Refused as told")
        elif wrong is None and self.happens(self.faults.reject_429):
            wrong = (1, "Throughput Rate Exceeded - please wait [ 30 ] and retry")
        if wrong is not None:
            self.count(f"status_{wrong[0]}")
            return web.json_response(refusal(*wrong))
        body = as_it_arrives(form)
        parts = parts_of(body)
        text = Text(
            ids=[f"{self.random.getrandbits(64):016X}" for _ in range(1 if self.first_part_only else parts)],
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
        await self.keep([text.line()])
        self._report(text)
        return await self.answer(request, web.json_response(taken(text, parts)))

    def _unauthentic(self, form: dict[str, str]) -> tuple[int, str] | None:
        if form.get("api_key") != self.api_key:
            return 4, "Bad Credentials"
        if "sig" in form and "api_secret" in form:
            return 32, "Signature And API Secret Disallowed"
        if "sig" not in form:
            return None if form.get("api_secret") == self.api_secret else (4, "Bad Credentials")
        stamp = form.get("timestamp", "")
        is_fresh = stamp.isdigit() and abs(time.time() - int(stamp)) < 300
        method = self.signature_method
        if method is None or not is_fresh or not is_signed(method, self.signature_secret, form):
            return 14, "Invalid Signature"
        return None

    def _report(self, text: Text) -> None:
        """Two receipts for each part."""
        if text.callback is None or not self.reports():
            return
        said = []
        for number, id in enumerate(text.ids, start=1):
            kind = self.faults.receipts
            if kind == "last-part-failed":
                kind = "failed" if number == text.parts else "delivered"
            said += [receipt(text, id, *each, self.api_key) for each in (("buffered", "0"), RECEIPTS[kind])]
        for each in self.disorder(said):
            self.callbacks.put_nowait(self._callback(text.callback, each, (text.client_ref,)))

    def text_from_person(self, order: dict[str, str]) -> Callback | None:
        url = order.get("url", self.inbound_url)
        said = {
            "api-key": self.api_key,
            "msisdn": order["from"].lstrip("+"),
            "to": order["to"].lstrip("+"),
            "messageId": f"{self.random.getrandbits(64):016X}",
            "text": order["body"],
            "type": "text" if order["body"].isascii() else "unicode",
            "keyword": order["body"].split()[0].upper(),
            "message-timestamp": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        }
        return None if url is None else self._callback(url, said)

    def _callback(self, url: str, said: dict[str, str], about: tuple[str | None, ...] = ()) -> Callback:
        """Signed once, before it is pushed for the first time; HMACs in capitals."""
        method = self.signature_method
        if method is not None:
            said = {**said, "timestamp": str(int(time.time())), "nonce": secrets.token_hex(16)}
            signature = sign(method, self.signature_secret, said)
            said["sig"] = signature if method == "md5hash" else signature.upper()
        if self.callbacks_by == BY_GET:
            return Callback(f"{url}{'&' if '?' in url else '?'}{urlencode(said)}", b"", BY_GET, about)
        body = json.dumps(said) if self.callbacks_by == JSON else urlencode(said)
        return Callback(url, body.encode(), self.callbacks_by, about)

    async def post(self, session: aiohttp.ClientSession, callback: Callback) -> int:
        if callback.content_type != BY_GET:
            return await super().post(session, callback)
        timeout = aiohttp.ClientTimeout(total=10)
        async with session.get(URL(callback.url, encoded=True), timeout=timeout) as response:
            await response.read()
            return response.status


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.standins.vonage", description=__doc__)
    fault_arguments(parser, [*RECEIPTS, "last-part-failed"])
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--api-secret", required=True)
    parser.add_argument("--signature-method", choices=("md5hash", "md5", "sha1", "sha256", "sha512"))
    parser.add_argument("--signature-secret", default="")
    parser.add_argument("--callbacks-by", choices=("get", "form", "json"), default="form")
    parser.add_argument("--refuse-status", type=int, help="every send is refused with this status")
    parser.add_argument("--first-part-only", action="store_true", help="the other parts of a text are throttled")
    given = parser.parse_args(arguments)
    vendor = Vonage(
        faults_of(given),
        DurableLog(given.log),
        api_key=given.api_key,
        api_secret=given.api_secret,
        signature_method=given.signature_method,
        signature_secret=given.signature_secret,
        callbacks_by={"get": BY_GET, "form": FORM, "json": JSON}[given.callbacks_by],
        refuse_status=given.refuse_status,
        first_part_only=given.first_part_only,
    )
    run(vendor, vendor.routes, given.port)


if __name__ == "__main__":
    main(sys.argv[1:])

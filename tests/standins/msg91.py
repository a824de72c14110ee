"""An MSG91-shaped provider as a process: takes calls, keeps their texts for good, and misbehaves as told.

    python -m tests.standins.msg91 --port 0 --log PATH --auth-key … [misbehaviour]

The first line of stdout is its port. Every recipient of an accepted call is one JSON line in PATH, on disk (fsync)
before the reply leaves; a restart remembers them. Refusals come with HTTP 200 and are of the whole call. Receipts go to
--webhook-url in the version of --webhook-version: all of a call together in v2, one a time in v3 and v4; --no-crqid
leaves our reference out.

GET /api/balance.php answers the balance; GET /_stats counts; POST /_faults {"hang": 1, …} changes the misbehaviour.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tests.standins.durable_log import DurableLog
from tests.standins.vendor import Callback, Vendor, fault_arguments, faults_of, run

BALANCE = "4711"
RECEIPTS = {
    "delivered": ("1", "DELIVERED", "delivered", None),
    "failed": ("2", "FAILED", "failed", "900"),
    "ndnc": ("9", "NDNC", "failed", "913"),
    "blocked": ("17", "BLOCKED NUMBER", "failed", "900"),
}
"""(status, desc) of v2 and v3, (event, code) of v4."""
OURS = ("mobiles", "CRQID")


@dataclass
class Msg91(Vendor):
    auth_key: str = ""
    webhook_version: str = "v2"
    crqid: bool = True
    refuse_with: str | None = None
    templates: tuple[str, ...] = ()

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/v5/flow{slash:/?}", self.flow)
        router.add_get("/api/balance.php", self.balance)

    async def balance(self, request: web.Request) -> web.Response:
        if request.query.get("authkey") != self.auth_key:
            return error("207")
        return web.Response(text=BALANCE)

    async def flow(self, request: web.Request) -> web.StreamResponse:
        self.count("calls")
        if request.headers.get("authkey") != self.auth_key:
            said = {"status": "fail", "hasError": True, "errors": "Unauthorized", "code": "401", "apiError": "201"}
            return web.json_response(said, status=401)
        if self.refuse_with is not None:
            return error(self.refuse_with)
        if self.happens(self.faults.reject_429):
            self.count("rejected_429")
            return web.Response(status=429, headers={"Retry-After": "1"})
        order = await request.json()
        wrong = self._wrong_with(order)
        if wrong is not None:
            return error(wrong)
        request_id = f"{self.random.getrandbits(96):024x}"
        texts = [text(each, order, request_id) for each in order["recipients"]]
        await self.keep(texts)
        self._report(texts)
        return await self.answer(request, web.json_response({"type": "success", "message": request_id}))

    def _wrong_with(self, order: dict[str, Any]) -> str | None:
        """Nobody is texted when one recipient is wrong, and nobody is told which."""
        if not order.get("template_id") or (self.templates and order["template_id"] not in self.templates):
            return "template id missing"
        numbers = [str(each.get("mobiles")) for each in order.get("recipients", ())]
        return None if numbers and all(re.fullmatch(r"[0-9]{10,15}", number) for number in numbers) else "202"

    def _report(self, texts: list[dict[str, Any]]) -> None:
        told = [each for each in texts if self.reports()]
        if self.callback_url is None or not told:
            return
        status, description, event, code = RECEIPTS[self.faults.receipts]
        reports = [
            {
                "date": "2026-12-01 14:30:02",
                "number": each["mobiles"],
                "status": status,
                "desc": description,
                "CRQID": each["crqid"] if self.crqid and each["crqid"] else "0",
                "ctCode": code or "900",
                "failedReason": "",
                "INMSID": "0",
            }
            for each in told
        ]
        request_id, sender = texts[0]["request_id"], texts[0]["sender"]
        for callback in self.disorder(self._callbacks(reports, request_id, sender, event, code)):
            self.callbacks.put_nowait(callback)

    def _callbacks(
        self, reports: list[dict[str, str]], request_id: str, sender: str | None, event: str, code: str | None
    ) -> list[Callback]:
        assert self.callback_url is not None
        about = [report["CRQID"] if report["CRQID"] != "0" else None for report in reports]
        if self.webhook_version == "v2":
            data = json.dumps([{"senderId": sender, "requestId": request_id, "report": reports, "userId": "27"}])
            form = urlencode({"data": data}).encode()
            return [Callback(self.callback_url, form, "application/x-www-form-urlencoded", tuple(about))]
        if self.webhook_version == "v3":
            said: list[Any] = [{**report, "requestId": request_id, "senderId": sender} for report in reports]
        else:
            said = []
            for report in reports:
                now = {"meta": report["CRQID"], "ts": int(time.time()), "description": report["desc"], "INMSID": "0"}
                said.append([{"event": event, "data": [now | ({"code": code} if code else {})]}])
        return [
            Callback(self.callback_url, json.dumps(each).encode(), "application/json", (reference,))
            for each, reference in zip(said, about, strict=True)
        ]


def text(recipient: dict[str, Any], order: dict[str, Any], request_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "mobiles": recipient["mobiles"],
        "crqid": recipient.get("CRQID"),
        "template_id": order["template_id"],
        "sender": order.get("sender"),
        "variables": {name: value for name, value in recipient.items() if name not in OURS},
        "at": time.time(),
    }


def error(said: str) -> web.Response:
    return web.json_response({"type": "error", "message": said})


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.standins.msg91", description=__doc__)
    fault_arguments(parser, list(RECEIPTS))
    parser.add_argument("--auth-key", required=True)
    parser.add_argument("--webhook-url")
    parser.add_argument("--webhook-version", choices=("v2", "v3", "v4"), default="v2")
    parser.add_argument("--no-crqid", action="store_true", help="receipts do not name our reference")
    parser.add_argument("--refuse-with", help="every call is refused with this code or message")
    parser.add_argument("--template", action="append", default=[], help="a template that exists; none: all do")
    given = parser.parse_args(arguments)
    vendor = Msg91(
        faults_of(given),
        DurableLog(given.log),
        auth_key=given.auth_key,
        callback_url=given.webhook_url,
        webhook_version=given.webhook_version,
        crqid=not given.no_crqid,
        refuse_with=given.refuse_with,
        templates=tuple(given.template),
    )
    run(vendor, vendor.routes, given.port)


if __name__ == "__main__":
    main(sys.argv[1:])

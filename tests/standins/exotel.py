"""An Exotel-shaped provider as a process: takes texts, keeps them for good, and misbehaves as told.

    python -m tests.standins.exotel --port 0 --log PATH --account-sid … --api-key … --api-token … [misbehaviour]

The first line of stdout is its port. Every accepted text is one JSON line in PATH, on disk (fsync) before its reply
leaves; a restart remembers them. `Sms/send` and `Sms/bulksend` answer XML, with `.json` JSON, and write numbers without
country code; the batch takes the shape of --bulk and refuses the other, and answers in any order with --bulk-chaos, or
without some of its texts. Receipts are forms, posted to the StatusCallback of the text or of the call.

GET /_stats counts; POST /_faults {"hang": 1, …} changes the misbehaviour; POST /_inbound {"from", "to", "body", "url"}
posts an inbound text to `url`.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from aiohttp import web

from tests.standins.durable_log import DurableLog
from tests.standins.vendor import Callback, Vendor, fault_arguments, faults_of, run

MAX_TEXTS = 100
FORM = "application/x-www-form-urlencoded"
RECEIPTS = {
    "delivered": ("sent", "DELIVERED_TO_HANDSET", 20005),
    "undelivered": ("failed", "FAILED_OPERATOR_ERROR", 24110),
}
RECEIPTS["dnd"] = ("failed-dnd", "FAILED_REJECTED_DND", 23005)


@dataclass
class Exotel(Vendor):
    account_sid: str = ""
    api_key: str = ""
    api_token: str = ""
    bulk: str = "json"
    bulk_chaos: bool = False
    accepted_status: int = 200
    refuse_code: str | None = None
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        user = f"{self.api_key}:{self.api_token}".encode()
        self._authorization = "Basic " + base64.b64encode(user).decode()
        self.texts = {line["sid"]: line for line in self.log.earlier}

    def routes(self, router: web.UrlDispatcher) -> None:
        root = "/v1/Accounts/{account}"
        router.add_post(root + r"/Sms/{verb:send|bulksend}{suffix:(\.json)?}", self.handle)
        router.add_get(root + r"/SMS/Messages/{sid:[^.]+}{suffix:(\.json)?}", self.details)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.count("calls")
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.match_info["verb"] == "send":
            return await self._send(request)
        return await self._bulksend(request)

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != self._authorization:
            return self._error(request, 401, "34010", "Invalid auth key or token")
        if request.match_info["account"] != self.account_sid:
            return self._error(request, 403, "34009", "Forbidden")
        if self.refuse_code is not None:
            return self._error(request, 400, self.refuse_code, "Refused as told")
        if request.method == "POST" and self.happens(self.faults.reject_429):
            self.count("rejected_429")
            return self._error(request, 429, "40402", "Too many requests", {"Retry-After": "1"})
        return None

    async def _send(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        wrong = wrong_with(form)
        if wrong is not None:
            return self._error(request, 400, *wrong)
        text = self._text(form)
        await self._keep([text])
        reply = self._reply(request, self.accepted_status, {"SMSMessage": message(text, self.account_sid)})
        return await self.answer(request, reply)

    async def _bulksend(self, request: web.Request) -> web.StreamResponse:
        if self.bulk == "json":
            said = await request.json() if request.content_type == "application/json" else {}
            orders, name = said.get("sms"), "sms"
        else:
            orders, name = messages_of({key: str(value) for key, value in (await request.post()).items()}), "Messages"
        if not orders:
            return self._error(request, 400, "40201", f"'{name}' is a mandatory field")
        if len(orders) > MAX_TEXTS:
            return self._error(request, 400, "40400", "More than 100 messages")
        entries: list[dict[str, Any]] = []
        texts = []
        for order in orders:
            wrong = wrong_with(order)
            if wrong is None:
                texts.append(self._text(order))
                entries.append({"SMSMessage": message(texts[-1], self.account_sid)})
            else:
                entries.append({"RestException": {"Status": 400, "Code": wrong[0], "Message": wrong[1]}})
        if not texts:
            return self._error(request, 400, "40203", "All destination numbers are invalid")
        await self._keep(texts)
        if self.bulk_chaos:
            self.random.shuffle(entries)
            entries = [entry for entry in entries if not self.happens(0.2)]
        if self.bulk == "json":
            shape: Any = {"SMSMessages": [entry.get("SMSMessage", entry) for entry in entries]}
            return await self.answer(request, web.json_response(shape, status=self.accepted_status))
        return await self.answer(request, self._reply(request, 207, entries))

    def _text(self, form: dict[str, str]) -> dict[str, Any]:
        return {
            "sid": f"{self.random.getrandbits(128):032x}",
            "to": form["To"],
            "from": form["From"],
            "body": form["Body"],
            "encoding": form.get("EncodingType"),
            "reference": form.get("CustomField"),
            "status_callback": form.get("StatusCallback"),
            "dlt": [form.get("DltEntityId"), form.get("DltTemplateId"), form.get("SmsType")],
            "at": time.time(),
        }

    async def _keep(self, texts: list[dict[str, Any]]) -> None:
        await self.keep(texts)
        for text in texts:
            self.texts[text["sid"]] = text
            if text["status_callback"] and self.reports():
                status, detailed, number = RECEIPTS[self.faults.receipts]
                steps = [("submitted", "PENDING_ON_OPERATOR", 21020), (status, detailed, number)]
                for step in self.disorder(steps):
                    self.callbacks.put_nowait(receipt(text, *step))

    async def details(self, request: web.Request) -> web.Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        text = self.texts.get(request.match_info["sid"])
        if text is None:
            return self._reply(request, 200, {"Message": "No matching results"})
        return self._reply(request, 200, {"SMSMessage": message(text, self.account_sid)})

    def text_from_person(self, order: dict[str, str]) -> Callback | None:
        url = order.get("url", self.inbound_url)
        form = {"SmsSid": f"in{self.random.getrandbits(64):016x}", "AccountSid": self.account_sid}
        form |= {"From": order["from"], "To": order["to"], "Body": order["body"]}
        return None if url is None else Callback(url, urlencode(form).encode(), FORM)

    def _error(
        self, request: web.Request, status: int, code: str, said: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        reply = self._reply(request, status, {"RestException": {"Status": status, "Code": code, "Message": said}})
        reply.headers.update(headers or {})
        return reply

    def _reply(self, request: web.Request, status: int, said: Any) -> web.Response:
        """JSON where the address asks for it, otherwise XML, as the vendor does."""
        if request.match_info["suffix"] or request.content_type == "application/json":
            return web.json_response(said, status=status)
        entries = said if isinstance(said, list) else [said]
        inner = "".join(_xml(entry) for entry in entries)
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<TwilioResponse>{inner}</TwilioResponse>'
        return web.Response(status=status, body=body.encode(), content_type="application/xml")


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(inner)}</{name}>" for name, inner in value.items())
    return escape("" if value is None else str(value))


def wrong_with(form: dict[str, str]) -> tuple[str, str] | None:
    """The documented refusals of a malformed text."""
    if not form.get("Body"):
        return "40200", "Message body is empty or missing"
    if len(form["Body"]) > 2000:
        return "40202", "Message body is invalid"
    if not form.get("From"):
        return "40210", "'From' is a mandatory field"
    if not re.fullmatch(r"\+?[0-9]{10,15}", form.get("To", "")):
        return "40203", "All destination numbers are invalid"
    if form.get("EncodingType", "plain") not in ("plain", "unicode"):
        return "40209", "EncodingType not set correctly"
    return None


def messages_of(form: dict[str, str]) -> list[dict[str, str]]:
    """`Messages[0][To]=…`: the messages with what the form says for all of them."""
    common = {name: value for name, value in form.items() if not name.startswith("Messages[")}
    messages: dict[int, dict[str, str]] = {}
    for name, value in form.items():
        named = re.fullmatch(r"Messages\[(\d+)\]\[(\w+)\]", name)
        if named is not None:
            messages.setdefault(int(named[1]), dict(common))[named[2]] = value
    return [messages[number] for number in sorted(messages)]


def national(number: str) -> str:
    """As Exotel writes numbers in its replies and callbacks: a zero and the last ten digits."""
    return "0" + number[-10:]


def message(text: dict[str, Any], account_sid: str) -> dict[str, Any]:
    return {
        "Sid": text["sid"],
        "AccountSid": account_sid,
        "From": f"/{text['from']}",
        "To": national(text["to"]),
        "DateCreated": "2026-12-01 14:30:00",
        "DateSent": None,
        "Body": text["body"],
        "Direction": "outbound-api",
        "Uri": f"/v1/Accounts/{account_sid}/SMS/Messages/{text['sid']}",
        "Price": None,
        "Status": "queued",
        "SmsUnits": None,
        "DetailedStatusCode": 21010,
        "DetailedStatus": "PENDING_TO_OPERATOR",
    }


def receipt(text: dict[str, Any], status: str, detailed: str, number: int) -> Callback:
    form = {
        "SmsSid": text["sid"],
        "To": national(text["to"]),
        "Status": status,
        "SmsUnits": "1",
        "DetailedStatus": detailed,
        "DetailedStatusCode": str(number),
        "DateSent": "2026-12-01 14:30:02",
    }
    if text["reference"]:
        form["CustomField"] = text["reference"]
    return Callback(text["status_callback"], urlencode(form).encode(), FORM, (text["reference"],))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.standins.exotel", description=__doc__)
    fault_arguments(parser, list(RECEIPTS))
    parser.add_argument("--account-sid", required=True)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--api-token", required=True)
    parser.add_argument("--bulk", choices=("json", "form"), default="json")
    parser.add_argument("--bulk-chaos", action="store_true", help="batches answered in any order, and not of each text")
    parser.add_argument("--accepted-status", type=int, choices=(200, 202), default=200)
    parser.add_argument("--refuse-code", help="every call is refused with this code")
    given = parser.parse_args(arguments)
    vendor = Exotel(
        faults_of(given),
        DurableLog(given.log),
        account_sid=given.account_sid,
        api_key=given.api_key,
        api_token=given.api_token,
        bulk=given.bulk,
        bulk_chaos=given.bulk_chaos,
        accepted_status=given.accepted_status,
        refuse_code=given.refuse_code,
    )
    run(vendor, vendor.routes, given.port)


if __name__ == "__main__":
    main(sys.argv[1:])

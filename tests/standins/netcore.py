"""A Netcore-shaped provider as a process: SingleMsgApi (form) and JsonSingleApi, replies in XML as far as it is known.

    python -m tests.standins.netcore --port 0 --log PATH [misbehaviour]

Every accepted text is one JSON line in PATH, on disk before its reply leaves. Numbers that end in 11 are refused with
code 7, a wrong password with 3, a text without body with 9: codes of this stand-in, since the vendor's are not
documented well enough.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from xml.sax.saxutils import escape

import msgspec
from aiohttp import web

from tests.standins.durable_log import DurableLog
from tests.standins.vendor import Vendor, fault_arguments, faults_of, run

FEED, USERNAME, PASSWORD = "390000", "9800000000", "p&ss"


class Netcore(Vendor):
    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_route("*", "/BulkSms/SingleMsgApi", self.form)
        router.add_post("/BulkSms/JsonSingleApi", self.json)

    async def form(self, request: web.Request) -> web.StreamResponse:
        given = request.query if request.method == "GET" else await request.post()
        fields = {name: str(value) for name, value in given.items()}
        return await self.send(request, fields, fields.get("To"), fields.get("Text"))

    async def json(self, request: web.Request) -> web.StreamResponse:
        try:
            fields = msgspec.json.decode(await request.read(), type=dict[str, str])
        except msgspec.DecodeError:
            return _error("1", "not readable")
        return await self.send(request, fields, fields.get("mobile"), fields.get("messages"))

    async def send(
        self, request: web.Request, fields: Mapping[str, str], to: str | None, text: str | None
    ) -> web.StreamResponse:
        self.count("calls")
        if (fields.get("feedid"), fields.get("username"), fields.get("password")) != (FEED, USERNAME, PASSWORD):
            return _error("3", "Invalid login")
        if self.happens(self.faults.reject_429):
            return web.Response(status=429)
        if not to or not to.isdigit() or not 10 <= len(to) <= 15 or to.endswith("11"):
            return _error("7", f"Invalid mobile number {to}")
        if not text:
            return _error("9", "No text")
        id = str(self.random.getrandbits(48))
        line = {
            "id": id,
            "to": to,
            "body": text,
            "sender": fields.get("senderid"),
            "template": fields.get("templateid"),
        }
        await self.keep([{**line, "at": time.time()}])
        return await self.answer(request, _xml(f'<RESULT REQID="{id}"><MID SUBMITDATE="" ID="1" TID="1"/></RESULT>'))


def _error(code: str, why: str) -> web.Response:
    return _xml(f"<RESULT><ERROR><CODE>{code}</CODE><DESC>{escape(why)}</DESC></ERROR></RESULT>")


def _xml(body: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="ISO-8859-1"?>{body}', content_type="text/xml")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.standins.netcore", description=__doc__)
    fault_arguments(parser, ())
    given = parser.parse_args(arguments)
    netcore = Netcore(faults_of(given), DurableLog(given.log))
    run(netcore, netcore.routes, given.port)


if __name__ == "__main__":
    main(sys.argv[1:])

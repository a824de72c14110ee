"""Three gateways that a generic provider can be configured for, and a token server, as one process.

    python -m tests.standins.generic --port 0 --log PATH [misbehaviour]

    GET  /http/send?to=&text=&ref=&apikey=     plain text: `OK: <id>` or `ERR <code>: <why>`
    POST /v2/messages                          JSON, Bearer token: {"sender", "messages": [{"to", "text", "ref"}]}
    POST /templates/send                       form, Basic: template, to, vars, ref, and a header X-Route
    POST /oauth/token                          client credentials, Basic or in the body

Every accepted text is one JSON line in PATH, on disk before its reply leaves. Numbers that end in 11 are refused as
unknown, in 12 as opted out. With `--receipts`, callbacks in CleverTap's shape go to `--callback-url`. `POST /_revoke`
ends all tokens; `GET /_stats` counts; `POST /_inbound {"from", "body"}` answers the last text to that number.
`--forget-records 0.1`: one text in ten is missing in the reply to its call.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from tests.standins.durable_log import DurableLog
from tests.standins.vendor import Callback, Vendor, fault_arguments, faults_of, run

API_KEY, USERNAME, PASSWORD = "k3y", "user", "p w"
CLIENT_ID, CLIENT_SECRET = "acme", "s&cret"
LONGEST_TEXT = 1_000
MOST_IN_CALL = 100


@dataclass
class Gateway(Vendor):
    token_seconds: float = 600
    forget_records: float = 0.0
    tokens: dict[str, float] = field(default_factory=dict)
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last one to each number."""

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/http/send", self.http_send)
        router.add_post("/v2/messages", self.json_send)
        router.add_post("/templates/send", self.template_send)
        router.add_post("/oauth/token", self.token)
        router.add_post("/_revoke", self.revoke)

    async def http_send(self, request: web.Request) -> web.StreamResponse:
        self.count("calls")
        query = request.query
        if query.get("apikey") != API_KEY:
            return web.Response(text="ERR 401: wrong key")
        if self.happens(self.faults.reject_429):
            return web.Response(status=429, text="slow down", headers={"Retry-After": "1"})
        code = _wrong(query.get("to"), query.get("text"))
        if code is not None:
            return web.Response(text=f"ERR {code}: no")
        (line,) = await self.take([{"to": query["to"], "body": query["text"], "reference": query.get("ref")}])
        return await self.answer(request, web.Response(text=f"OK: {line['id']}\n"))

    async def json_send(self, request: web.Request) -> web.StreamResponse:
        self.count("calls")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or self.tokens.get(token, 0) < time.monotonic():
            self.count("unauthorized")
            return web.json_response({"error": "token"}, status=401)
        if self.happens(self.faults.reject_429):
            return web.json_response({"error": "limit"}, status=429, headers={"Retry-After": "1"})
        try:
            body = msgspec.json.decode(await request.read())
            messages = body["messages"]
            codes = [_wrong(each["to"], each["text"]) for each in messages]
        except (msgspec.DecodeError, KeyError, TypeError):
            return web.json_response({"error": "shape"}, status=400)
        if not 1 <= len(messages) <= MOST_IN_CALL:
            return web.json_response({"error": "too_many"}, status=400)
        taken = [
            {"to": each["to"], "body": each["text"], "reference": each.get("ref"), "sender": body.get("sender")}
            for each, code in zip(messages, codes, strict=True)
            if code is None
        ]
        ids = iter(await self.take(taken)) if taken else iter(())
        records = [
            {"ref": each.get("ref"), "code": "0", "id": next(ids)["id"]}
            if code is None
            else {"ref": each.get("ref"), "code": code}
            for each, code in zip(messages, codes, strict=True)
        ]
        told = [record for record in records if not self.happens(self.forget_records)]
        self.random.shuffle(told)
        return await self.answer(request, web.json_response({"messages": told}))

    async def template_send(self, request: web.Request) -> web.StreamResponse:
        self.count("calls")
        expected = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != expected:
            return web.json_response({"type": "error", "code": "auth"}, status=401)
        form = dict(await request.post())
        if not form.get("template"):
            return web.json_response({"type": "error", "code": "template"})
        code = _wrong(form.get("to"), "-")
        if code is not None:
            return web.json_response({"type": "error", "code": code})
        line = {
            "to": form["to"],
            "body": "",
            "template": form["template"],
            "variables": str(form.get("vars", "")).split("|"),
            "reference": form.get("ref"),
            "route": request.headers.get("X-Route"),
        }
        (kept,) = await self.take([line])
        return await self.answer(request, web.json_response({"type": "success", "message": kept["id"]}))

    async def take(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Accepted: with an id, and on disk."""
        taken = [{"id": f"g-{self.random.getrandbits(64):016x}", "at": time.time(), **line} for line in lines]
        await self.keep(taken)
        self.texts |= {line["to"]: line for line in taken}
        if self.callback_url is not None:
            for line in self.disorder([line for line in taken if self.reports()]):
                self.callbacks.put_nowait(self.callback(self.callback_url, line, self.faults.receipts))
        return taken

    def text_from_person(self, order: dict[str, str]) -> Callback | None:
        """An answer to the last text to that number, which is how such gateways know whose it is."""
        line, url = self.texts.get(order["from"]), order.get("url", self.callback_url)
        return None if line is None or url is None else self.callback(url, line, "replied", order["body"])

    def callback(self, url: str, line: Mapping[str, Any], event: str, answer: str = "STOP") -> Callback:
        data = {"ts": int(time.time()), "meta": line["reference"], "description": "as told"}
        data |= {"failed": {"code": "904"}, "replied": {"incomingText": answer}, "clicked": {"url": "a.example"}}.get(
            event, {}
        )
        body = msgspec.json.encode([{"event": event, "data": [data]}])
        return Callback(url, body, "application/json", (line["reference"],))

    async def token(self, request: web.Request) -> web.Response:
        self.count("tokens_asked")
        form = dict(await request.post())
        basic = "Basic " + base64.b64encode(b"acme:s%26cret").decode()
        in_body = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if not in_body and request.headers.get("Authorization") != basic:
            return web.json_response({"error": "invalid_client"}, status=401)
        value = f"t-{self.random.getrandbits(64):016x}"
        self.tokens[value] = time.monotonic() + self.token_seconds
        return web.json_response({"access_token": value, "token_type": "bearer", "expires_in": self.token_seconds})

    async def revoke(self, request: web.Request) -> web.Response:
        self.tokens.clear()
        return web.json_response({})


def _wrong(to: object, text: object) -> str | None:
    """A code as such gateways have them."""
    if not isinstance(to, str) or not to.removeprefix("+").isdigit() or to.endswith("11"):
        return "11"
    if to.endswith("12"):
        return "12"
    return None if isinstance(text, str) and 0 < len(text) <= LONGEST_TEXT else "21"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.standins.generic", description=__doc__)
    fault_arguments(parser, ("delivered", "failed", "clicked", "replied"))
    parser.add_argument("--callback-url")
    parser.add_argument("--token-seconds", type=float, default=600)
    parser.add_argument("--forget-records", type=float, default=0.0, metavar="SHARE")
    given = parser.parse_args(arguments)
    gateway = Gateway(
        faults_of(given),
        DurableLog(given.log),
        callback_url=given.callback_url,
        token_seconds=given.token_seconds,
        forget_records=given.forget_records,
    )
    run(gateway, gateway.routes, given.port)


if __name__ == "__main__":
    main(sys.argv[1:])

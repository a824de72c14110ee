"""Whatever is sent as a configuration, as values or as a reply: a list of problems or one result each, never an
exception; and what is accepted as a configuration can be built, sent with, and told to a front end.
"""

from __future__ import annotations

import copy
import json
import random
import string
from typing import Any

from dispatcher.domain.outcomes import SubmitResult
from dispatcher.http_port import HttpResponse
from dispatcher.providers.base import Filled, OutgoingText
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from postrider.contracts.provider_fields import check_kept_credentials, check_provider
from postrider.contracts.what_fields import check_what, what_fields
from tests.standins.scripted_http import ScriptedHttp
from tests.support.batches import all_begun

WHOLE: dict[str, Any] = {
    "url": "https://gw.example/a/$$uid?to=$$To",
    "method": "POST",
    "headers": {"X-K": "$$k", "X-S": "$$key"},
    "json": {
        "hid": "$$hid",
        "tid": "$$TemplateID",
        "msgs": [{"to": "$$To", "t": "$$Body", "v": "$$TemplateVariables"}],
    },
    "batch": {"key": "msgs", "size": 3},
    "auth": {"type": "basic", "username": "u"},
    "secrets": ["key"],
    "campaign_pairs": {"message": True, "header": True, "global": True},
    "variables_joiner": "|",
    "to_format": "digits",
    "reply": {
        "statuses": {"400": "rejected_content"},
        "codes": {"0": "accepted", "7": "rejected_recipient"},
        "error_code": ["/error/code", "ERR *;"],
        "message_id": "/id",
        "records": {"list": "/r", "match": "to", "key": "/to", "message_id": "/id", "error_code": "/c"},
    },
    "receipts": "none",
}
SIMPLE: dict[str, Any] = {"url": "https://gw.example/s", "form": {"to": "$$To", "t": "$$Body", "u": "$$uid"}}
CREDENTIALS = {"password": "p", "secrets": {"key": "k"}}
ODD: list[Any] = [
    None, True, 0, -1, 3, 1.5, 10**30, "", "x", "$$", "$$To", "$$Body $$x", "/a/b", "a*b", "é\n", [], {}, [[]],
    ["$$To"], {"": ""}, {"a": {"b": "$$c"}}, "http://2130706433/", "//", "?", "/..", "\x00", "*",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += places(each, (*path, key))
    return found


def changed(settings: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    made = copy.deepcopy(settings)
    for _ in range(chance.choice([1, 1, 2, 4])):
        *way, last = chance.choice(places(made))
        inside = made
        for step in way:
            inside = inside[step]
        if chance.random() < 0.3 and isinstance(inside, dict):
            inside.pop(last, None)
        else:
            inside[last] = copy.deepcopy(chance.choice(ODD))
        if not made:
            return {}
    return made


def value(chance: random.Random) -> str:
    letters = string.printable + "é✓😀\x00\x85\u2028$$|/.%"
    return "".join(chance.choice(letters) for _ in range(chance.choice([0, 1, 3, 30])))


def text(number: int, chance: random.Random) -> OutgoingText:
    def pairs(*names: str) -> tuple[tuple[str, str], ...]:
        given = [(name, value(chance)) for name in names if chance.random() < 0.9]
        return tuple(given + ([(value(chance), "x")] if chance.random() < 0.1 else []))

    variables = tuple(value(chance) for _ in range(chance.randrange(3)))
    filled = Filled(value(chance), variables, pairs("uid"), pairs("k"), pairs("hid", "uid"))
    return OutgoingText(f"m{number}", 1, f"m{number}.1", f"+1500{number:07}", value(chance), "GSM-7", 1, filled=filled)


def reply(chance: random.Random) -> HttpResponse:
    record = {"to": f"1500{chance.randrange(3):07}", "id": chance.choice(ODD), "c": chance.choice(["0", "7", *ODD])}
    body = chance.choice([{"r": [record, chance.choice(ODD)]}, {"id": "x", "error": {"code": chance.choice(ODD)}}, ODD])
    raw = json.dumps(body).encode() if chance.random() < 0.8 else value(chance).encode()
    return HttpResponse(
        chance.choice([200, 200, 200, 207, 302, 400, 401, 429, 500, 503, 599]), {}, raw[: chance.randrange(400)]
    )


async def test_nothing_raises() -> None:
    chance = random.Random(7)
    good = refused = 0
    for number in range(600):
        settings = WHOLE if number % 2 else SIMPLE
        if number % 8 > 1:
            settings = changed(settings, chance)
        credentials: dict[str, Any] = CREDENTIALS if number % 2 else {}
        if chance.random() < 0.1:
            credentials = changed({"password": "p", "secrets": {"key": "k"}}, chance)
        fields = what_fields("generic", settings)
        assert all(
            problem.message for problem in check_what(fields, changed({"body": "b", "message_pairs": {}}, chance))
        )
        assert all(problem.message for problem in check_kept_credentials("generic", WHOLE, settings))
        problems = check_provider("generic", settings, credentials)
        if problems:
            assert all(problem.pointer.startswith(("/settings", "/credentials")) for problem in problems)
            refused += 1
            continue
        good += 1
        parts = AdapterParts(lambda: ScriptedHttp([reply(chance)]), MemoryInbox(), None)  # type: ignore[arg-type]
        adapter = build_adapter("generic", "prv_1", settings, credentials, parts)
        result = await adapter.submit(text(1, chance))
        assert isinstance(result, SubmitResult)
    assert good > 50 and refused > 300, (good, refused)


async def test_a_batch_always_has_one_result_each() -> None:
    chance = random.Random(8)
    settings = WHOLE | {"url": "https://gw.example/a?h=$$hid", "campaign_pairs": {}}
    assert check_provider("generic", settings, CREDENTIALS) == []
    for _ in range(300):
        http = ScriptedHttp([reply(chance)])
        parts = AdapterParts(lambda http=http: http, MemoryInbox(), None)  # type: ignore[arg-type,misc]
        adapter: Any = build_adapter("generic", "prv_1", settings, CREDENTIALS, parts)
        texts = [text(number, chance) for number in range(3)]
        shared = {"template_id": "t", "header_pairs": (("k", "v"),), "global_pairs": (("hid", "h"),)}
        alike = [
            OutgoingText(each.message_id, 1, each.reference, each.to, each.body or "b", "GSM-7", 1,
                         filled=Filled(**shared, variables=each.filled.variables))  # type: ignore[arg-type]
            for each in texts
        ]  # fmt: skip
        results = all_begun(await adapter.submit_batch(alike))
        assert [isinstance(result, SubmitResult) for result in results] == [True] * 3
        ids = [result.provider_message_id for result in results if result.is_accepted]
        assert len(set(ids)) == len(ids)
        if http.requests:
            assert len(json.loads(http.requests[0].body)["msgs"]) == 3

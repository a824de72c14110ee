"""Netcore (mytoday BulkSMS) as a preset of the generic provider: settings of ours in, a generic configuration out.

Not verified against a live account: the vendor's documentation is thin, so every name of a field and every pattern of
a reply can be set. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postrider.contracts.generic_provider import check_generic, generic_sent_to
from postrider.contracts.problems import Problem, Reader

DEFAULT_BASE_URL = "https://bulkpush.mytoday.com"
PATHS = {"form": "/BulkSms/SingleMsgApi", "json": "/BulkSms/JsonSingleApi"}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "form": {"feed": "feedid", "username": "username", "password": "password", "to": "To", "text": "Text",
             "sender": "senderid", "template": "templateid", "entity": "entityid"},
    "json": {"feed": "feedid", "username": "username", "password": "password", "to": "mobile", "text": "messages",
             "sender": "senderid", "template": "templateid", "entity": "entityid"},
}  # fmt: skip
"""Our word → the vendor's name, by format. `senderid` in the JSON form is [K]."""
REPLY: Mapping[str, Any] = {
    "message_id": ['REQID="*"', "REQID='*'", "<REQID>*</REQID>"],
    "error_code": ["<CODE>*</CODE>", 'CODE="*"'],
}
"""RESULT with REQID, ERROR with CODE and DESC [K]. No code is documented well enough to be mapped: until it is, by
`reply.codes`, it leaves the text in doubt and raises an alarm."""
SECRETS = ("username", "password")
_ID = r"[0-9A-Za-z_-]{1,64}"
_ID_HINT = "1 to 64 letters, digits, - or _"


def check_netcore(settings: Mapping[str, Any], credentials: Mapping[str, Any] | None) -> list[Problem]:
    problems: list[Problem] = []
    _read(settings, problems)
    if not problems:
        # What is left can only be wrong in the reply, or in names of fields.
        problems += [problem for problem in check_generic(generic_of_netcore(settings), None)
                     if problem.pointer != "/settings/url"]  # fmt: skip
    if credentials is not None:
        given = Reader("/credentials", credentials, problems)
        for name in SECRETS:
            given.text(name, pattern=r"[\x20-\x7e]{1,256}", hint="1 to 256 printable characters", required=True)
        given.done("kind netcore")
    return problems


def generic_of_netcore(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The generic configuration that a Netcore provider is. `settings` passed `check_netcore`."""
    return _read(settings, [])


def netcore_sent_to(settings: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    sent_to = generic_sent_to(generic_of_netcore(settings))
    return {name.removeprefix("secrets/"): origins for name, origins in sent_to.items()}


def _read(settings: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    fields = Reader("/settings", settings, problems)
    format_ = fields.choice("format", {"form": "form", "json": "json"}, "form")
    feed = fields.text("feed_id", pattern=_ID, hint=_ID_HINT, required=True)
    sender = fields.text("sender_id", pattern=_ID, hint=_ID_HINT)
    entity = fields.text("entity_id", pattern=_ID, hint=_ID_HINT)
    path = fields.text("path", pattern=r"/[0-9A-Za-z/._-]{1,200}", hint="a path", default=PATHS[format_])
    names = dict(FIELDS[format_])
    for ours, theirs in fields.texts("fields", most=20, longest=64).items():
        if ours not in names or not theirs or "$$" in theirs:
            fields.wrong_in("fields", ours, f"must give one of these a name: {', '.join(names)}")
        names[ours] = theirs
    values = {"feed": feed, "username": "$$username", "password": "$$password", "to": "$$To", "text": "$$Body"}
    if sender:
        values["sender"] = sender
    if entity:
        values |= {"entity": entity, "template": "$$TemplateID"}
    parameters = {names[ours]: value for ours, value in values.items()}
    more = fields.texts("more", most=20, longest=200)
    for name, value in more.items():
        if name in parameters or "$$" in value:
            fields.wrong_in("more", name, "is a field of the preset, or has a placeholder")
    reply = fields.object("reply")
    for shared in ("base_url", "timeout_seconds", "in_doubt_wait_seconds"):
        fields.get(shared)
    fields.done("kind netcore")
    return {
        "base_url": settings.get("base_url") or DEFAULT_BASE_URL,
        "url": path,
        "method": "POST",
        ("form" if format_ == "form" else "json"): {**parameters, **more},
        "to_format": "digits",
        "secrets": list(SECRETS),
        "reply": {**REPLY, **(settings["reply"] if reply is not None else {})},
        "receipts": "none",
    }

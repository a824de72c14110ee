"""MSG91's delivery webhook in its three versions: v2 (a form with `data`), v3 (flat JSON), v4 (CleverTap's shape).

Source: MSG91's help page on delivery reports by webhook. Pure; what a status means is the adapter's table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dispatcher.providers.base import BadWebhook, WebhookRequest
from dispatcher.providers.clevertap_callback import timestamp_of
from dispatcher.providers.replies import json_of

NOT_GIVEN = frozenset({"", "0", "null"})
"""What MSG91 writes where it was given no CRQID, and where a code says nothing."""


@dataclass(frozen=True, slots=True)
class Report:
    """One text's report. v2 and v3 name the call (`request_id`), the `number` and a `status`; v4 only what it calls
    `meta`, and an `event`. `crqid` is our reference where it comes back. `said` and `moment`: of a person's reply."""

    request_id: str | None = None
    number: str | None = None
    status: str = ""
    event: str | None = None
    crqid: str | None = None
    code: str | None = None
    said: str | None = None
    moment: int = 0


def reports_of(request: WebhookRequest) -> list[Report]:
    """In their order. Raises BadWebhook when it is none of the three, or when one lacks what is mandatory."""
    return list(_reports(_body(request)))


def _body(request: WebhookRequest) -> Any:
    """JSON whatever the content type says; otherwise the form."""
    value = json_of(request.raw_body)
    if value is not None:
        return value
    try:
        raw = urlsplit(request.url).query if request.method == "GET" else request.raw_body.decode()
        form = parse_qs(raw, keep_blank_values=True, max_num_fields=200)
    except ValueError as error:
        raise BadWebhook("the callback cannot be read") from error
    return {name: values[0] for name, values in form.items()}


def _reports(body: Any) -> Iterator[Report]:
    if isinstance(body, dict) and "data" in body:
        data = json_of(body["data"]) if isinstance(body["data"], str) else body["data"]
        for call in _objects(data, "data"):
            for each in _objects(call.get("report"), "report"):
                yield _flat(each, call)
    elif isinstance(body, list):
        for event in _objects(body, "the body"):
            for each in _objects(event.get("data"), "data"):
                yield _event(event, each)
    elif isinstance(body, dict):
        yield _flat(body, body)
    else:
        raise BadWebhook("neither v2, v3 nor v4")


def _flat(report: dict[str, Any], call: dict[str, Any]) -> Report:
    request_id, number = _text(call, "requestId"), re.sub(r"[^0-9]", "", _text(report, "number"))
    status = _text(report, "status")
    if not request_id or not number or not status:
        raise BadWebhook("requestId, number and status are mandatory")
    return Report(request_id, number, status, crqid=_given(report, "CRQID"), code=_given(report, "ctCode"))


def _event(event: dict[str, Any], data: dict[str, Any]) -> Report:
    name, meta = _text(event, "event"), _text(data, "meta")
    if not name or not meta or not _text(data, "ts"):
        raise BadWebhook("event, ts and meta are mandatory")
    said = data.get("incomingText")
    return Report(
        event=name.lower(),
        crqid=_given(data, "meta"),
        code=_given(data, "code"),
        said=said if isinstance(said, str) else None,
        moment=timestamp_of(data.get("ts")) or 0,
    )


def _objects(value: object, what: str) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadWebhook(f"{what} is not a list of objects")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _given(values: dict[str, Any], name: str) -> str | None:
    text = _text(values, name)
    return None if text in NOT_GIVEN else text

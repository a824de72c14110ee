"""The callback in CleverTap's shape, which generic providers post, and MSG91's webhook v4 too.

    [{"event": "delivered", "data": [{"ts": 1435322805, "meta": "<$$MessageID>", "description": "…"}]}]

Source: CleverTap's page "Generic SMS", section "SMS Callbacks". A callback names a text by `meta`, which is our own
reference, and never by an id of the vendor's. It is not signed: the secret in the URL is all that vouches for it.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from dispatcher.providers.base import OPTED_IN, BadWebhook, Keyword, Receipt
from dispatcher.providers.keywords import keyword_of

SUPPRESSING = frozenset({"901", "903", "913"})
"""DND registry, opted out or blacklisted, NDNC registry."""
NEVER_LEFT = frozenset({"904", "906", "907", "908", "919"})
"""Terminal, and the text never left: the vendor's own system failed, or India's registry does not know this vendor's
sender, entity or template. What operator or subscriber refused (902, 905, 909, 910, 912, 914, 915, 920), what expired
(916, 917), what was dropped as a repeat (918) and what is not said (900) may have left, or holds everywhere."""

MANDATORY: Mapping[str, tuple[str, ...]] = {
    "delivered": ("description",),
    "failed": ("code", "description"),
    "clicked": ("url",),
    "replied": ("incomingText",),
}
"""By event, besides `ts` and `meta`."""
_KEYWORDS: tuple[Keyword, ...] = ("stop", "start", "help")
MOST_READ = 512
"""Characters of a reply that count."""
ACCEPTED_REPLY = b'{"status":"success","message":"Callback processed successfully"}'


def receipts_of(raw_body: bytes) -> list[Receipt]:
    """In their order. Raises BadWebhook when a mandatory key is missing; unknown keys are ignored.

    A repeat is equal in (meta, event, ts, url) and makes a receipt of the same key, which is kept once.
    """
    try:
        body = msgspec.json.decode(raw_body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadWebhook("expected JSON") from error
    return [_receipt(event, data) for event, data in _items(body)]


def said_of(code: str) -> Keyword | None:
    """The keyword of a reply, by the code of its receipt."""
    word, colon, moment = code.partition(":")
    for keyword in _KEYWORDS:
        if colon and word == keyword and moment.isdigit():
            return keyword
    return None


def _items(body: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(body, list):
        raise BadWebhook("expected an array of events")
    for each in body:
        event = each.get("event") if isinstance(each, dict) else None
        data = each.get("data") if isinstance(each, dict) else None
        if not isinstance(event, str) or not event or not isinstance(data, list):
            raise BadWebhook("event and data are mandatory")
        for item in data:
            if not isinstance(item, dict):
                raise BadWebhook("data is an array of objects")
            yield event, item


def _receipt(event: str, data: Mapping[str, Any]) -> Receipt:
    moment, meta = timestamp_of(data.get("ts")), data.get("meta")
    if moment is None or not isinstance(meta, str) or not meta:
        raise BadWebhook("ts and meta are mandatory")
    for name in MANDATORY.get(event, ()):
        value = data.get(name)
        if not (isinstance(value, str) or (name == "code" and isinstance(value, int))):
            raise BadWebhook(f"{name} is mandatory for {event}")
    match event:
        case "delivered":
            return Receipt(meta, "delivered", event, reference=meta)
        case "failed":
            code = str(data["code"])[:16]
            return Receipt(
                meta,
                "undelivered",
                event,
                code=code,
                definitely_not_sent=code in NEVER_LEFT,
                reference=meta,
                suppress="provider_opt_out" if code in SUPPRESSING else None,
            )
        case "clicked":
            # Filters of carriers open links too, before the phone has the text.
            return Receipt(meta, "sent", event, reference=meta)
        case "replied":
            return reply_of(meta, moment, data["incomingText"])
    return Receipt(meta, "unknown", event[:32], reference=meta)


def reply_of(meta: str, moment: int, incoming: str) -> Receipt:
    """A person's answer to the text. With the moment as its code, a word is another receipt each time it is said, and a
    repeat of it is none."""
    keyword = keyword_of(incoming[:MOST_READ])
    return Receipt(
        meta,
        "delivered",
        "replied",
        code=f"{keyword}:{moment}"[:19] if keyword is not None else None,
        reference=meta,
        suppress={"stop": "opted_out", "start": OPTED_IN}.get(keyword or ""),
    )


def timestamp_of(value: object) -> int | None:
    """Unix seconds; some vendors write them as text, or as milliseconds."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 13:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**13 else None

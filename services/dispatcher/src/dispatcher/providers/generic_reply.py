"""What a generic provider's reply says of each text of a call, by the rules of its configuration. Pure.

The defaults of the outcome table are here; codes and further statuses are the configuration's. What no rule knows is in
doubt, with an alarm.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.http_port import HttpResponse
from dispatcher.providers.base import OutgoingText
from dispatcher.providers.replies import json_of, retry_after
from postrider.contracts.generic_reply import ALWAYS_IN_DOUBT, Place, Places, Records, ReplyRules

STATUSES: Mapping[int, str] = {
    401: "rejected_provider",  # credentials
    402: "rejected_provider",  # balance
    403: "rejected_provider",  # account, or our address
    404: "rejected_provider",  # the URL is wrong
    405: "rejected_provider",  # the method is wrong
    413: "rejected_content",  # too long, as are
    414: "rejected_content",  # a text in a query
    431: "rejected_content",  # or in a header
    429: "rejected_later",
    500: "in_doubt",
    502: "in_doubt",
    503: "in_doubt",  # rejected_later with a Retry-After
    504: "in_doubt",
}
"""What an HTTP status says when the configuration says nothing else. A 2xx is accepted; any other is in doubt."""

OUTCOMES: Mapping[str, Outcome] = {
    "accepted": Outcome.ACCEPTED,
    "rejected_recipient": Outcome.REJECTED_RECIPIENT,
    "opted_out": Outcome.REJECTED_RECIPIENT,
    "rejected_content": Outcome.REJECTED_CONTENT,
    "rejected_provider": Outcome.REJECTED_PROVIDER,
    "rejected_later": Outcome.REJECTED_LATER,
    "in_doubt": Outcome.IN_DOUBT,
}
MOST_SEARCHED = 65_536
_ID = re.compile(r"[\x21-\x7e]{1,160}")
_NOTHING_SAID = SubmitResult(Outcome.IN_DOUBT, code="not_in_reply", unknown_code=True)


def classify(
    rules: ReplyRules, response: HttpResponse, texts: Sequence[OutgoingText], sent_to: Sequence[str]
) -> list[SubmitResult]:
    """One result for each text of the call, in their order. `sent_to`: the numbers as they were written."""
    reply = _Reply(response.body)
    call = _verdict(rules, response, reply.value(rules.error_code), reply.value(rules.message_id), rules.message_id)
    if rules.records is not None and 200 <= response.status < 300:
        return _by_record(rules, rules.records, response, reply, texts, sent_to, call)
    return [_with_id(call, text, number if len(texts) > 1 else None) for number, text in enumerate(texts, 1)]


def _by_record(
    rules: ReplyRules, records: Records, response: HttpResponse, reply: _Reply, texts: Sequence[OutgoingText],
    sent_to: Sequence[str], call: SubmitResult,
) -> list[SubmitResult]:  # fmt: skip
    """Each text by its record. A refusal of the whole call comes without records, and counts for all."""
    found = next((array for place in records.array if isinstance(array := reply.at(place), list)), None)
    if found is None:
        return [call if call.is_definite_rejection else replace(_NOTHING_SAID, code=call.code or "no_records")] * len(
            texts
        )
    verdicts = [
        _verdict(
            rules, response, _scalar_at(each, records.error_code), _scalar_at(each, records.message_id),
            records.message_id,
        )
        for each in found
    ]  # fmt: skip
    if records.match == "position":
        if len(found) != len(texts):
            return [_NOTHING_SAID] * len(texts)
        matched: list[SubmitResult] = verdicts
    else:
        keys = [text.reference for text in texts] if records.match == "reference" else [_digits(to) for to in sent_to]
        said: defaultdict[str, list[SubmitResult]] = defaultdict(list)
        for each, verdict in zip(found, verdicts, strict=True):
            key = _scalar_at(each, records.key) or ""
            said[key if records.match == "reference" else _digits(key)].append(verdict)
        wanted, before = Counter(keys), Counter[str]()
        matched = []
        for key in keys:
            matched.append(_only(said[key], wanted[key], before[key]))
            before[key] += 1
    ids = Counter(result.provider_message_id for result in matched)
    return [
        _with_id(result, text, number if ids[result.provider_message_id] > 1 else None)
        for number, (result, text) in enumerate(zip(matched, texts, strict=True), 1)
    ]


def _only(said: Sequence[SubmitResult], wanted: int, nth: int) -> SubmitResult:
    """Of several records for one key: as many as texts that have it, and all of one outcome, or nobody knows which is
    whose."""
    if len(said) != wanted or len({result.outcome for result in said}) != 1:
        return _NOTHING_SAID
    return said[nth]


def _verdict(
    rules: ReplyRules, response: HttpResponse, code: str | None, message_id: str | None, id_places: Places
) -> SubmitResult:
    """By the code if there is one, else by the status. An accepted text without id has none yet: "-"."""
    status = response.status
    word = None if code is None else rules.codes.get(code)
    if status in ALWAYS_IN_DOUBT:
        return SubmitResult(Outcome.IN_DOUBT, code=f"http_{status}" if code is None else _fit_for_logs(code))
    if code is not None and word is None and status != 429:
        return SubmitResult(Outcome.IN_DOUBT, code=_fit_for_logs(code), unknown_code=True)
    is_success = 200 <= status < 300
    by_status = rules.statuses.get(status) or STATUSES.get(status) or ("accepted" if is_success else None)
    if status == 503 and "retry-after" in response.headers:
        by_status = "rejected_later"
    word = word or by_status
    shown = f"http_{status}" if code is None else _fit_for_logs(code)
    if word is None:
        return SubmitResult(Outcome.IN_DOUBT, code=shown, unknown_code=True)
    outcome = OUTCOMES[word]
    if outcome is Outcome.ACCEPTED:
        if not is_success or (id_places and (message_id is None or not _ID.fullmatch(message_id))):
            return SubmitResult(Outcome.IN_DOUBT, code=shown, detail="accepted without an id", unknown_code=True)
        return SubmitResult(outcome, provider_message_id=message_id if id_places else "-")
    return SubmitResult(
        outcome,
        code=shown,
        retry_after_seconds=retry_after(response.headers) if outcome is Outcome.REJECTED_LATER else None,
        suppress="provider_opt_out" if word == "opted_out" else None,
    )


def _fit_for_logs(code: str) -> str:
    """A code that is in no table may be anything, a sentence with a number in it too."""
    is_code = re.fullmatch(r"[0-9A-Za-z_.:-]{1,64}", code) and not re.search(r"[0-9]{7}", code)
    return code if is_code else "unreadable_code"


def _with_id(result: SubmitResult, text: OutgoingText, number: int | None) -> SubmitResult:
    """The id a text is known by: no two have the same. One that the vendor gave to a whole call gets the number of the
    text in it; where there is none, it is our own reference, by which receipts name the text anyway."""
    given = result.provider_message_id
    if given is None:
        return result
    if given == "-":
        return replace(result, provider_message_id=text.reference)
    return result if number is None else replace(result, provider_message_id=f"{given}/{number}")


class _Reply:
    """The body, read as JSON and as text, each only when a place asks for it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._json: Any = _NOTHING_READ
        self._text: str | None = None

    def at(self, place: Place) -> Any:
        if self._json is _NOTHING_READ:
            self._json = json_of(self._body)
        return _at(self._json, place.steps)

    def value(self, places: Places) -> str | None:
        for place in places:
            found = self._between(place) if place.around is not None else _scalar(self.at(place))
            if found:
                return found
        return None

    def _between(self, place: Place) -> str | None:
        assert place.around is not None
        if self._text is None:
            self._text = self._body[:MOST_SEARCHED].decode("utf-8", "replace")
        before, after = place.around
        start = self._text.find(before)
        if start < 0:
            return None
        start += len(before)
        end = self._text.find(after, start) if after else len(self._text)
        return self._text[start:end].strip() if end >= 0 else None


_NOTHING_READ = object()


def _at(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 6:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def _scalar_at(value: Any, places: Places) -> str | None:
    return next((found for place in places if (found := _scalar(_at(value, place.steps)))), None)


def _scalar(value: Any) -> str | None:
    """Texts, numbers and truth values as text; nothing for the empty text, null, lists and objects."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value).strip() or None
    return None


def _digits(number: str) -> str:
    return re.sub(r"[^0-9]", "", number)

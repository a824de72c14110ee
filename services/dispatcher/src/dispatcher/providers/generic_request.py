"""Requests of a generic provider: its configuration with a text's values in the places of the placeholders.

Pure. A value is encoded by where it stands (URL, form, JSON, header) and never makes structure: no path, parameter,
line, key or second request comes out of one. What cannot be expressed is refused before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import Struct

from dispatcher.providers.base import OutgoingText
from postrider.contracts.generic_provider import HEADER_TEXT, NOT_OF_CAMPAIGNS, TOKEN, GenericConfig
from postrider.contracts.placeholders import CLASSES, NAME, SYSTEM, PairClass, Slot, pieces
from postrider.sms.filled import NOTHING_FILLED

Template = tuple[str | Slot, ...]
_VARIABLES = (Slot("TemplateVariables"),)
_NO_PAIRS: Mapping[PairClass, Mapping[str, str]] = {where: {} for where in CLASSES}
_UNRESERVED = re.compile(r"[0-9A-Za-z_.~-]*")


class CannotFill(Exception):
    """The text does not fit the configuration. `code` is a constant word, fit for logs."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Request(Struct, frozen=True):
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Built(Struct, frozen=True):
    """`request` None: none of the texts can be sent. `refused`: code by the place of the text in the call."""

    request: Request | None
    refused: Mapping[int, str]


class _Values(Struct, frozen=True):
    """What one text puts into the places. Pairs are looked up by the class of the place a placeholder stands in."""

    system: Mapping[str, str]
    variables: tuple[str, ...]
    pairs: Mapping[PairClass, Mapping[str, str]]
    secrets: Mapping[str, str]
    joiner: str

    def of(self, slot: Slot, where: PairClass) -> str:
        name = slot.name
        if name == "TemplateVariables":
            if any(self.joiner in each for each in self.variables):
                raise CannotFill("joiner_in_variable")
            return self.joiner.join(self.variables)
        if name in SYSTEM:
            value = self.system[name]
        elif name in self.secrets:
            return self.secrets[name]
        else:
            value = self.pairs[where].get(name, "")
        if not value:
            raise CannotFill(f"missing_{name}"[:64])
        return value


class RequestTemplate:
    """A configuration taken apart once, because `build` is on the way of each text."""

    def __init__(self, config: GenericConfig, secrets: Mapping[str, str]) -> None:
        self.config = config
        self._secrets = {name: secrets[name] for name in config.secrets}
        base, mark, query = config.url.partition("?")
        path = pieces(base)
        self._path = path if any(isinstance(piece, Slot) for piece in path) else None
        self._base, self._query = base, pieces(query) if mark else None
        self._form = [(name, pieces(value)) for name, value in config.form]
        self._headers = [(name, pieces(value)) for name, value in config.headers]
        self._header_names = {name.lower() for name, _ in config.headers}
        self._parameter_names = {name for name, _ in config.form} | {
            part.partition("=")[0] for part in query.split("&") if part
        }
        self._element = _compile(config.element) if config.is_json else None
        self._frame = _compile(config.frame) if config.batch is not None else None
        self._predefined = {where: frozenset(config.pairs(where)) for where in CLASSES}
        self._url_class: PairClass = "message" if config.batch is None else "global"

    def build(self, texts: Sequence[OutgoingText]) -> Built:
        """One request for texts of one batch key, without those that do not fit the configuration."""
        refused: dict[int, str] = {}
        filled: list[tuple[_Values, Any]] = []
        for place, text in enumerate(texts):
            values = self._values(text)
            try:
                filled.append((values, self._record(values) if self._element is not None else None))
            except CannotFill as error:
                refused[place] = error.code
        if not filled:
            return Built(None, refused)
        try:
            return Built(self._request(filled[0][0], [record for _, record in filled]), refused)
        except (CannotFill, UnicodeEncodeError) as error:
            code = error.code if isinstance(error, CannotFill) else "not_unicode"
            return Built(None, {place: refused.get(place, code) for place in range(len(texts))})

    def _request(self, values: _Values, records: Sequence[Any]) -> Request:
        """`values`: of any of the texts, since outside their records they are alike."""
        url = self._url(values)
        headers = self._filled_headers(values)
        body, content_type = self._body(values, records)
        if content_type is not None and "content-type" not in self._header_names:
            headers["Content-Type"] = content_type
        return Request(self.config.method, url, headers, body)

    def _values(self, text: OutgoingText) -> _Values:
        filled = text.filled
        return _Values(
            {
                "To": text.to if self.config.to_format == "e164" else text.to.removeprefix("+"),
                "Body": text.body,
                "TemplateID": filled.template_id or "",
                "CampaignID": text.campaign_id,
                "MessageID": text.reference,
            },
            filled.variables,
            _NO_PAIRS
            if filled is NOTHING_FILLED
            else {
                "message": dict(filled.message_pairs),
                "header": dict(filled.header_pairs),
                "global": dict(filled.global_pairs),
            },
            self._secrets,
            self.config.joiner,
        )

    def _own(self, values: _Values, where: PairClass) -> list[tuple[str, str]]:
        """Pairs that the campaign added, under names of their own. Where the configuration has no place for them (it
        was edited since the campaign was saved) they are left out."""
        if not values.pairs[where] or where not in self.config.own_pairs:
            return []
        added = [pair for pair in values.pairs[where].items() if pair[0] not in self._predefined[where]]
        if not all(re.fullmatch(TOKEN if where == "header" else NAME, name) for name, _ in added):
            raise CannotFill("pair_name")
        return added

    def _url(self, values: _Values) -> str:
        path = self._base
        if self._path is not None:
            path = _fill(self._path, values, self._url_class, _step)
            if not {".", ".."}.isdisjoint(path.split("/")):
                raise CannotFill("path_step")
        parts = [] if self._query is None else [_fill(self._query, values, self._url_class, _encode)]
        if self.config.method == "GET":
            parts += self._pairs(values, _encode)
        query = "&".join(part for part in parts if part)
        return f"{path}?{query}" if query else path

    def _pairs(self, values: _Values, encode: Callable[[str], str]) -> list[str]:
        """The form, and what the campaign adds to it."""
        pairs = [(name, _fill(template, values, "message", encode)) for name, template in self._form]
        for name, value in self._own(values, "message"):
            if name in self._parameter_names:
                raise CannotFill("pair_taken")
            pairs.append((name, encode(value)))
        return [f"{encode(name)}={value}" for name, value in pairs]

    def _filled_headers(self, values: _Values) -> dict[str, str]:
        headers = {name: _fill(template, values, "header", _same) for name, template in self._headers}
        for name, value in self._own(values, "header"):
            if name.lower() in self._header_names | NOT_OF_CAMPAIGNS:
                raise CannotFill("pair_taken")
            headers[name] = value
        if not all(re.fullmatch(HEADER_TEXT, value) for value in headers.values()):
            raise CannotFill("header_value")
        return headers

    def _body(self, values: _Values, records: Sequence[Any]) -> tuple[bytes, str | None]:
        if self.config.method == "GET":
            return b"", None
        if not self.config.is_json:
            return "&".join(self._pairs(values, quote_plus)).encode(), "application/x-www-form-urlencoded"
        document = records[0]
        if self.config.batch is not None:
            assert self._frame is not None
            document = self._frame(values, "global")
            for name, value in self._own(values, "global"):
                if name in self.config.document:
                    raise CannotFill("pair_taken")
                document[name] = value
            document[self.config.batch.key] = records
        return msgspec.json.encode(document), "application/json"

    def _record(self, values: _Values) -> Any:
        """The element of one text: a copy of the template, filled."""
        assert self._element is not None
        record = self._element(values, "message")
        for name, value in self._own(values, "message"):
            if not isinstance(record, dict) or name in record:
                raise CannotFill("pair_taken")
            record[name] = value
        return record


def _fill(template: Template, values: _Values, where: PairClass, encode: Callable[[str], str]) -> str:
    return "".join([piece if isinstance(piece, str) else encode(values.of(piece, where)) for piece in template])


def _same(value: str) -> str:
    return value


def _encode(value: str) -> str:
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="")


def _step(value: str) -> str:
    """Inside one step of a path: an empty one would be another path."""
    if not value:
        raise CannotFill("path_step")
    return _encode(value)


def _compile(document: Any) -> Callable[[_Values, PairClass], Any]:
    """The document as a function that makes a copy of it with values."""
    if isinstance(document, dict):
        members = [(key, _compile(value)) for key, value in document.items()]
        return lambda values, where: {key: make(values, where) for key, make in members}
    if isinstance(document, list):
        items = [_compile(value) for value in document]
        return lambda values, where: [make(values, where) for make in items]
    template = pieces(document) if isinstance(document, str) else ()
    if template == _VARIABLES:
        return lambda values, where: list(values.variables)
    if any(isinstance(piece, Slot) for piece in template):
        return lambda values, where: _fill(template, values, where, _same)
    return lambda values, where: document

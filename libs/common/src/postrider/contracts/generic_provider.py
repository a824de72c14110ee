"""The configuration of a generic HTTP provider: what it may hold, every rule about it, and its reading.

Pure. docs/providers.md is the guide for people; the dispatcher builds requests from `GenericConfig` and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from postrider.contracts.generic_reply import ReplyRules, read_reply
from postrider.contracts.placeholders import (
    CLASSES,
    NAME,
    PER_PERSON,
    SYSTEM,
    PairClass,
    names_in,
    names_in_document,
)
from postrider.contracts.problems import Problem, Reader
from postrider.contracts.urls import origin_of, wrong_with_url

MAX_BATCH = 1_000
"""The most that any vendor is known to take; the setting of a provider is its own cap below it."""
MAX_DOCUMENT_BYTES, MAX_DEPTH = 32_768, 20
MAX_CUSTOM = 50

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}"
HEADER_TEXT = r"[\t\x20-\x7e]*"
RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
     "accept-encoding", "proxy-authorization", "proxy-connection", "cookie"}
)  # fmt: skip
"""What the HTTP client alone decides: with these a request could become two."""
NOT_OF_CAMPAIGNS = RESERVED_HEADERS | {"authorization", "content-type"}
_SECRET = r"[\x20-\x7e]{1,2000}"


@dataclass(frozen=True, slots=True)
class Auth:
    """`extra`: further key-values of the token request."""

    type: Literal["none", "basic", "oauth2"] = "none"
    username: str = ""
    token_url: str = ""
    client_id: str = ""
    client_auth: Literal["basic", "body"] = "basic"
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """`key`: of the top-level array whose one element is the template of a text. `size`: most texts in a call."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class GenericConfig:
    """A configuration that passed. `url` is whole; `document` is the JSON of a POST, otherwise None.

    `own_pairs`: classes of pairs of which a campaign may add its own. `secrets`: names whose values are credentials.
    """

    url: str
    method: Literal["GET", "POST"]
    form: tuple[tuple[str, str], ...]
    document: Any
    headers: tuple[tuple[str, str], ...]
    auth: Auth
    batch: Batch | None
    own_pairs: frozenset[PairClass]
    joiner: str
    to_format: Literal["e164", "digits"]
    secrets: tuple[str, ...]
    reply: ReplyRules
    receipts: Literal["clevertap", "none"]

    @property
    def is_json(self) -> bool:
        return self.document is not None

    @property
    def element(self) -> Any:
        """The template of one text: the array's element, or the whole document."""
        return self.document[self.batch.key][0] if self.batch is not None else self.document

    @property
    def frame(self) -> dict[str, Any]:
        """Of a batch, the document without its array."""
        assert self.batch is not None
        return {key: value for key, value in self.document.items() if key != self.batch.key}

    def names(self, where: PairClass) -> tuple[str, ...]:
        """All placeholders that stand in a place of the class table, in their order."""
        shared = [*names_in(self.url)]
        if where == "header":
            return _unique(name for _, value in self.headers for name in names_in(value))
        if self.batch is not None:
            inside = names_in_document(self.element)
            return _unique(inside if where == "message" else [*shared, *names_in_document(self.frame)])
        if where == "global":
            return ()
        parameters = [name for _, value in self.form for name in names_in(value)]
        return _unique([*shared, *parameters, *names_in_document(self.document)])

    def has(self, system: str) -> bool:
        return any(system in self.names(where) for where in CLASSES)

    def pairs(self, where: PairClass) -> tuple[str, ...]:
        """Names of the predefined pairs of a class: a campaign gives each a value."""
        return tuple(name for name in self.names(where) if name not in SYSTEM and name not in self.secrets)


def check_generic(settings: Mapping[str, Any], credentials: Mapping[str, Any] | None) -> list[Problem]:
    """Everything wrong with it. `credentials` None: those stored are kept and not looked at."""
    problems: list[Problem] = []
    config = _read(settings, problems)
    if credentials is not None:
        _check_credentials(config.auth.type, config.secrets, credentials, problems)
    return problems


def generic_sent_to(settings: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Of each credential that the settings need, the origins that get it. A token goes to the API, and is as good as
    the client's secret for as long as it lives."""
    config = read_generic(settings)
    auth, api = config.auth, origin_of(config.url)
    sent: dict[str, frozenset[str]] = {}
    if auth.type == "basic":
        sent["password"] = frozenset({api})
    if auth.type == "oauth2":
        sent["client_secret"] = frozenset({f"token for {api}", origin_of(auth.token_url)})
    in_extra = {name for _, value in auth.extra for name in names_in(value)}
    for name in config.secrets:
        sent[f"secrets/{name}"] = frozenset({api} | ({origin_of(auth.token_url)} if name in in_extra else set()))
    return sent


def read_generic(settings: Mapping[str, Any]) -> GenericConfig:
    """As far as it can be read; whole when the settings passed `check_generic`."""
    return _read(settings, [])


def _read(settings: Mapping[str, Any], problems: list[Problem]) -> GenericConfig:
    fields = Reader("/settings", settings, problems)
    url = _url(fields)
    method = fields.choice("method", {"GET": "GET", "POST": "POST"}, "POST")
    form = tuple(fields.texts("form", most=100, longest=2_000).items())
    document = _document(fields)
    content_type = fields.choice(
        "content_type",
        {"form": "form", "json": "json", "application/x-www-form-urlencoded": "form", "application/json": "json"},
        "form" if document is None else "json",
    )
    if content_type == "json" and document is None and fields.get("json") is None:
        fields.wrong("json", "is required with content_type json")
    if content_type == "form" and document is not None:
        fields.wrong("json", "not with content_type form")
    if document is not None and form:
        fields.wrong("form", "either form or json")
    if document is not None and method == "GET":
        fields.wrong("method", "a JSON document is sent by POST")
    secrets = _secrets(fields)
    headers = tuple(fields.texts("headers", most=50, longest=2_000).items())
    config = GenericConfig(
        url=url,
        method=method,  # type: ignore[arg-type]
        form=form,
        document=document,
        headers=headers,
        auth=_auth(fields.object("auth"), secrets),
        batch=_batch(fields, document),
        own_pairs=_own_pairs(fields.object("campaign_pairs")),
        joiner=fields.text(
            "variables_joiner", pattern=r"[\x20-\x7e]{1,8}", hint="1 to 8 printable characters", default="|"
        ),
        to_format=fields.choice("to_format", {"e164": "e164", "digits": "digits"}, "e164"),  # type: ignore[arg-type]
        secrets=secrets,
        reply=ReplyRules(),
        receipts=fields.choice("receipts", {"clevertap": "clevertap", "none": "none"}, "none"),  # type: ignore[arg-type]
    )
    reply = read_reply(
        fields.object("reply"), batching=config.batch is not None, has_reference="MessageID" in config.names("message")
    )
    _check_headers(fields, config)
    if not any(problem.pointer in ("/settings/url", "/settings/json", "/settings/form") for problem in problems):
        _check_names(fields, config)
    for shared in ("base_url", "timeout_seconds", "in_doubt_wait_seconds"):
        fields.get(shared)  # the table of fields has checked them
    fields.done("kind generic")
    return replace(config, reply=reply)


def _url(fields: Reader) -> str:
    """A path is of `base_url`. No placeholder may choose where the request goes."""
    value = fields.get("url", required=True)
    if value is None:
        return ""
    if not isinstance(value, str):
        fields.wrong("url", "must be text")
        return ""
    base = fields.get("base_url")
    if value.startswith("/"):
        if not isinstance(base, str):
            fields.wrong("url", "a path needs base_url")
            return ""
        value = base.rstrip("/") + value
    wrong = wrong_with_url(value, query=True)
    if "$$" in value.split("?", 1)[0].split("//", 1)[-1].split("/", 1)[0]:
        wrong = "a placeholder cannot stand in the host"
    elif wrong is None:
        names = [name for name, _ in parse_qsl(urlsplit(value).query, keep_blank_values=True)]
        if any(names_in(name) for name in names):
            wrong = "a placeholder cannot stand in the name of a parameter"
    if wrong is not None:
        fields.wrong("url", wrong)
        return ""
    return value


def _document(fields: Reader) -> Any:
    value = fields.get("json")
    if value is None:
        return None
    if not isinstance(value, (dict, list)):
        fields.wrong("json", "must be the document itself, an object or a list")
        return None
    why = _wrong_document(value)
    if why is None and len(json.dumps(value)) > MAX_DOCUMENT_BYTES:
        why = f"is longer than {MAX_DOCUMENT_BYTES} bytes"
    if why is not None:
        fields.wrong("json", why)
        return None
    return value


def _wrong_document(value: Any, depth: int = 0) -> str | None:
    if depth > MAX_DEPTH:
        return f"is deeper than {MAX_DEPTH}"
    if isinstance(value, dict):
        if any(names_in(str(key)) for key in value):
            return "a placeholder cannot stand in a name"
        return next((why for each in value.values() if (why := _wrong_document(each, depth + 1))), None)
    if isinstance(value, list):
        return next((why for each in value if (why := _wrong_document(each, depth + 1))), None)
    return None


def _batch(fields: Reader, document: Any) -> Batch | None:
    given = fields.object("batch")
    if given is None:
        return None
    key = given.text("key", pattern=r"[^\x00-\x1f]{1,64}", hint="the name of an array", required=True)
    size = given.integer("size", 1, MAX_BATCH, required=True)
    given.done("batch")
    if document is None:
        fields.wrong("batch", "needs a JSON document")
        return None
    array = document.get(key) if isinstance(document, dict) else None
    if not isinstance(array, list) or len(array) != 1:
        given.wrong("key", "must name an array of the document with exactly one element, the template of a text")
        return None
    return Batch(key, size)


def _auth(given: Reader | None, secrets: tuple[str, ...]) -> Auth:
    if given is None:
        return Auth()
    type_ = given.choice("type", {"none": "none", "basic": "basic", "oauth2": "oauth2"}, "none")
    auth = Auth()
    if type_ == "basic":
        hint = "1 to 256 printable characters without colons"
        pattern = r"[\x20-\x39\x3b-\x7e]{1,256}"
        auth = Auth("basic", given.text("username", pattern=pattern, hint=hint, required=True))
    elif type_ == "oauth2":
        token_url = given.get("token_url", required=True)
        wrong = wrong_with_url(token_url, query=True) if isinstance(token_url, str) else "must be a URL"
        if token_url is not None and wrong is not None:
            given.wrong("token_url", wrong)
        elif token_url is not None and names_in(token_url):
            given.wrong("token_url", "cannot have placeholders")
        extra = given.texts("extra", most=20, longest=1_000)
        for name, value in extra.items():
            if any(each not in secrets for each in names_in(value)):
                given.wrong_in("extra", name, "only placeholders of secrets")
            if name in ("grant_type", "client_id", "client_secret") or names_in(name):
                given.wrong_in("extra", name, "is filled in by itself")
        auth = Auth(
            "oauth2",
            token_url=str(token_url),
            client_id=given.text("client_id", pattern=_SECRET, hint="printable characters", required=True),
            client_auth=given.choice("client_auth", {"basic": "basic", "body": "body"}, "basic"),  # type: ignore[arg-type]
            extra=tuple(extra.items()),
        )
    given.done(f"auth of type {type_}")
    return auth


def _own_pairs(given: Reader | None) -> frozenset[PairClass]:
    if given is None:
        return frozenset()
    found = frozenset(each for each in CLASSES if given.flag(each))
    given.done("campaign_pairs")
    return found


def _secrets(fields: Reader) -> tuple[str, ...]:
    value = fields.get("secrets")
    if value is None:
        return ()
    names = value if isinstance(value, list) and len(value) <= MAX_CUSTOM else [None]
    if not all(isinstance(name, str) and re.fullmatch(NAME, name) and name not in SYSTEM for name in names):
        fields.wrong("secrets", f"must be a list of up to {MAX_CUSTOM} names of placeholders of your own, without $$")
        return ()
    return tuple(names)


def _check_headers(fields: Reader, config: GenericConfig) -> None:
    seen: set[str] = set()
    for name, value in config.headers:
        lower = name.lower()
        if not re.fullmatch(TOKEN, name):
            fields.wrong_in("headers", name, "is no name of a header")
        elif lower in RESERVED_HEADERS:
            fields.wrong_in("headers", name, "is set by the HTTP client")
        elif lower == "authorization" and config.auth.type != "none":
            fields.wrong_in("headers", name, "is set by auth")
        elif lower in seen:
            fields.wrong_in("headers", name, "is there twice")
        elif not re.fullmatch(HEADER_TEXT, value):
            fields.wrong_in("headers", name, "must be printable ASCII on one line")
        seen.add(lower)
    for name, _ in config.form:
        if names_in(name) or not name:
            fields.wrong_in("form", name, "a placeholder cannot stand in a name" if name else "must have a name")


def _check_names(fields: Reader, config: GenericConfig) -> None:
    """The rules of the placeholders, by where they stand (the class table)."""
    places = {where: config.names(where) for where in CLASSES}
    everywhere = _unique(name for names in places.values() for name in names)
    where = "json" if config.is_json else "form" if config.form else "url"
    if "To" not in everywhere:
        lower = [name for name in everywhere if name.lower() == "to"]
        hint = f" ($${lower[0]} is another name: case matters)" if lower else ""
        fields.wrong(where, f"$$To is required{hint}")
    if "Body" not in everywhere and "TemplateID" not in everywhere:
        fields.wrong(where, "one of $$Body and $$TemplateID is required")
    if config.batch is not None:
        if "To" in everywhere and "To" not in places["message"]:
            fields.wrong(where, f"$$To must stand in the element of {config.batch.key}: each text has its own")
        for place, names in (("url", names_in(config.url)), ("headers", places["header"]),
                             ("json", names_in_document(config.frame))):  # fmt: skip
            for name in _unique(names):
                if name in PER_PERSON:
                    fields.wrong(place, f"$${name} outside the batched array: a call is for several people")
    elif "global" in config.own_pairs:
        fields.wrong("campaign_pairs", "global pairs are for batches: there is no batch")
    if "message" in config.own_pairs and config.is_json and not isinstance(config.element, dict):
        fields.wrong("campaign_pairs", "message pairs of a campaign need an object to stand in")
    if config.receipts == "clevertap" and "MessageID" not in everywhere:
        fields.wrong("receipts", "needs $$MessageID in the configuration: receipts name their text by it")
    custom = [name for name in everywhere if name not in SYSTEM]
    if len(custom) > MAX_CUSTOM or any(not re.fullmatch(NAME, name) for name in custom):
        fields.wrong(where, f"at most {MAX_CUSTOM} placeholders of your own, each of up to 64 letters, digits and _")


def _check_credentials(
    auth: str, secrets: Iterable[str], credentials: Mapping[str, Any], problems: list[Problem]
) -> None:
    given = Reader("/credentials", credentials, problems)
    hint = "1 to 2000 printable characters on one line"
    if auth == "basic":
        given.text("password", pattern=_SECRET, hint=hint, required=True)
    if auth == "oauth2":
        given.text("client_secret", pattern=_SECRET, hint=hint, required=True)
    values = given.object("secrets", required=bool(tuple(secrets)))
    if values is not None:
        for name in secrets:
            values.text(name, pattern=_SECRET, hint=hint, required=True)
        values.done("settings.secrets")
    given.done(f"credentials with auth {auth}")


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))

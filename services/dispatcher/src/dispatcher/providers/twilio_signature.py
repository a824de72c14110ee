"""Twilio's webhook signature (X-Twilio-Signature), both ways: the adapter checks it, the stand-in makes it.

Source: Twilio's "Webhooks security" page and its SDKs' request validators, whose behaviour is followed where the page
is silent: every distinct value of a repeated parameter is covered, sorted; the URL counts with and without its port.
Pure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit, urlunsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def sign(auth_token: str, url: str, parameters: Iterable[tuple[str, str]] = ()) -> str:
    """base64(HMAC-SHA1(auth token, URL + every form key and value, sorted by key and value))."""
    text = url + "".join(name + value for name, value in sorted(set(parameters)))
    digest = hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def is_signed(auth_token: str, url: str, parameters: Iterable[tuple[str, str]], signature: str) -> bool:
    """Constant time in the signature; tries the URL as given, without port, and with the scheme's own port."""
    pairs = list(parameters)
    given = signature.encode()
    matches = [hmac.compare_digest(sign(auth_token, form, pairs).encode(), given) for form in url_forms(url)]
    return any(matches)


def body_is_covered(url: str, raw_body: bytes) -> bool:
    """A body that is no form is covered by `bodySHA256` in the (signed) URL."""
    wanted = parse_qs(urlsplit(url).query).get("bodySHA256", [""])[0]
    return hmac.compare_digest(hashlib.sha256(raw_body).hexdigest().encode(), wanted.lower().encode())


def url_forms(url: str) -> list[str]:
    """The URL as given and its spellings without and with a port, each once. Raises ValueError for no URL."""
    parts = urlsplit(url)
    if parts.hostname is None:
        raise ValueError("no host")
    user, at, place = parts.netloc.rpartition("@")
    host = place if parts.port is None else place[: place.rindex(":")]
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    forms = [url]
    for netloc in (f"{user}{at}{host}", f"{user}{at}{host}:{port}"):
        form = urlunsplit(parts._replace(netloc=netloc))
        if form not in forms:
            forms.append(form)
    return forms

"""Twilio's webhook signature: the vendor's own example, and every way of not being it."""

from __future__ import annotations

import pytest

from dispatcher.providers.twilio_signature import is_signed, sign, url_forms

# The example of Twilio's "Webhooks security" page.
TOKEN = "12345"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
]
SIGNATURE = "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def test_the_vendors_example() -> None:
    assert sign(TOKEN, URL, FORM) == SIGNATURE
    assert sign(TOKEN, URL, list(reversed(FORM))) == SIGNATURE
    assert is_signed(TOKEN, URL, FORM, SIGNATURE)


@pytest.mark.parametrize(
    ("token", "url", "form", "signature"),
    [
        ("12346", URL, FORM, SIGNATURE),
        (TOKEN, URL + "&x=1", FORM, SIGNATURE),
        (TOKEN, URL.replace("https", "http"), FORM, SIGNATURE),
        (TOKEN, URL, FORM[:-1], SIGNATURE),
        (TOKEN, URL, [*FORM, ("Extra", "1")], SIGNATURE),
        (TOKEN, URL, FORM, SIGNATURE[:-1]),
        (TOKEN, URL, FORM, ""),
        (TOKEN, URL, FORM, "ümlaut"),
    ],
)
def test_anything_else_is_refused(token: str, url: str, form: list[tuple[str, str]], signature: str) -> None:
    assert not is_signed(token, url, form, signature)


@pytest.mark.parametrize(
    ("signed", "received"),
    [
        ("https://a.example/r?x=1", "https://a.example:443/r?x=1"),
        ("https://a.example:443/r?x=1", "https://a.example/r?x=1"),
        ("http://a.example:80/r", "http://a.example/r"),
        ("http://a.example:8081/r", "http://a.example:8081/r"),
        ("https://a.example/r", "https://a.example:8443/r"),
        ("https://u:p@a.example/r", "https://u:p@a.example:443/r"),
        ("http://[2001:db8::1]/r", "http://[2001:db8::1]:80/r"),
    ],
)
def test_the_port_may_be_there_or_not(signed: str, received: str) -> None:
    assert is_signed(TOKEN, received, FORM, sign(TOKEN, signed, FORM))


def test_each_value_of_a_repeated_parameter_is_covered() -> None:
    """As the vendor's SDKs do it: every distinct value, sorted; an equal one counts once."""
    twice = [*FORM, ("MediaUrl", "b"), ("MediaUrl", "a")]
    signature = sign(TOKEN, URL, twice)
    assert is_signed(TOKEN, URL, [*FORM, ("MediaUrl", "a"), ("MediaUrl", "b"), ("MediaUrl", "a")], signature)
    assert not is_signed(TOKEN, URL, [*FORM, ("MediaUrl", "a")], signature)


def test_a_url_that_is_none() -> None:
    with pytest.raises(ValueError, match="no host"):
        url_forms("nonsense")

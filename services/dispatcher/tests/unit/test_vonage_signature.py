"""Vonage's signatures against the vendor's own code, and every way of not being one.

The signatures below were made by the vendor's Python SDKs from the parameters beside them: the HMACs by
`vonage_http_client.auth.Auth(signature_secret=SECRET, signature_method=method).sign_params(parameters)` of
vonage-http-client 1.5.2 (vonage 4.9.1), and the same by `nexmo.Client(…).signature(parameters)` of nexmo 2.5.2; MD5 of
text and secret, which the newer SDK has no more, by nexmo 2.5.2 without a signature method. Their `check_signature`
takes each in capitals too.
"""

from __future__ import annotations

import pytest

from dispatcher.providers.vonage_signature import is_signed, sign

SECRET = "d6f1R8k9Sw3cZtQ0"
RECEIPT = {
    "msisdn": "447700900000",
    "to": "Acme & Co = x",
    "network-code": "12345",
    "messageId": "0A0000001234567B",
    "price": "0.03330000",
    "status": "delivered",
    "scts": "2612010905",
    "err-code": "0",
    "api-key": "abcd1234",
    "client-ref": "0f" * 16 + ".1",
    "message-timestamp": "2026-12-01 09:05:00",
    "timestamp": "1796115900",
    "nonce": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
}
INBOUND = {
    "msisdn": "447700900001",
    "to": "447700900000",
    "messageId": "0A0000000123ABCD",
    "text": "Désolé & a=b → 😀\nstop",
    "type": "unicode",
    "keyword": "DÉSOLÉ",
    "api-key": "abcd1234",
    "message-timestamp": "2026-12-01 09:05:00",
    "timestamp": "1796115900",
    "nonce": "x",
    "empty": "",
}
BY_THE_SDKS = [
    (RECEIPT, "md5hash", "4fc17414fa8f69676b1d518c053b1905"),
    (RECEIPT, "md5", "1d3165259a3afdb6a9ada3595add938b"),
    (RECEIPT, "sha1", "863f8ead7ff5c6ecfeb7bf974f62a2b825ef5f4a"),
    (RECEIPT, "sha256", "aa9dbd1f586a05aa32325188cacb7c0dde79b5a1eb5af95a68f81b31d4b88127"),
    (
        RECEIPT,
        "sha512",
        "308f02d39196f35dedbc4b119f429d865bf4910c3a20f01718e81ab65fbf3c8556b88e120c36f3af59634daab367bc8ba846b8d1b19c"
        "c71110c64d7b1ada5990",
    ),
    (INBOUND, "md5hash", "cba5f1383da18b85f30ac21c228089d3"),
    (INBOUND, "md5", "5d893b61157a747ff11b81144456d6fa"),
    (INBOUND, "sha1", "263be6bbcdf174236ab6cda2b2d1520b0fbe0367"),
    (INBOUND, "sha256", "235a00d31f8ef8f2744269011bbd8957bc37d2e3df7226b2ef0e4a8111e08759"),
    (
        INBOUND,
        "sha512",
        "0f64df8055c69c050833ad11d7a2ab4c0d296c63d214694adada469f07cc63b79215db4e462f9d50e641c0c192d6aa73929e8448ea3b"
        "3f2d1261c876e723516a",
    ),
]
METHODS = ["md5hash", "md5", "sha1", "sha256", "sha512"]


@pytest.mark.parametrize(("parameters", "method", "signature"), BY_THE_SDKS)
def test_as_the_vendors_sdks_sign(parameters: dict[str, str], method: str, signature: str) -> None:
    assert sign(method, SECRET, parameters) == signature
    assert sign(method, SECRET, dict(reversed(parameters.items())) | {"sig": "not part of it"}) == signature
    assert is_signed(method, SECRET, {**parameters, "sig": signature})
    assert is_signed(method, SECRET, {**parameters, "sig": signature.upper()})


def test_the_example_of_the_sdks_own_tests() -> None:
    parameters = {"a": "1", "b": "2", "timestamp": "1461605396"}
    assert sign("md5hash", "secret", parameters) == "6af838ef94998832dbfc29020b564830"


@pytest.mark.parametrize(("parameters", "method", "signature"), BY_THE_SDKS)
def test_anything_else_is_refused(parameters: dict[str, str], method: str, signature: str) -> None:
    signed = {**parameters, "sig": signature}
    assert not is_signed(method, SECRET + "x", signed)
    assert not is_signed(method, SECRET, signed | {"messageId": "0A0000001234567C"})
    assert not is_signed(method, SECRET, signed | {"extra": ""})
    assert not is_signed(method, SECRET, {name: value for name, value in signed.items() if name != "nonce"})
    for wrong in ("", signature[:-1], signature + "0", "ümlaut", " " + signature):
        assert not is_signed(method, SECRET, {**parameters, "sig": wrong})
    assert not is_signed(method, SECRET, parameters)


@pytest.mark.parametrize("method", METHODS)
def test_the_method_is_pinned(method: str) -> None:
    """A signature by another method, a weaker one above all, is none."""
    for other in METHODS:
        signed = {**RECEIPT, "sig": sign(other, SECRET, RECEIPT)}
        assert is_signed(method, SECRET, signed) == (other == method)

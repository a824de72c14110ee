"""Vonage's signatures, both ways: the adapter signs requests and checks callbacks, the stand-in does the reverse.

Source: Vonage's "Signing messages" page and its Python SDKs, which agree: every parameter but `sig`, sorted by name, as
`&name=value`, with `&` and `=` in values replaced by `_`; either MD5 of that text and the secret (`md5hash`) or an HMAC
of it under the secret, in hex. The vendor writes some of them in capitals: letters are compared without their case.
Pure.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

SIGNATURE = "sig"
_MEANS_SOMETHING_ELSEWHERE = str.maketrans("&=", "__")


def sign(method: str, secret: str, parameters: Mapping[str, str]) -> str:
    """In small letters, as the vendor's SDKs send it. `method`: md5hash, or the hash of the HMAC."""
    signed = "".join(
        f"&{name}={parameters[name].translate(_MEANS_SOMETHING_ELSEWHERE)}"
        for name in sorted(parameters)
        if name != SIGNATURE
    )
    if method == "md5hash":
        return hashlib.md5((signed + secret).encode()).hexdigest()
    return hmac.new(secret.encode(), signed.encode(), method).hexdigest()


def is_signed(method: str, secret: str, parameters: Mapping[str, str]) -> bool:
    """`parameters` with the signature among them. Constant time in it. Raises ValueError for what is no text."""
    given = parameters.get(SIGNATURE, "").lower()
    return hmac.compare_digest(sign(method, secret, parameters).encode(), given.encode())

"""Counts the parts of a text exactly as a phone network cuts it. Decides nothing about sending.

Sources: 3GPP TS 23.038 §6.2.1 (GSM 7 bit default alphabet and its extension table) and TS 23.040 §9.2.3.24.1
(concatenation: a six-octet user data header leaves 153 septets or 67 UCS-2 units a part).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Encoding = Literal["GSM-7", "UCS-2"]

GSM7_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""One septet each. The escape position (0x1B) is no character: a body that holds U+001B needs UCS-2."""

GSM7_EXTENSION: Final = "\f^{}\\[~]|€"
"""Two septets each, an escape and a code, never split across parts."""

_LIMITS: Final[dict[Encoding, tuple[int, int]]] = {"GSM-7": (160, 153), "UCS-2": (70, 67)}
_OUTSIDE_GSM7: Final = re.compile(f"[^{re.escape(GSM7_BASIC + GSM7_EXTENSION)}]")
_GSM7_PAIRS: Final = re.compile(f"[{re.escape(GSM7_EXTENSION)}]")
_UCS2_PAIRS: Final = re.compile("[\U00010000-\U0010ffff]")
_UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")

_TYPOGRAPHIC: Final = {
    ord(old): new
    for olds, new in (
        ("“”„‟«»″", '"'),
        ("‘’‚‛‹›′`´", "'"),
        ("‐‑‒–—―−", "-"),
        ("…", "..."),
        ("•·", "*"),
        ("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
        ("\u2028\u2029\u0085", "\n"),
        ("\t", " "),
        ("\u00ad\u200b\u2060\ufeff", ""),
    )
    for old in olds
}


class UnsendableText(ValueError):
    """The text holds U+0000 or a lone surrogate: no network can carry it, so it has no encoding and no parts."""

    def __init__(self, index: int, code_point: int) -> None:
        super().__init__(f"character {index + 1} (U+{code_point:04X}) cannot be sent in a text message")
        self.index = index
        self.code_point = code_point


@dataclass(frozen=True, slots=True)
class Encoded:
    """How a body travels. `units` are septets (GSM-7, escapes counted) or UTF-16 code units (UCS-2) in all parts
    together; `forcing` are the characters outside GSM-7, each once, in order of first appearance."""

    encoding: Encoding
    parts: int
    units: int
    forcing: tuple[str, ...]


def analyse(body: str) -> Encoded:
    """Encoding, parts and forcing characters of `body`. An empty body has no part.

    Raises UnsendableText for U+0000 and lone surrogates.
    """
    if _OUTSIDE_GSM7.search(body) is None:
        return Encoded("GSM-7", *_count(body, "GSM-7", _GSM7_PAIRS), ())
    if unsendable := _UNSENDABLE.search(body):
        raise UnsendableText(unsendable.start(), ord(unsendable.group()))
    return Encoded("UCS-2", *_count(body, "UCS-2", _UCS2_PAIRS), tuple(dict.fromkeys(_OUTSIDE_GSM7.findall(body))))


def transliterate(body: str) -> str:
    """Replace typographic characters (curly quotes, dashes, ellipsis, special spaces, soft hyphen) by plain ones that
    GSM-7 has. Letters, accents and emoji stay: changing those would change what is said."""
    if _OUTSIDE_GSM7.search(body) is None:
        return body
    return body.translate(_TYPOGRAPHIC)


def _count(body: str, encoding: Encoding, pairs: re.Pattern[str]) -> tuple[int, int]:
    """Parts and units; a character that matches `pairs` takes two units, which stay in one part."""
    single, concatenated = _LIMITS[encoding]
    doubles = [match.start() for match in pairs.finditer(body)]
    units = len(body) + len(doubles)
    if units <= single:
        return (1 if units else 0), units
    # Each pair that would straddle a boundary leaves the last unit of its part empty and moves on whole.
    wasted = 0
    for already, index in enumerate(doubles):
        if (index + already + wasted) % concatenated == concatenated - 1:
            wasted += 1
    return -(-(units + wasted) // concatenated), units

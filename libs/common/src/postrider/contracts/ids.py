"""Names of things: resource ids, and the id of a message, which is its send key.

Must not read a clock that matters: ids carry time only so that they sort by creation.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

PREFIXES = {
    "provider": "prv_",
    "provider_group": "grp_",
    "segment": "seg_",
    "user_list": "lst_",
    "campaign": "cmp_",
    "run": "run_",
    "api_key": "key_",
    "message": "msg_",
}


def new_id(kind: str) -> str:
    """A new id of a resource: prefix, 48 bits of milliseconds, 80 random bits (ULID), in Crockford's base 32."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return PREFIXES[kind] + _base32(number, 26)


def run_id(campaign_id: str, occurrence: str) -> str:
    """The id of a run follows from what it runs: two schedulers that create it agree."""
    digest = hashlib.sha256(f"{campaign_id}\n{occurrence}".encode()).digest()
    return PREFIXES["run"] + _base32(int.from_bytes(digest[:16], "big"), 26)


@lru_cache(maxsize=16_384)
def message_id(campaign_id: str, occurrence: str, user_id: str) -> str:
    """The send key (campaign, occurrence, user), never an instant, an attempt or a version, as 32 hex digits: eight of
    the run and 24 of the text, so that texts of one run are neighbours in every index, however many others there are.

    The event store computes the same in SQL, so that people who were never expanded have rows in the message log.
    """
    return _of_run(campaign_id, occurrence) + former_message_id(campaign_id, occurrence, user_id)[:24]


@lru_cache(maxsize=1_024)
def _of_run(campaign_id: str, occurrence: str) -> str:
    return hashlib.sha256(f"{campaign_id}\n{occurrence}".encode()).hexdigest()[:8]


def former_message_id(campaign_id: str, occurrence: str, user_id: str) -> str:
    """What versions before named the same text."""
    return hashlib.sha256(f"{campaign_id}\n{occurrence}\n{user_id}".encode()).hexdigest()[:32]


def _base32(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))

"""API keys: `prefix_id_secret`. Stored as a hash; scopes say what a key may do.

The secret has 256 random bits, so one SHA-256 is enough: there is nothing a slow hash would slow down.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from postrider.contracts.ids import PREFIXES, new_id

SCOPES: Final = ("admin", "campaigns:write", "campaigns:read", "events:write", "providers:write")
_IMPLIED: Final = {"campaigns:write": ("campaigns:read",), "providers:write": ("campaigns:read",)}
_PRESENTED: Final = re.compile(PREFIXES["api_key"] + r"(?P<id>[0-9a-z]{26})_(?P<secret>[0-9A-Za-z_-]{43})")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the key's id (never its secret) and everything it may do."""

    key_id: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        return "admin" in self.scopes or scope in self.scopes


@dataclass(frozen=True, slots=True)
class StoredKey:
    id: str
    secret_hash: bytes
    scopes: tuple[str, ...]
    expires_at: datetime | None


def all_scopes(given: Iterable[str]) -> frozenset[str]:
    """The scopes given and what they imply: who may write campaigns or providers may read."""
    scopes = set(given)
    for scope in tuple(scopes):
        scopes.update(_IMPLIED.get(scope, ()))
    return frozenset(scopes)


def new_key() -> tuple[str, str]:
    """(id, the whole key as the user gets to see it once)."""
    id = new_id("api_key")
    return id, f"{id}_{secrets.token_urlsafe(32)}"


def split_key(presented: str) -> tuple[str, bytes] | None:
    """(id, hash of the secret), or None when this is no key of ours."""
    match = _PRESENTED.fullmatch(presented)
    if match is None:
        return None
    return PREFIXES["api_key"] + match["id"], hash_secret(match["secret"])


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def is_valid(stored: StoredKey, secret_hash: bytes, now: datetime) -> bool:
    """Compared in constant time."""
    fits = hmac.compare_digest(stored.secret_hash, secret_hash)
    return fits and (stored.expires_at is None or now < stored.expires_at)

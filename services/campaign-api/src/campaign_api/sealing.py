"""Seals provider credentials to the dispatcher's public key. The API cannot open them again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from nacl.public import PublicKey, SealedBox

from postrider.sealing import key_name


class Sealer:
    def __init__(self, public_key: bytes) -> None:
        self._box = SealedBox(PublicKey(public_key))
        self.key_name = key_name(public_key)

    def seal(self, credentials: Mapping[str, Any]) -> str:
        """Base64 of a libsodium sealed box around the JSON of the credentials."""
        return base64.b64encode(self._box.encrypt(msgspec.json.encode(dict(credentials)))).decode()

"""Opens sealed credentials with the keys of this dispatcher, the current one and during a rotation the one before it,
and seals anew what was sealed to the latter. The only place that holds private keys; nothing opened is kept or logged.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from postrider.sealing import key_name


class Unsealable(Exception):
    """Sealed to another key, or not sealed at all. Carries no value."""


@dataclass(frozen=True, slots=True)
class Opened:
    credentials: dict[str, Any]
    is_current: bool


class Keys:
    """`private_keys`: 32 bytes each, the current one first."""

    def __init__(self, private_keys: Sequence[bytes]) -> None:
        keys = [PrivateKey(key) for key in private_keys]
        self._boxes = [SealedBox(key) for key in keys]
        self._to_current = SealedBox(keys[0].public_key)
        self.current = key_name(bytes(keys[0].public_key))

    def open(self, sealed: str) -> Opened:
        """Raises Unsealable."""
        plain, is_current = self._decrypt(sealed)
        try:
            credentials = msgspec.json.decode(plain)
        except msgspec.DecodeError as error:
            raise Unsealable("credentials are no JSON") from error
        if not isinstance(credentials, dict):
            raise Unsealable("credentials are no object")
        return Opened(credentials, is_current)

    def reseal(self, sealed: str) -> str:
        """The same, sealed to the current key. Raises Unsealable."""
        plain, _ = self._decrypt(sealed)
        return base64.b64encode(self._to_current.encrypt(plain)).decode()

    def _decrypt(self, sealed: str) -> tuple[bytes, bool]:
        try:
            box = base64.b64decode(sealed, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Unsealable("credentials are not sealed") from error
        for place, each in enumerate(self._boxes):
            try:
                return each.decrypt(box), place == 0
            except (CryptoError, ValueError, TypeError):
                continue
        raise Unsealable("credentials cannot be opened with this key")

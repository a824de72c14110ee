"""Sealed credentials: opened with the current key or the one before it, sealed anew to the current, and never told."""

from __future__ import annotations

import base64
import os
from typing import Any

import msgspec
import pytest
from nacl.public import PrivateKey, SealedBox

from dispatcher.sealed import Keys, Unsealable
from dispatcher.settings import Settings
from postrider.sealing import key_name

SECRET = {"auth_token": "marker-of-a-secret"}


def sealed(key: bytes, value: object = SECRET) -> str:
    box = SealedBox(PrivateKey(key).public_key)
    return base64.b64encode(box.encrypt(msgspec.json.encode(value))).decode()


def test_two_keys_open_and_one_seals() -> None:
    new, old, older = os.urandom(32), os.urandom(32), os.urandom(32)
    keys = Keys([new, old])
    assert keys.current == key_name(bytes(PrivateKey(new).public_key))
    opened = keys.open(sealed(new))
    assert (opened.credentials, opened.is_current) == (SECRET, True)
    opened = keys.open(sealed(old))
    assert (opened.credentials, opened.is_current) == (SECRET, False)
    again = keys.reseal(sealed(old))
    assert Keys([new]).open(again).credentials == SECRET
    with pytest.raises(Unsealable):
        Keys([old]).open(again)
    for refused in (sealed(older), "", "not base64", base64.b64encode(b"short").decode()):
        for way in (keys.open, keys.reseal):
            with pytest.raises(Unsealable) as error:
                way(refused)
            assert "marker" not in str(error.value)


@pytest.mark.parametrize("value", [[], "text", None])
def test_what_is_sealed_must_be_an_object(value: object) -> None:
    key = os.urandom(32)
    with pytest.raises(Unsealable):
        Keys([key]).open(sealed(key, value))


def test_the_settings_take_none_or_a_key() -> None:
    key, before = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))

    def settings(**more: str) -> Settings:
        given: dict[str, Any] = {
            "KAFKA_BOOTSTRAP_SERVERS": "b:1", "DATABASE_URL": "postgresql://o:p@h/d",
            "POSTRIDER_SERVICE_TOKEN": "t" * 16, "POSTRIDER_PHONE_HASH_KEY": "00" * 16,
            "POSTRIDER_SEALING_PRIVATE_KEY": key,
        }  # fmt: skip
        return Settings(**(given | more))

    assert len(settings().sealing_keys) == 1
    assert len(settings(POSTRIDER_SEALING_PREVIOUS_PRIVATE_KEY="").sealing_keys) == 1
    both = settings(POSTRIDER_SEALING_PREVIOUS_PRIVATE_KEY=before)
    assert both.sealing_keys == [base64.b64decode(key), base64.b64decode(before)]
    assert before not in repr(both)
    for wrong in ("nonsense", base64.b64encode(b"short").decode()):
        with pytest.raises(ValueError, match="SEALING_PREVIOUS"):
            settings(POSTRIDER_SEALING_PREVIOUS_PRIVATE_KEY=wrong)
    with pytest.raises(ValueError, match="SEALING_PRIVATE"):
        settings(POSTRIDER_SEALING_PRIVATE_KEY="")

"""How a sealing key is called: by a name made of its public half. Pure."""

from __future__ import annotations

import hashlib


def key_name(public_key: bytes) -> str:
    return hashlib.sha256(b"postrider sealing key " + public_key).hexdigest()[:16]

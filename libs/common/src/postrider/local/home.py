"""POSTRIDER_HOME: the launcher's data, logs and secrets, and the lock that gives it to one launcher at a time.

Nothing of a running suite is written anywhere else (Maven's own cache apart).
"""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from nacl.public import PrivateKey

from postrider.local.child import birth_mark
from postrider.local.errors import HomeInUse, LocalError


def workspace() -> Path:
    """The repository's root, found from this file: the launcher runs from a checkout, never from an installed wheel."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "deploy" / "local" / "pom.xml").is_file():
            return folder
    raise LocalError("the launcher needs a checkout of Postrider (deploy/local/pom.xml was not found above its code)")


def home_from(env: Mapping[str, str]) -> Path:
    """POSTRIDER_HOME, or `.local` in the repository; absolute."""
    given = env.get("POSTRIDER_HOME")
    return Path(given).expanduser().resolve() if given else workspace() / ".local"


@dataclass(frozen=True)
class Home:
    """The folders of one POSTRIDER_HOME."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def pids(self) -> Path:
        return self.path / "pids"

    @property
    def run_file(self) -> Path:
        """What runs at this moment: `{name: {"pid": …, "port": …}}`, rewritten at every start and restart."""
        return self.path / "run.json"

    def create(self) -> None:
        for folder in (self.path, self.logs, self.pids):
            folder.mkdir(parents=True, exist_ok=True)


class HomeLock:
    """Exclusive use of a home for as long as this process lives (flock: the kernel drops it at any death)."""

    def __init__(self, home: Home) -> None:
        self._path = home.path / "lock"
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().partition(" ")[0] or "unknown"
            file.close()
            raise HomeInUse(
                f"{self._path.parent} is in use by another launcher (pid {owner}): "
                "stop it (make stop), or set POSTRIDER_HOME to another directory"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} {birth_mark(os.getpid())}")
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def lock_owner(home: Home) -> int | None:
    """The pid of the live launcher that owns this home, if any."""
    path = home.path / "lock"
    if not path.exists():
        return None
    with path.open("r", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, birth = file.read().partition(" ")
            return int(pid) if pid and birth_mark(int(pid)) == birth else None
    return None


def load_secrets(home: Home) -> dict[str, str]:
    """The generated secrets of this home by the name of their variable; made at the first call and kept (0600)."""
    path = home.path / "secrets.json"
    if path.exists():
        kept: dict[str, str] = json.loads(path.read_text("ascii"))
        return kept
    sealing = PrivateKey.generate()
    made = {
        "POSTRIDER_POSTGRES_PASSWORD": secrets.token_hex(16),
        "POSTRIDER_SERVICE_TOKEN": secrets.token_hex(24),
        "POSTRIDER_SEALING_PRIVATE_KEY": base64.b64encode(bytes(sealing)).decode("ascii"),
        "POSTRIDER_SEALING_PUBLIC_KEY": base64.b64encode(bytes(sealing.public_key)).decode("ascii"),
        "POSTRIDER_PHONE_HASH_KEY": secrets.token_hex(32),
        "POSTRIDER_DEDUP_KEY": secrets.token_hex(16),
    }
    home.path.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        json.dump(made, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return made

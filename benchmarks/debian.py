"""Programs of Debian's packages that benchmarks run beside us, unpacked into `.local/debian`: nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(".local/debian")


class Unavailable(Exception):
    """The text says what is missing and what would help."""


@dataclass(frozen=True)
class Unpacked:
    """Packages unpacked under `root`, and the environment in which their programs find their libraries."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        libraries = [str(self.root / part / "x86_64-linux-gnu") for part in ("usr/lib", "lib")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}

    def program(self, name: str) -> str:
        """Its path. Raises Unavailable when it cannot be loaded."""
        path = self.root / "usr/sbin" / name
        told = subprocess.run(["ldd", path], env=self.environment, capture_output=True, text=True, check=False)
        missing = [line.split()[0] for line in told.stdout.splitlines() if "not found" in line]
        if told.returncode or missing:
            raise Unavailable(f"{name} cannot be loaded: {', '.join(missing) or told.stderr.strip()}")
        return str(path)


def unpacked(name: str, packages: Sequence[str]) -> Unpacked:
    """The packages, fetched by apt the first time. Raises Unavailable."""
    root = (FOLDER / name).resolve()
    if root.is_dir():
        return Unpacked(root)
    for tool in ("apt-get", "dpkg", "ldd"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{name} comes from Debian's packages, and there is no {tool} here")
    fetched = FOLDER.resolve() / f"{name}.fetched"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir(parents=True)
    got = subprocess.run(["apt-get", "download", *packages], cwd=fetched, capture_output=True, text=True, check=False)
    if got.returncode:
        raise Unavailable(f"apt-get download {' '.join(packages)} failed: {got.stderr.strip().splitlines()[-1]}")
    unfinished = root.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for package in fetched.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, unfinished], check=True)
    shutil.rmtree(fetched)
    unfinished.rename(root)
    return Unpacked(root)

"""Room on the disk of the embedded store, and what a full one has done to its parts.

chDB does not notice a write that fails (26.9, tried with EFBIG and ENOSPC): the statement succeeds, its token is
remembered, and the part on the disk is cut off. So nothing is written without room to spare, and after a write the new
parts are compared with what they should hold. Must not run statements.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from segment_engine import metrics

SPARE_BYTES = 256 * 1024 * 1024
SPARE_SHARE = 10
"""Of a small disk a tenth is spared instead."""
_INSERTED = re.compile(r"[^_]+_[0-9]+_[0-9]+_0")
_OUTSIDE = frozenset({
    "checksums.txt", "columns.txt", "columns_substreams.txt", "default_compression_codec.txt", "metadata_version.txt",
})  # fmt: skip
"""Files of a part that its size does not count."""
_MIB = 1024 * 1024


class Usage(NamedTuple):
    total: int
    free: int


def usage_of(folder: Path) -> Usage:
    usage = shutil.disk_usage(folder)
    return Usage(usage.total, usage.free)


class Disk:
    """`usage` tells bytes of the disk that a folder is on."""

    def __init__(self, folder: Path, usage: Callable[[Path], Usage] = usage_of) -> None:
        self._folder = folder
        self._usage = usage

    def shortage(self, size: int = 0) -> str | None:
        """Why `size` bytes should not be written now, or None."""
        usage = self._usage(self._folder)
        metrics.EVENT_STORE_FREE.set(usage.free)
        wanted = min(SPARE_BYTES, usage.total // SPARE_SHARE) + size
        if usage.free >= wanted:
            return None
        return f"the event store's disk is full: {usage.free // _MIB} MiB free, {-(-wanted // _MIB)} MiB wanted"


def is_cut(folder: Path, size: int) -> bool:
    """Whether a part's folder holds less than its `size` says. One that is gone meanwhile was replaced by a merge."""
    found = 0
    try:
        for file in folder.iterdir():
            length = file.stat().st_size
            if file.name not in _OUTSIDE:
                found += length
            elif length == 0:
                return True
    except FileNotFoundError:
        return False
    return found < size


def is_inserted(name: str) -> bool:
    """Whether a part is as a statement made it. Of any other the disk still has what it was merged from."""
    return _INSERTED.fullmatch(name) is not None

"""What each process costs: CPU seconds and resident memory, from /proc (Linux only), children included."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """`cpu_seconds` and `memory_bytes` of a process and its living children (Postgres: all its backends)."""

    cpu_seconds: float
    memory_bytes: int


def usage_of(pids: Mapping[str, int]) -> dict[str, Usage]:
    """By the names given, each without the others; a process that is gone has used nothing."""
    stats = {pid: fields for pid in _all_pids() if (fields := _stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(pid)
    named = set(pids.values())
    return {name: _tree(pid, stats, children, named - {pid}) for name, pid in pids.items()}


def spent(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    """CPU seconds by name, largest first."""
    each = {name: after[name].cpu_seconds - usage.cpu_seconds for name, usage in before.items() if name in after}
    return dict(sorted(each.items(), key=lambda item: -item[1]))


def busy_seconds() -> float:
    """CPU seconds that everything on this machine has spent since it started."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    user, nice, system, _idle, _waiting, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def _tree(pid: int, stats: Mapping[int, list[str]], children: Mapping[int, list[int]], others: set[int]) -> Usage:
    seconds, memory, waiting = 0.0, 0, [pid]
    while waiting:
        each = waiting.pop()
        fields = stats.get(each)
        if fields is None or each in others:
            continue
        seconds += sum(int(fields[index]) for index in (11, 12)) / TICKS
        memory += int(fields[21]) * PAGE_BYTES
        waiting += children.get(each, [])
    return Usage(seconds, memory)


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command's name: state, ppid, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None

"""The first instructions of every process the launcher starts: run as `python -I -S child.py SPEC COMMAND…`.

Records its pid before anything else can go wrong, ties its life to the launcher's (Linux), gives root away where it
should, and becomes COMMAND (same pid). Standard library only, no import of postrider: it runs without site-packages.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import TypedDict

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class Spec(TypedDict):
    """What `child.py` does before it becomes the command; JSON on its command line."""

    pid_file: str | None
    parent: int
    death_signal: int
    """Sent to the child by the kernel when the launcher dies without a word (0: none)."""
    uid: int | None
    gid: int | None
    capability: int | None
    """The one capability kept while giving root away: directory search, for a home below a closed directory."""


def birth_mark(pid: int) -> str | None:
    """Tells a process from a later one with the same pid; None when there is no such process (or only its zombie)."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
                boot_id = boot.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{boot_id}:{fields[19]}"
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def write_pid_file(path: str) -> None:
    """Atomic: a reader sees the old content or the new one."""
    partial = f"{path}.{os.getpid()}"
    with open(partial, "w", encoding="ascii") as file:
        json.dump({"pid": os.getpid(), "birth": birth_mark(os.getpid())}, file)
    os.replace(partial, path)


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def give_root_away(uid: int, gid: int, capability: int | None) -> None:
    """Become uid and gid without supplementary groups, keeping `capability` over the coming exec when one is given."""
    os.setgroups([])
    if capability is None:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    # access(2) drops a non-root caller's capabilities unless this bit is set, and Postgres finds its binaries with it.
    _checked(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "set the secure bits")
    _checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    mask = 1 << capability
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    # Two 32-bit halves of (effective, permitted, inheritable).
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _checked(libc.capset(header, data), "reduce capabilities")
    _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), "keep the capability over exec")


def die_with(parent: int, death_signal: int) -> None:
    """Ask the kernel for death_signal at the parent's death. Last: changing the user forgets the wish."""
    if not death_signal:
        return
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        _checked(libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "follow the launcher's death")
    if os.getppid() != parent:  # it died before the wish was made
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    spec: Spec = json.loads(sys.argv[1])
    command = sys.argv[2:]
    if spec["pid_file"] is not None:
        write_pid_file(spec["pid_file"])
    if spec["uid"] is not None and spec["gid"] is not None:
        give_root_away(spec["uid"], spec["gid"], spec["capability"])
    die_with(spec["parent"], spec["death_signal"])
    os.execvpe(command[0], command, os.environ)


if __name__ == "__main__":
    main()

"""The process that renders what may not be rendered in a service: `python -m postrider.sms.render_worker`.

Reads requests and writes one result per set of values on its pipes (frames: four bytes of length, then JSON; of a
request, the work on the first line and one set of values on each other, null where the parent could not say it). Each
rendering has a budget of processor time, kept by the kernel: a rendering over it ends the process, whatever it is
doing. Memory is limited by RLIMIT_AS. End of input, which is also the parent's death, ends the process.
It opens no files, has no credentials in its environment, and writes nothing but results.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO, Final

from postrider.sms import template

LENGTH: Final = struct.Struct(">I")
TOO_DEEP: Final = RecursionError.__name__
"""The failure of values that are nested too deeply, as in the process."""

OUT_OF_MEMORY: Final = 3
"""The exit code of a worker whose rendering needed more memory than it may have."""


def main() -> None:
    """Serve until the input ends. Arguments: processor seconds per rendering, bytes of memory."""
    cpu_seconds, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(results, ["Ready", None])
    try:
        while (request := _read(requests)) is not None:
            _serve(request, results, cpu_seconds)
    except MemoryError:
        # The heap is in pieces and no handler may allocate: the parent reads the code and starts a fresh process.
        os._exit(OUT_OF_MEMORY)


def _serve(request: bytes, results: BinaryIO, cpu_seconds: float) -> None:
    first, *lines = request.split(b"\n")
    work = json.loads(first)
    _budget(cpu_seconds)
    body = template.compile_body(work["source"], kind_is_live=work["kind_is_live"])
    for line in lines:
        _budget(cpu_seconds)
        result = _render(body, line, work["max_length"])
        _budget(0)
        _send(results, encode_result(result))


def _render(body: template.Template, line: bytes, max_length: int) -> template.Result:
    try:
        values = json.loads(line)
    except RecursionError:
        values = None
    if values is None:
        return template.RenderFailed(TOO_DEEP)
    return template.render_unbounded(body, template.Values(*values), max_length=max_length)


def _budget(seconds: float) -> None:
    """Arm the kernel's timer (SIGPROF ends the process) and, behind it, the processor limit of the process."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime + seconds) + 2
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def encode_result(result: template.Result) -> list[object]:
    """A result as JSON: the name of its class, then its one field."""
    match result:
        case template.Rendered(text):
            return ["Rendered", text]
        case template.Aborted(reason):
            return ["Aborted", reason]
        case template.Missing(names):
            return ["Missing", list(names)]
        case template.TooLong(limit):
            return ["TooLong", limit]
        case template.LimitExceeded(reason):
            return ["LimitExceeded", reason]
        case template.RenderFailed(message):
            return ["RenderFailed", message]


def _read(requests: BinaryIO) -> bytes | None:
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = requests.read(length)
    return body if len(body) == length else None


def _send(results: BinaryIO, frame: list[object]) -> None:
    body = json.dumps(frame).encode()
    results.write(LENGTH.pack(len(body)) + body)
    results.flush()


if __name__ == "__main__":
    main()

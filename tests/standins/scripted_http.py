"""An HttpPort that answers from a script and remembers what it was asked. For tests of adapters without a network."""

from __future__ import annotations

from collections.abc import Iterable

from dispatcher.http_port import CalledOff, HttpFailure, HttpRequest, HttpResponse

Step = HttpResponse | HttpFailure


class ScriptedHttp:
    """Answers each request with the next step; one more request than steps fails the test."""

    connection_limit = 1

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self._steps = list(steps)
        self.requests: list[HttpRequest] = []
        self.closed = False

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if not request.may_begin():
            raise CalledOff
        assert self._steps, "one request too many"
        step = self._steps.pop(0)
        if isinstance(step, HttpFailure):
            raise step
        return step

    async def close(self) -> None:
        self.closed = True

"""A stand-in for a service, as far as the launcher sees one: it takes `migrate`, answers /readyz and obeys SIGTERM.

What environment it was given comes back on /environment.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import FrameType


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(dict(os.environ)).encode() if self.path == "/environment" else b"{}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The launcher's log file stays empty."""


def leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main(port_variable: str) -> None:
    if sys.argv[1:] == ["migrate"]:
        return
    signal.signal(signal.SIGTERM, leave)
    HTTPServer((os.environ["POSTRIDER_BIND_HOST"], int(os.environ[port_variable])), Handler).serve_forever()

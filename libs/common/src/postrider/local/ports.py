"""TCP ports of the launcher: a free one, or a given one that must not be taken. Loopback only."""

import random
import socket

from postrider.local.errors import PortTaken

LOOPBACK = "127.0.0.1"
KAFKA_PORT_VARIABLE = "POSTRIDER_KAFKA_PORT"
POSTGRES_PORT_VARIABLE = "POSTRIDER_POSTGRES_PORT"


CHOICE = range(15_000, 32_000)
"""Below the ports that systems give to outgoing connections: a client that keeps calling a dead server's port from
that range sooner or later gets the very port as its own, is connected to itself, and the server cannot come back."""


def free_port() -> int:
    """A port nobody listens on at this moment; somebody else may take it before it is used."""
    for _ in range(100):
        port = random.choice(CHOICE)
        if _problem(LOOPBACK, port) is None:
            return port
    raise PortTaken(f"no free port was found between {CHOICE.start} and {CHOICE.stop} on {LOOPBACK}")


def require_free(port: int, variable: str, host: str = LOOPBACK) -> int:
    """The port itself; raises PortTaken, naming the port and the variable that moves it."""
    problem = _problem(host, port)
    if problem is not None:
        raise PortTaken(
            f"port {port} on {host} cannot be used ({problem}): stop what uses it, or set {variable} to another port"
        )
    return port


def _problem(host: str, port: int) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As servers do: a connection in TIME_WAIT does not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None

"""TCP ports of the launcher: a free one, or a given one that must not be taken. Loopback only."""

import socket

from postrider.local.errors import PortTaken

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port nobody listens on at this moment; somebody else may take it before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def require_free(port: int, variable: str, host: str = LOOPBACK) -> int:
    """The port itself; raises PortTaken, naming the port and the variable that moves it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As servers do: a connection in TIME_WAIT does not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            raise PortTaken(
                f"port {port} on {host} cannot be used ({error.strerror}): "
                f"stop what uses it, or set {variable} to another port"
            ) from error
    return port

"""The sockets that the node listens on: bound once, by the main process, for every receiver.

A receiver that dies takes no waiting connection with it: they wait in the socket, which stays.
"""

import errno
import socket
from dataclasses import dataclass
from typing import Self

from node.errors import ConfigError, PortInUseError

#: Connections that may wait until a receiver takes them.
BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """What a receiver takes connections from; goes through ``multiprocessing`` spawn."""

    plain: socket.socket
    tls: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port of the plain socket."""
        return int(self.plain.getsockname()[1])

    @property
    def tls_port(self) -> int | None:
        """The port of the other one."""
        return None if self.tls is None else int(self.tls.getsockname()[1])

    def close(self) -> None:
        """Close them in this process; in others they stay open."""
        self.plain.close()
        if self.tls is not None:
            self.tls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_sockets(bind: str, port: int, *, tls_port: int | None = None) -> Sockets:
    """Return what the node listens on, with TLS too if it has a port; see ``listen``."""
    plain = listen(bind, port)
    if tls_port is None:
        return Sockets(plain=plain)
    try:
        return Sockets(plain=plain, tls=listen(bind, tls_port))
    except (PortInUseError, ConfigError):
        plain.close()
        raise


def listen(bind: str, port: int) -> socket.socket:
    """Return a socket that listens; nobody else can listen there.

    Parameters
    ----------
    bind
        Local IP address; empty for every IPv4 interface.
    port
        0 lets the system choose.

    Raises
    ------
    PortInUseError
        Another program has the port.
    ConfigError
        The address or the port is not ours to listen on.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # The port of connections that have just ended is free for us, never another's listener.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((bind or "0.0.0.0", port))  # noqa: S104 (what "every" means)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _in_words(error, bind, port) from error
    return listening


def _in_words(error: OSError, bind: str, port: int) -> PortInUseError | ConfigError:
    where = f"port {port} on {bind or 'every interface'}"
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            error.errno,
            f"{where} is in use: stop the program that listens there, or give the node "
            "another port",
        )
    return ConfigError(f"cannot listen on {where}: {error.strerror}")

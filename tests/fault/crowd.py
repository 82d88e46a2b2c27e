"""Connections that only cost: silent ones, and ones that drip."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.fault.pdu import associate_rq


@contextmanager
def crowd(port: int, source: str, *, silent: int, starting: int, dripping: int) -> Iterator[None]:
    """Hold connections open from one address until the block ends.

    Parameters
    ----------
    silent, starting
        Connections that send nothing, or the first byte of a PDU, and then wait.
    dripping
        Connections that send an A-ASSOCIATE-RQ, a byte every half second.
    """
    sockets = [_connected(port, source) for _ in range(silent + starting + dripping)]
    for one in sockets[silent : silent + starting]:
        _send(one, associate_rq()[:1])
    stop = threading.Event()
    thread = threading.Thread(target=_drip, args=(sockets[silent + starting :], stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        for one in sockets:
            one.close()


def reset(wire: socket.socket) -> None:
    """Close with RST, as a cable that is pulled out of a switch does."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def _connected(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def _drip(sockets: list[socket.socket], stop: threading.Event) -> None:
    for byte in associate_rq():
        if stop.wait(0.5):
            return
        for one in sockets:
            _send(one, bytes([byte]))


def _send(wire: socket.socket, content: bytes) -> None:
    # A connection that the receiver has closed is what it should do.
    with suppress(OSError):
        wire.sendall(content)

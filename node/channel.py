"""Messages between a worker and its inference child: JSON behind a length, over a socket pair.

No pickle: whatever runs in the child, its words can only be read as text and numbers.
"""

import json
import select
import socket
import time
from collections.abc import Mapping
from typing import Any

#: Longest message that is believed; objects travel as files, so real ones are far smaller.
MAX_MESSAGE_BYTES = 64 * 2**20
#: What a worker sends when it does not want its order fulfilled any more.
CALL_OFF: Mapping[str, Any] = {"kind": "call off"}
_LENGTH_BYTES = 4
_CHUNK_BYTES = 65536


class ChannelClosedError(EOFError):
    """The other side is gone."""


class ChannelProtocolError(ValueError):
    """The other side sent what is no message."""


class Channel:
    """One end of the pair; ``send`` and ``receive`` may be used by different threads."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._buffer = bytearray()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises
        ------
        ChannelClosedError
            The other side is gone.
        """
        content = json.dumps(message).encode()
        try:
            self._wire.sendall(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
        except OSError as error:
            raise ChannelClosedError("the other side of the pipe is gone") from error

    def receive(self, timeout_seconds: float | None = None) -> dict[str, Any] | None:
        """Return the next message, or None if none came in time.

        Raises
        ------
        ChannelClosedError
            The other side is gone.
        ChannelProtocolError
            What came is no message.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (message := self._take()) is None:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._wire], [], [], remaining)[0]:
                return None
            self._read()
        return message

    def close(self) -> None:
        """Close this end; the other side sees that it is alone."""
        self._wire.close()

    def _read(self) -> None:
        try:
            chunk = self._wire.recv(_CHUNK_BYTES)
        except OSError as error:
            raise ChannelClosedError("the other side of the pipe is gone") from error
        if not chunk:
            raise ChannelClosedError("the other side of the pipe is gone")
        self._buffer += chunk

    def _take(self) -> dict[str, Any] | None:
        """Cut the first whole message out of what was read; None if it is not whole yet."""
        if len(self._buffer) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        if length > MAX_MESSAGE_BYTES:
            raise ChannelProtocolError(f"message of {length} bytes, at most {MAX_MESSAGE_BYTES}")
        end = _LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        content = bytes(self._buffer[_LENGTH_BYTES:end])
        del self._buffer[:end]
        return _parsed(content)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        message = json.loads(content)
    except ValueError as error:
        raise ChannelProtocolError("message is not JSON") from error
    if not isinstance(message, dict):
        raise ChannelProtocolError("message is not an object")
    return message

"""The bytes of one connection, as PDUs and fragments of messages (PS3.8 9.3, annex E)."""

import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

P_DATA = 0x04

#: One PDU may take so long, however slowly its bytes drip.
_PDU_SECONDS = 20.0
#: Granularity of that: a wait for bytes is looked at so often.
_TICK_SECONDS = 2.0
_HEAD = struct.Struct(">BxL")
_FRAGMENT = struct.Struct(">LBB")
_IS_COMMAND, _IS_LAST = 0x01, 0x02


class ProtocolError(ValueError):
    """A peer has sent what the upper layer protocol does not allow."""


class Fragment(NamedTuple):
    """One presentation data value: a piece of a command set or of a data set."""

    context_id: int
    is_command: bool
    is_last: bool
    content: memoryview


class Wire:
    """One connection, read PDU by PDU: each within its time, none longer than asked for.

    Nothing is read ahead, so that whoever reads next finds the next PDU.

    Parameters
    ----------
    connection
        Plain or TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_TICK_SECONDS)
        self._connection = connection
        self._buffer = memoryview(bytearray(1 << 12))
        self._returned: deque[bytes] = deque()
        #: Until when the PDU that has begun must be here.
        self._deadline = 0.0

    def head(self, seconds: float) -> tuple[int, int] | None:
        """Return type and length of the next PDU; None if the peer has closed the connection.

        Raises
        ------
        TimeoutError
            No PDU has begun after ``seconds``, or one that has begun is too slow.
        OSError
            The connection is broken.
        """
        head = self._buffer[: _HEAD.size]
        begun = self._receive(head, time.monotonic() + seconds)
        self._deadline = time.monotonic() + _PDU_SECONDS
        if not begun or begun + self._fill(head[begun:]) < _HEAD.size:
            return None
        kind, length = _HEAD.unpack(head)
        return int(kind), int(length)

    def body(self, length: int) -> memoryview:
        """Return the rest of a PDU, whole; good until the next one is read.

        Raises
        ------
        OSError
            It did not come in time, or not at all.
        """
        if length > len(self._buffer):
            self._buffer = memoryview(bytearray(length))
        body = self._buffer[:length]
        if self._fill(body) < length:
            raise ConnectionResetError("the connection ended within a PDU")
        return body

    def exactly(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer if the peer has closed; what was returned first.

        Raises
        ------
        OSError
            They did not come in time, or the connection is broken.
        """
        if self._returned:
            return self._from_returned(count)
        buffer = memoryview(bytearray(count))
        if count == _HEAD.size:
            # The head, which is always asked for by itself.
            self._deadline = time.monotonic() + _PDU_SECONDS
        return bytes(buffer[: self._fill(buffer)])

    def give_back(self, pdu: bytes) -> None:
        """Have ``exactly`` return these bytes before those of the connection."""
        self._returned.append(pdu)

    def send(self, pdu: bytes) -> None:
        """Send all of it.

        Raises
        ------
        OSError
            The peer does not take it, or is gone.
        """
        self._connection.sendall(pdu)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def is_pending(self) -> bool:
        """Return whether decrypted bytes wait where the system does not see them."""
        return isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0

    def fileno(self) -> int:
        """Return the descriptor to wait on; negative when it is closed."""
        return self._connection.fileno()

    def _fill(self, buffer: memoryview) -> int:
        """Return how much of the buffer came: less than all of it from a peer that has closed."""
        filled = 0
        while filled < len(buffer):
            received = self._receive(buffer[filled:], self._deadline)
            if received == 0:
                break
            filled += received
        return filled

    def _receive(self, buffer: memoryview, deadline: float) -> int:
        while time.monotonic() < deadline:
            try:
                return self._connection.recv_into(buffer)
            except TimeoutError:
                continue
        raise TimeoutError("the peer is too slow")

    def _from_returned(self, count: int) -> bytes:
        first = self._returned.popleft()
        if len(first) > count:
            self._returned.appendleft(first[count:])
        return first[:count]


def pdu_head(kind: int, length: int) -> bytes:
    """Return the six bytes that every PDU begins with (PS3.8 9.3.1)."""
    return _HEAD.pack(kind, length)


def fragments(body: memoryview) -> Iterator[Fragment]:
    """Yield the presentation data values of a P-DATA-TF PDU (PS3.8 9.3.5).

    Raises
    ------
    ProtocolError
        A length leads out of the PDU.
    """
    position = 0
    while position < len(body):
        if position + _FRAGMENT.size > len(body):
            raise ProtocolError("the head of a presentation data value is cut")
        length, context_id, control = _FRAGMENT.unpack_from(body, position)
        start, end = position + _FRAGMENT.size, position + 4 + length
        if length < 2 or end > len(body):
            raise ProtocolError("a presentation data value is longer than its PDU")
        yield Fragment(
            context_id, bool(control & _IS_COMMAND), bool(control & _IS_LAST), body[start:end]
        )
        position = end


def data_pdu(context_id: int, command_set: bytes) -> bytes:
    """Return the P-DATA-TF PDU of a whole command set."""
    length = len(command_set) + 2
    head = _HEAD.pack(P_DATA, length + 4)
    return head + _FRAGMENT.pack(length, context_id, _IS_COMMAND | _IS_LAST) + command_set

"""The bytes of one connection, as PDUs and fragments of messages (PS3.8 9.3, annex E)."""

import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

A_ASSOCIATE_RQ, P_DATA, A_RELEASE_RQ = 0x01, 0x04, 0x05

_LARGEST_PDU = 1 << 20
#: Between two PDUs.
_IDLE_SECONDS = 30.0
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
    """One connection, read PDU by PDU: each within its time, none longer than is allowed.

    Nothing is read ahead, so that whoever reads next finds the next PDU: pynetdicom, which waits
    for bytes (``exactly``), or one thread for many connections, which must not (``next_pdu``).

    Parameters
    ----------
    connection
        Plain or TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_TICK_SECONDS)
        self._connection = connection
        self._head = memoryview(bytearray(_HEAD.size))
        self._body = memoryview(bytearray(1 << 12))
        #: Type and length of the PDU whose head is here; None until it is.
        self._begun: tuple[int, int] | None = None
        #: How much of head or body is here.
        self._filled = 0
        self._returned: deque[bytes] = deque()
        #: Until when the PDU that has begun, or else the next one, must be here.
        self._deadline = 0.0

    def wait_no_more(self) -> None:
        """Have ``next_pdu`` and ``send`` return at once, whatever the peer does."""
        self._connection.setblocking(False)

    def wait_again(self) -> None:
        """Have ``exactly`` wait for bytes."""
        self._connection.settimeout(_TICK_SECONDS)

    def next_pdu(self) -> tuple[int, memoryview] | None:
        """Return type and body of a PDU, good until the next call; None if it is not here yet.

        Raises
        ------
        ProtocolError
            It is too long.
        OSError
            The peer has closed the connection, or it is broken.
        """
        if self._begun is None:
            if not self._fill(self._head):
                return None
            kind, length = _HEAD.unpack(self._head)
            if length > _LARGEST_PDU:
                raise ProtocolError(f"a PDU of {length} bytes, at most {_LARGEST_PDU} are read")
            if length > len(self._body):
                self._body = memoryview(bytearray(length))
            self._begun, self._filled = (kind, length), 0
        kind, length = self._begun
        body = self._body[:length]
        if not self._fill(body):
            return None
        self._begun, self._filled = None, 0
        return kind, body

    def expect_next(self) -> None:
        """Give the peer its time to begin another PDU, from now."""
        self._deadline = time.monotonic() + _IDLE_SECONDS

    def require_progress(self, now: float) -> None:
        """Look at the clock, as ``time.monotonic`` gives it.

        Raises
        ------
        ProtocolError
            Nothing has come for 30 s, or a PDU has been on its way for 20 s.
        """
        if now > self._deadline:
            is_amid = self._begun is not None or self._filled > 0
            raise ProtocolError(
                "the peer is too slow" if is_amid else f"nothing came for {_IDLE_SECONDS:.0f} s"
            )

    def exactly(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer if the peer has closed; what was returned first.

        Raises
        ------
        OSError
            They did not come in time, or the connection is broken.
        """
        if self._returned:
            return self._from_returned(count)
        if count == _HEAD.size:
            # The head, which is always asked for by itself.
            self._deadline = time.monotonic() + _PDU_SECONDS
        buffer, filled = memoryview(bytearray(count)), 0
        while filled < count and (received := self._receive(buffer[filled:])):
            filled += received
        return bytes(buffer[:filled])

    def give_back(self, pdu: bytes) -> None:
        """Have ``exactly`` return these bytes before those of the connection."""
        self._returned.append(pdu)

    def send(self, pdu: bytes) -> None:
        """Send all of it, at once.

        Raises
        ------
        OSError
            The peer does not take it, or is gone.
        """
        if self._connection.send(pdu) < len(pdu):
            raise TimeoutError("the peer leaves its answers unread")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def is_pending(self) -> bool:
        """Return whether decrypted bytes wait where the system does not see them."""
        return isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0

    def fileno(self) -> int:
        """Return the descriptor to wait on; negative when it is closed."""
        return self._connection.fileno()

    def _fill(self, buffer: memoryview) -> bool:
        """Return whether the buffer is full, with what is here."""
        while self._filled < len(buffer):
            try:
                received = self._connection.recv_into(buffer[self._filled :])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not received:
                raise ConnectionResetError("closed by the peer")
            if self._begun is None and not self._filled:
                self._deadline = time.monotonic() + _PDU_SECONDS
            self._filled += received
        return True

    def _receive(self, buffer: memoryview) -> int:
        while time.monotonic() < self._deadline:
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

"""From a receiver to its recorder, a process of its own: one reads, the other keeps.

In one process they would wait for each other's turn in the interpreter.
"""

import itertools
import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from node.landed import Landed, as_message, as_question
from node.slots import Slots

#: Bytes; a message of ``as_message`` is far shorter.
LONGEST_MESSAGE = 1 << 14
#: What a recorder says first.
READY = b"ready"
#: So many are on their way at most: then neither side ever waits for the other to take what it
#: sends.
_MOST_AT_ONCE = 64
_ANSWER = struct.Struct("=QH")


class RecorderGoneError(RuntimeError):
    """Nobody keeps anything any more."""


class LinkEnd(NamedTuple):
    """What one side has of a link."""

    #: One of a pair that keeps the bounds of messages (``AF_UNIX``, ``SOCK_SEQPACKET``).
    connection: socket.socket
    #: Which both sides have.
    slots: Slots

    def close(self) -> None:
        """Close it, on this side."""
        self.connection.close()


class RecorderLink:
    """The receiver's end; all of it is called by one thread."""

    def __init__(self, end: LinkEnd) -> None:
        self._connection = end.connection
        #: Where what comes may lie until it is answered for.
        self.slots = end.slots
        self._numbers = itertools.count()
        #: Whom to tell, of what is on its way.
        self._asked: dict[int, Callable[[int], None]] = {}
        self._waiting: deque[tuple[Callable[[int], bytes], Callable[[int], None]]] = deque()

    def wait_until_ready(self) -> None:
        """Return when the recorder can keep something.

        Raises
        ------
        RecorderGoneError, OSError
            It has ended instead.
        """
        if self._connection.recv(len(READY)) != READY:
            raise RecorderGoneError("the recorder does not start")

    def keep(self, landed: Landed, tell: Callable[[int], None]) -> None:
        """Have it kept, and ``tell`` called with the status that answers it; returns at once.

        Parameters
        ----------
        tell
            Called by ``hear``; does not wait and does not raise.

        Raises
        ------
        OSError
            The recorder is gone.
        """
        self._ask(partial(as_message, landed=landed), tell)

    def await_filed(self, tell: Callable[[int], None]) -> None:
        """Have ``tell`` called when all that was answered for is in its place; returns at once.

        Or when that has failed, for now.

        Parameters
        ----------
        tell
            See ``keep``.

        Raises
        ------
        OSError
            The recorder is gone.
        """
        self._ask(as_question, tell)

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is something to hear."""
        return self._connection.fileno()

    def hear(self) -> None:
        """Tell whoever waits what has come of it.

        Raises
        ------
        RecorderGoneError, OSError
            The recorder is gone.
        """
        while True:
            try:
                message = self._connection.recv(_ANSWER.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not message:
                raise RecorderGoneError("the recorder has ended")
            number, status = _ANSWER.unpack(message)
            self._asked.pop(number)(status)
            if self._waiting and len(self._asked) < _MOST_AT_ONCE:
                self._ask(*self._waiting.popleft())

    def _ask(self, message: Callable[[int], bytes], tell: Callable[[int], None]) -> None:
        if len(self._asked) >= _MOST_AT_ONCE:
            self._waiting.append((message, tell))
            return
        number = next(self._numbers)
        self._connection.send(message(number))
        self._asked[number] = tell

    def close(self) -> None:
        """Hand on nothing any more: the recorder ends when it has kept what it has."""
        self._connection.close()


def link_ends() -> tuple[LinkEnd, LinkEnd]:
    """Return the ends of a link: for the receiver, and for the recorder."""
    slots = Slots()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return LinkEnd(ours, slots), LinkEnd(theirs, slots)


def answer(number: int, status: int) -> bytes:
    """Return the message that tells the status of what came with that number."""
    return _ANSWER.pack(number, status)

"""One thread that reads all established associations of a receiver.

With a thread for each they would spend more on their turns in the interpreter than on reading.
"""

import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from node.upper_layer import ProtocolError, Wire

logger = logging.getLogger(__name__)

#: How soon it is noticed that somebody is silent, or wanted elsewhere.
_LOOK_SECONDS = 0.25
#: How many PDUs one association may bring before the others have their turn.
_PDUS = 4


class Served(Protocol):
    """One association that is read; called in the thread of the intake."""

    @property
    def wire(self) -> Wire:
        """Its connection."""

    def take(self, kind: int, body: memoryview) -> bool:
        """Take a PDU; return whether to read on now. If not, it has been dropped.

        Raises
        ------
        Exception
            It is read no more: ``end`` hears of it.
        """

    def is_wanted(self) -> bool:
        """Return whether somebody else has something to do with the association."""

    def end(self, failure: Exception | None) -> None:
        """Hear that it is read no more: because it is wanted, or because of a failure."""


class Intake:
    """Reads what comes over all associations that it is given, and waits for none of them."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._served: dict[int, Served] = {}
        #: Whose bytes may be here where the system does not see them.
        self._pending: deque[Served] = deque()
        #: What else is waited for, and who is called then.
        self._listeners: dict[int, Callable[[], None]] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def listen(self, descriptor: int, hear: Callable[[], None]) -> None:
        """Call ``hear`` in the thread of the intake whenever the descriptor can be read."""
        self._listeners[descriptor] = hear
        self._poll.register(descriptor, select.EPOLLIN)

    def read(self, served: Served) -> None:
        """Read an association from now on; from any thread."""
        descriptor = served.wire.fileno()
        served.wire.expect_next()
        # In this order: of a connection that is closed already nothing stays here.
        self._poll.register(descriptor, select.EPOLLIN)
        self._served[descriptor] = served
        if served.wire.is_pending():
            self._pending.append(served)

    def drop(self, served: Served) -> None:
        """Read it no more; in the thread of the intake."""
        descriptor = served.wire.fileno()
        if self._served.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def close(self) -> None:
        """Read nothing any more."""
        self._is_closed = True
        self._thread.join()
        self._poll.close()

    def _run(self) -> None:
        try:
            look = time.monotonic() + _LOOK_SECONDS
            while not self._is_closed:
                self._read_what_is_here()
                if (now := time.monotonic()) > look:
                    self._look_after_all(now)
                    look = now + _LOOK_SECONDS
        except BaseException:
            # Whoever is read here would wait for ever: this process ends, and another one begins.
            logger.exception("the intake fails", extra={"event": "process_failed"})
            os._exit(1)

    def _read_what_is_here(self) -> None:
        for descriptor, _ in self._poll.poll(0 if self._pending else _LOOK_SECONDS):
            if (served := self._served.get(descriptor)) is not None:
                self._read_from(served)
            elif (hear := self._listeners.get(descriptor)) is not None:
                hear()
        for _ in range(len(self._pending)):
            served = self._pending.popleft()
            if self._served.get(served.wire.fileno()) is served:
                self._read_from(served)

    def _read_from(self, served: Served) -> None:
        wire = served.wire
        try:
            for number in itertools.count():
                # The others have their turn, unless the system does not see what is here.
                if number >= _PDUS and not wire.is_pending():
                    return
                pdu = wire.next_pdu()
                if pdu is None or not served.take(*pdu):
                    return
                wire.expect_next()
        except Exception as error:  # noqa: BLE001 (one association ends, the others go on)
            self.drop(served)
            served.end(error)

    def _look_after_all(self, now: float) -> None:
        for served in list(self._served.values()):
            failure = None
            try:
                served.wire.require_progress(now)
                if not served.is_wanted():
                    continue
            except ProtocolError as error:
                failure = error
            self.drop(served)
            served.end(failure)

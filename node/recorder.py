"""What has landed made durable and entered into the ledger, as much in one transaction as waits."""

import fcntl
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from node.keeping import Keeping, concluded, keeping
from node.landed import Landed, from_message
from node.ledger import instances
from node.ledger.engine import Connection, Engine
from node.ledger.instances import Added, Arrived
from node.recorder_link import LONGEST_MESSAGE, answer
from node.steps import Steps, side_by_side

logger = logging.getLogger(__name__)

_LARGEST_BATCH = 64
#: An object of more bytes takes its time, in a thread of its own.
_LARGE = 1 << 21


class _Waiting(NamedTuple):
    """One instance, and by which number it is answered for."""

    number: int
    landed: Landed
    #: Durable already, or refused; None: to be kept.
    kept: Arrived | int | None = None


class Recorder:
    """Keeps what a receiver hands on: for one sender, and for all that wait behind it.

    A commit waits for the disk. With one for each sender they would wait for each other's, and
    SQLite lets them do that asleep.

    Parameters
    ----------
    turn
        A file that the recorders of one machine lock in turn, for the same reason.
    link
        To the receiver; see ``RecorderLink``.
    """

    def __init__(self, engine: Engine, turn: BinaryIO, how: Keeping, link: socket.socket) -> None:
        self._engine = engine
        self._turn = turn
        self._how = how
        self._link = link
        #: Open as long as all goes well: to open one costs more than to write a batch.
        self._connection: Connection | None = None
        #: Threads that keep something large, by its number, and what they have kept.
        self._large: dict[int, threading.Thread] = {}
        self._kept_large: deque[_Waiting] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(self._link, select.POLLIN)
        self._is_heard = True

    def run(self) -> None:
        """Keep what comes until the receiver closes the link, and finish that."""
        while self._is_heard or self._large:
            ready = dict(self._poll.poll())
            batch = self._kept_since() if self._wake in ready else []
            self._add_heard(batch)
            if batch:
                self._take(batch)

    def close(self) -> None:
        """Let go of what it holds."""
        self._forget_connection()
        os.close(self._wake)

    def _add_heard(self, batch: list[_Waiting]) -> None:
        """Add what waits to be kept; what is large is begun with."""
        while self._is_heard and len(batch) < _LARGEST_BATCH:
            try:
                message = self._link.recv(LONGEST_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                # Told once, of what the other side has left unread; what it has sent follows.
                continue
            if not message:
                self._is_heard = False
                self._poll.unregister(self._link)
                break
            waiting = _Waiting(*from_message(message))
            if waiting.landed.part.size > _LARGE:
                self._begin_large(waiting)
            else:
                batch.append(waiting)

    def _begin_large(self, waiting: _Waiting) -> None:
        # Nobody else shall wait until it is walked and on the disk.
        thread = threading.Thread(target=self._keep_large, args=(waiting,), daemon=True)
        self._large[waiting.number] = thread
        thread.start()

    def _keep_large(self, waiting: _Waiting) -> None:
        try:
            (kept,) = side_by_side([keeping(waiting.landed, self._how)])
            self._kept_large.append(waiting._replace(kept=kept))
            os.eventfd_write(self._wake, 1)
        except BaseException:
            # Whoever waits would wait for ever: this process ends, and another one begins.
            logger.exception("the recorder fails", extra={"event": "process_failed"})
            os._exit(1)

    def _kept_since(self) -> list[_Waiting]:
        """Return what is large and has been kept since this was last asked."""
        # In this order: whoever is missed here wakes once more.
        os.eventfd_read(self._wake)
        kept = [self._kept_large.popleft() for _ in range(len(self._kept_large))]
        for each in kept:
            self._large.pop(each.number).join()
        return kept

    def _take(self, batch: Sequence[_Waiting]) -> None:
        kept = side_by_side(map(self._keeping, batch))
        arrived = [each for each in kept if isinstance(each, Arrived)]
        meanings = iter(self._record_in_turn(arrived) if arrived else ())
        for each, one in zip(batch, kept, strict=True):
            status = one if isinstance(one, int) else concluded(each.landed, one, next(meanings))
            self._tell(each, status)

    def _tell(self, waiting: _Waiting, status: int) -> None:
        try:
            self._link.send(answer(waiting.number, status))
        except ConnectionError:
            # The receiver is gone, and whoever it has received from knows it.
            return

    def _keeping(self, waiting: _Waiting) -> Steps[Arrived | int]:
        if waiting.kept is not None:
            return waiting.kept
        return (yield from keeping(waiting.landed, self._how))

    def _record_in_turn(self, arrived: Sequence[Arrived]) -> list[Added | Exception]:
        """Return what each arrival meant when it is committed, or why it is not."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            return [error] * len(arrived)
        try:
            return self._record(arrived)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _record(self, arrived: Sequence[Arrived]) -> list[Added | Exception]:
        try:
            return list(self._added(arrived))
        except Exception:  # noqa: BLE001 (each is tried alone, and told its own)
            return [self._record_alone(each) for each in arrived]

    def _record_alone(self, arrived: Arrived) -> Added | Exception:
        """Record what could not be recorded with others: none suffers for another."""
        try:
            (meaning,) = self._added([arrived])
        except Exception as error:  # noqa: BLE001 (told to the one who waits)
            return error
        return meaning

    def _added(self, arrived: Sequence[Arrived]) -> list[Added]:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            return instances.add_all(self._connection, arrived)
        except BaseException:
            # It may be broken: the next begins with another one.
            self._forget_connection()
            raise

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

"""What has landed made durable, and entered into the ledger as much at once as is durable."""

import fcntl
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO, NamedTuple

from node.disk import Disk
from node.keeping import Keeping, concluded, keeping
from node.landed import Landed, from_message
from node.ledger import instances
from node.ledger.engine import Connection, Engine
from node.ledger.instances import Added, Arrived
from node.recorder_link import LONGEST_MESSAGE, LinkEnd, answer
from node.steps import Steps, at_once

logger = logging.getLogger(__name__)

#: An object of more bytes takes its time, in a thread of its own.
_LARGE = 1 << 21


class _Kept(NamedTuple):
    """One instance that is durable, or refused."""

    #: By which its sender waits for an answer.
    number: int
    landed: Landed
    result: Arrived | int


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

    def __init__(self, engine: Engine, turn: BinaryIO, how: Keeping, link: LinkEnd) -> None:
        self._engine = engine
        self._turn = turn
        self._how = how
        self._link = link.connection
        self._slots = link.slots
        #: Open as long as all goes well: to open one costs more than to write a batch.
        self._connection: Connection | None = None
        self._disk = Disk()
        self._kept: list[_Kept] = []
        #: How many have been heard of, and not been answered for.
        self._going = 0
        #: Threads that keep something large, by its number, and what they have kept.
        self._large: dict[int, threading.Thread] = {}
        self._kept_large: deque[_Kept] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_heard = True
        self._hearing: dict[int, Callable[[], None]] = {
            self._wake: self._hear_of_large,
            self._disk.fileno(): self._disk.hear,
            self._link.fileno(): self._hear,
        }
        self._poll = select.poll()
        for descriptor in self._hearing:
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)

    def run(self) -> None:
        """Keep what comes until the receiver closes the link, and finish that."""
        while self._is_heard or self._going:
            for descriptor, _ in self._poll.poll():
                self._hearing[descriptor]()
            if self._kept:
                kept, self._kept = self._kept, []
                self._answer_for(kept)

    def close(self) -> None:
        """Let go of what it holds."""
        self._forget_connection()
        self._disk.close()
        os.close(self._wake)

    def _hear(self) -> None:
        """Begin to keep what the receiver hands on."""
        while True:
            try:
                message = self._link.recv(LONGEST_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                # Told once, of what the other side has left unread; what it has sent follows.
                continue
            if not message:
                self._is_heard = False
                self._poll.unregister(self._link)
                return
            self._begin(*from_message(message))

    def _begin(self, number: int, landed: Landed) -> None:
        self._going += 1
        if landed.part.size <= _LARGE:
            self._go_on(number, landed, keeping(landed, self._how, self._slots))
            return
        # Nobody else shall wait until it is walked.
        thread = threading.Thread(target=self._keep_large, args=(number, landed), daemon=True)
        self._large[number] = thread
        thread.start()

    def _go_on(
        self,
        number: int,
        landed: Landed,
        steps: Steps[Arrived | int],
        failure: Exception | None = None,
    ) -> None:
        """Keep one as far as it goes without a wait for the disk: others go on meanwhile."""
        try:
            wish = next(steps) if failure is None else steps.throw(failure)
        except StopIteration as end:
            self._kept.append(_Kept(number, landed, end.value))
        else:
            self._disk.begin(wish, partial(self._go_on, number, landed, steps))

    def _keep_large(self, number: int, landed: Landed) -> None:
        try:
            self._kept_large.append(
                _Kept(number, landed, at_once(keeping(landed, self._how, self._slots)))
            )
            os.eventfd_write(self._wake, 1)
        except BaseException:
            # Whoever waits would wait for ever: this process ends, and another one begins.
            logger.exception("the recorder fails", extra={"event": "process_failed"})
            os._exit(1)

    def _hear_of_large(self) -> None:
        # In this order: whoever is missed here wakes once more.
        os.eventfd_read(self._wake)
        for _ in range(len(self._kept_large)):
            kept = self._kept_large.popleft()
            self._large.pop(kept.number).join()
            self._kept.append(kept)

    def _answer_for(self, kept: Sequence[_Kept]) -> None:
        """Enter what is durable into the ledger, and say what has become of each."""
        arrived = [each.result for each in kept if isinstance(each.result, Arrived)]
        meanings = iter(self._record_in_turn(arrived) if arrived else ())
        for number, landed, result in kept:
            status = (
                result if isinstance(result, int) else concluded(landed, result, next(meanings))
            )
            self._tell(number, status)
        self._going -= len(kept)

    def _tell(self, number: int, status: int) -> None:
        try:
            self._link.send(answer(number, status))
        except ConnectionError:
            # The receiver is gone, and whoever it has received from knows it.
            return

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

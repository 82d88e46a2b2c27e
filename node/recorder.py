"""Arrivals made durable and entered into the ledger, as many in one transaction as wait for it."""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from node.arrival import Arrival
from node.ledger import instances
from node.ledger.engine import Connection, Engine
from node.ledger.instances import Added, Arrived
from node.steps import Steps, side_by_side

logger = logging.getLogger(__name__)

_LARGEST_BATCH = 64


class _Waiting(NamedTuple):
    """One arrival that is whole, and who wants to hear of it."""

    arrival: Arrival
    #: Durable already, or refused; None: to be kept here.
    kept: Arrived | int | None
    tell: Callable[[int], None]


def _keeping(waiting: _Waiting) -> Steps[Arrived | int]:
    if waiting.kept is not None:
        return waiting.kept
    return (yield from waiting.arrival.keeping())


class Recorder:
    """A thread that keeps what has arrived: for one sender, and for all that wait behind it.

    A commit waits for the disk. With a thread for each sender they would wait for each other's,
    and SQLite lets them do that asleep.

    Parameters
    ----------
    turn
        A file that receiver processes of one machine lock in turn, for the same reason.
    """

    def __init__(self, engine: Engine, turn: Path) -> None:
        self._engine = engine
        self._turn = turn.open("ab")
        #: Open as long as all goes well: to open one costs more than to write a batch.
        self._connection: Connection | None = None
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def keep(
        self, arrival: Arrival, tell: Callable[[int], None], *, kept: Arrived | int | None = None
    ) -> None:
        """Keep an arrival, close it, and tell the status that answers it; returns at once.

        Parameters
        ----------
        tell
            Called in the thread of the recorder; does not wait and does not raise.
        kept
            What ``arrival.keeping`` has given, where it was called already.
        """
        self._queue.put(_Waiting(arrival, kept, tell))

    def close(self) -> None:
        """Finish what waits, and close what it holds."""
        self._queue.put(None)
        self._thread.join()
        self._forget_connection()
        self._turn.close()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._take(batch)
        except BaseException:
            # Whoever waits would wait for ever: this process ends, and another one begins.
            logger.exception("the recorder fails", extra={"event": "process_failed"})
            os._exit(1)

    def _next_batch(self) -> list[_Waiting]:
        """Return what waits, at least one; none when it is closed."""
        batch: list[_Waiting] = []
        while len(batch) < _LARGEST_BATCH and not (batch and self._queue.empty()):
            waiting = self._queue.get()
            if waiting is None:
                # Met again behind what it has come after.
                self._queue.put(None)
                break
            batch.append(waiting)
        return batch

    def _take(self, batch: Sequence[_Waiting]) -> None:
        kept = side_by_side(map(_keeping, batch))
        arrived = [each for each in kept if isinstance(each, Arrived)]
        meanings = iter(self._record_in_turn(arrived) if arrived else ())
        for each, one in zip(batch, kept, strict=True):
            status = one if isinstance(one, int) else each.arrival.conclude(one, next(meanings))
            each.arrival.close()
            each.tell(status)

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

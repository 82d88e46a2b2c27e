"""Arrivals entered into the ledger, as many in one transaction as wait for it."""

import fcntl
import threading
from collections.abc import Sequence
from pathlib import Path

from node.ledger import instances
from node.ledger.engine import Engine
from node.ledger.instances import Added, Arrived


class _Waiting:
    """One arrival that a thread waits for."""

    def __init__(self, arrived: Arrived) -> None:
        self.arrived = arrived
        self.meaning: Added | None = None
        self.failure: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.meaning is not None or self.failure is not None


class Recorder:
    """Lets one thread at a time write into the ledger: for itself and for all that wait behind it.

    A commit waits for the disk. With every thread for itself they would wait for each other's, and
    SQLite lets them do that asleep.

    Parameters
    ----------
    turn
        A file that receiver processes of one machine lock in turn, for the same reason.
    """

    def __init__(self, engine: Engine, turn: Path) -> None:
        self._engine = engine
        self._turn = turn.open("ab")
        self._queue: list[_Waiting] = []
        self._queueing = threading.Lock()
        self._writing = threading.Lock()

    def record(self, arrived: Arrived) -> Added:
        """Return what an arrival meant, when it is committed.

        Raises
        ------
        DBAPIError
            The ledger cannot be written: this arrival is not in it.
        OSError
            Nor is it if the file of the turns cannot be locked.
        """
        waiting = _Waiting(arrived)
        with self._queueing:
            self._queue.append(waiting)
        with self._writing:
            if not waiting.is_done:
                with self._queueing:
                    batch, self._queue = self._queue, []
                self._write_in_turn(batch)
        if waiting.meaning is None:
            raise waiting.failure or RuntimeError("an arrival was left out")
        return waiting.meaning

    def _write_in_turn(self, batch: Sequence[_Waiting]) -> None:
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            for each in batch:
                each.failure = error
            return
        try:
            self._write(batch)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close what it holds."""
        self._turn.close()

    def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            meanings = instances.add_all(self._engine, [each.arrived for each in batch])
        except Exception as error:  # noqa: BLE001 - raised again by each thread that waits
            self._write_each(batch, error)
            return
        for each, meaning in zip(batch, meanings, strict=True):
            each.meaning = meaning

    def _write_each(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Write one by one what cannot be written together: none suffers for another."""
        if len(batch) == 1:
            batch[0].failure = error
            return
        for each in batch:
            self._write([each])

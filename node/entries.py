"""What has arrived, entered into the ledger: all at once, or each alone if that fails."""

import fcntl
from collections.abc import Sequence
from typing import BinaryIO

from node.ledger import instances
from node.ledger.engine import Connection, Engine, is_locked_or_full
from node.ledger.instances import Added, Arrived


class Entries:
    """The connection by which a recorder enters what has arrived.

    A commit waits for the disk. With one for each sender they would wait for each other's, and
    SQLite lets them do that asleep.

    Parameters
    ----------
    turn
        A file that the recorders of one machine lock in turn, for the same reason.
    """

    def __init__(self, engine: Engine, turn: BinaryIO) -> None:
        self._engine = engine
        self._turn = turn
        #: Open as long as all goes well: to open one costs more than to write a batch.
        self._connection: Connection | None = None

    def enter(self, arrived: Sequence[Arrived]) -> list[Added | Exception]:
        """Return what each arrival meant when it is committed, or why it is not."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            return [error] * len(arrived)
        try:
            return self._entered(arrived)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _entered(self, arrived: Sequence[Arrived]) -> list[Added | Exception]:
        try:
            return list(self._added(arrived))
        except Exception:  # noqa: BLE001 (each is tried alone, and told its own)
            return self._one_by_one(arrived)

    def _one_by_one(self, arrived: Sequence[Arrived]) -> list[Added | Exception]:
        """Enter what could not be entered together: none suffers for another."""
        outcomes: list[Added | Exception] = []
        failed: dict[str, Exception] = {}
        broken: Exception | None = None
        for each in arrived:
            uid = each.instance.sop_instance_uid
            # What came later under a UID must not be in the ledger earlier; and each that finds
            # the ledger locked waits for it.
            outcome = broken or failed.get(uid) or self._alone(each)
            if isinstance(outcome, Exception):
                failed[uid] = outcome
                broken = outcome if is_locked_or_full(outcome) else None
            outcomes.append(outcome)
        return outcomes

    def _alone(self, arrived: Arrived) -> Added | Exception:
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
            self.close()
            raise

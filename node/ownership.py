"""Who has the data folder: one node at a time, and whether one has it now.

The kernel keeps the lock and lets go of it when its process ends, however it ends.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "node.lock"
#: For how long somebody who only looks may be in the way.
_PATIENCE_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class DataFolderInUseError(RuntimeError):
    """Another node works on the same data folder."""


@contextmanager
def only_node(data: Path) -> Iterator[None]:
    """Hold the data folder while the block runs.

    Raises
    ------
    DataFolderInUseError
        Another node holds it.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with (data / _LOCK).open("w", encoding="ascii") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise DataFolderInUseError(f"another node works on {data}") from error
            time.sleep(_LOOK_SECONDS)
        yield


def node_runs(data: Path) -> bool:
    """Return whether a node of this machine holds the data folder."""
    try:
        lock = (data / _LOCK).open("r", encoding="ascii")
    except FileNotFoundError:
        return False
    with lock:
        try:
            # Shared, so that two who look at once do not take each other for a node.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

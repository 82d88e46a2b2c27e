"""Room on a disk: how much there is, and the one error that says that there is none."""

import errno
import shutil
from pathlib import Path
from typing import NoReturn

from node.errors import StorageFullError

#: Disk full, quota used up, no descriptors left: the sender may try again later.
_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


def _free_bytes(root: Path) -> int:
    """Return how much room is left for the store."""
    return shutil.disk_usage(root).free


def require_room(root: Path, floor_bytes: int, *, needed: int = 0) -> None:
    """Require so many bytes, and the floor, which must remain.

    Raises
    ------
    StorageFullError
        They are not there.
    """
    if not floor_bytes:
        return
    try:
        free = _free_bytes(root)
    except FileNotFoundError:
        root.mkdir(parents=True, exist_ok=True)
        free = _free_bytes(root)
    if free - needed < floor_bytes:
        raise StorageFullError(
            errno.ENOSPC, f"{free} bytes are free, {needed} needed, {floor_bytes} must remain"
        )


def raise_in_words(error: OSError) -> NoReturn:
    """Raise the one error that says so for what says that something is used up, else itself."""
    if error.errno in _EXHAUSTED and not isinstance(error, StorageFullError):
        raise StorageFullError(error.errno, f"the store has no room: {error.strerror}") from error
    raise error

"""Files that have their names before anything is in them: what is in one is durable at once.

A file that is made for an image has to be durable twice: its content and its name. Here the names
are durable long before, so that a receiver can answer for an image when its content is. What is
known of it lies beside the content, in an extended attribute (xattr(7)): a start finds all that was
answered for and has not come into the store and the ledger yet.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from node.disk import Sync
from node.folders import created, locked, remove_quietly
from node.steps import Steps

#: As many as a recorder has on its way, and as many that wait for their places.
_MOST = 128
_ABOUT = "user.pellucid.landed"
#: Bytes; more than is ever written.
_LONGEST_ABOUT = 1024


class Spare(NamedTuple):
    """An empty file whose name is durable."""

    path: Path
    #: To write to; to be closed.
    descriptor: int


class Landing:
    """Where the images of one recorder land; nobody else lands any in that data folder meanwhile.

    Parameters
    ----------
    root
        The data folder.

    Raises
    ------
    OSError
        Somebody else has it (``BlockingIOError``), or the disk fails.
    """

    def __init__(self, root: Path) -> None:
        self._folder = folder_of(root)
        self._spares: list[Path] = []
        self._is_refilled = False
        with ExitStack() as stack:
            self._names = stack.enter_context(locked(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB))
            self._lock = stack.pop_all()

    def __len__(self) -> int:
        """Return how many spares can be taken."""
        return len(self._spares)

    def take(self) -> Spare | None:
        """Return one that nobody has; None: there is none just now."""
        while self._spares:
            path = self._spares.pop()
            with suppress(OSError):
                return Spare(path, os.open(path, os.O_WRONLY))
        return None

    def is_low(self) -> bool:
        """Return whether half of the spares are gone, and nobody makes new ones."""
        return not self._is_refilled and len(self) <= _MOST // 2

    def refilling(self) -> Steps[None]:
        """Make new spares; they can be taken when it has ended.

        Raises
        ------
        OSError
            The disk is full, or fails, and there are none.
        """
        made: list[Path] = []
        self._is_refilled = True
        try:
            self._make(made)
            yield Sync(self._names)
        except BaseException:
            _remove(made)
            raise
        finally:
            self._is_refilled = False
        self._spares += made

    def is_usable(self) -> bool:
        """Return whether the file system can do what it takes: attributes, and second names."""
        first, second = self._new_path(), self._new_path()
        try:
            os.close(created(first))
            os.setxattr(first, _ABOUT, bytes(_LONGEST_ABOUT))
            second.hardlink_to(first)
        except OSError:
            return False
        finally:
            _remove([first, second])
        return True

    def left(self) -> list[Path]:
        """Return the files that are there, in the order in which they were written to.

        Raises
        ------
        OSError
            The disk fails.
        """
        return sorted(self._folder.glob("*.landing"), key=lambda path: path.stat().st_mtime_ns)

    def close(self) -> None:
        """Leave no spares, and let others have it; never raises."""
        _remove(self._spares)
        self._lock.close()

    def _make(self, made: list[Path]) -> None:
        """Add as many as are missing, or as there is room for."""
        for _ in range(_MOST - len(self)):
            path = self._new_path()
            try:
                os.close(created(path))
            except OSError:
                if not made:
                    raise
                return
            made.append(path)

    def _new_path(self) -> Path:
        return self._folder / f"{secrets.token_hex(16)}.landing"


def folder_of(root: Path) -> Path:
    """Return where images land."""
    return root / "objects" / "landing"


def write_about(descriptor: int, about: bytes) -> None:
    """Write what is known of what a file will hold: durable when the file is.

    Raises
    ------
    OSError
        The disk is full, or the file system takes no attributes.
    """
    os.setxattr(descriptor, _ABOUT, about)


def read_about(path: Path) -> bytes:
    """Return what ``write_about`` has written; nothing if there is nothing.

    Raises
    ------
    OSError
        The disk fails.
    """
    try:
        return os.getxattr(path, _ABOUT)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        raise


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        remove_quietly(path)

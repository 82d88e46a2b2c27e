"""Files and folders that are there when they are needed, durable before anyone relies on them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def opened_in(folder: Path, path: Path, flags: int) -> int:
    """Return a descriptor of something in a folder, or of it, which is made if it is missing.

    Raises
    ------
    OSError
        It cannot be opened or made.
    """
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        make_folder(folder)
        return os.open(path, flags, 0o666)


def created(path: Path) -> int:
    """Return a descriptor of a new file, to write to; its name is not durable yet.

    Raises
    ------
    OSError
        It is there already, or cannot be made.
    """
    return opened_in(path.parent, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def make_folder(folder: Path) -> None:
    """Make the folder and all above it durable, if it is not there yet.

    Raises
    ------
    OSError
        It cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


@contextmanager
def locked(folder: Path, mode: int) -> Iterator[int]:
    """Hold a folder, as ``fcntl.flock`` does; give its descriptor.

    Raises
    ------
    OSError
        It cannot be had, or others have it and ``mode`` is not to wait.
    """
    descriptor = opened_in(folder, folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, mode)
        yield descriptor
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Make durable what a folder names, or a file holds.

    Raises
    ------
    OSError
        The disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_quietly(path: Path) -> None:
    """Remove a file if it is there and the disk lets go of it; never raises."""
    # What a disk that fails does not let go of is swept at the next start.
    with suppress(OSError):
        path.unlink(missing_ok=True)

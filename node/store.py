"""Files that survive a power cut: written under the hash of their content, or not at all."""

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from node.errors import StorageFullError

#: Disk full, quota used up, no descriptors left: the sender may try again later.
_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One durable file."""

    path: Path
    #: Of its content, hex.
    sha256: str


def write_durably(root: Path, content: bytes, *, floor_bytes: int = 0) -> Stored:
    """Return where ``content`` now lies for good: ``root/objects/sha256/ab/<hash>.dcm``.

    Part file, fsync, rename, fsync of the folder. The same content is stored once.

    Parameters
    ----------
    root
        The data folder.
    floor_bytes
        Free space that must remain.

    Raises
    ------
    StorageFullError
        No room, or less than the floor: nothing is left behind.
    """
    digest = hashlib.sha256(content).hexdigest()
    path = path_of(root, digest)
    try:
        _require_room(root, len(content), floor_bytes)
        _make_folder(path.parent)
        with _locked(path.parent, fcntl.LOCK_SH) as folder:
            if path.exists():
                # Its age is what protects it from a sweep until its row is written.
                os.utime(path)
                _sync(path)
            else:
                _write(path, content)
            os.fsync(folder)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise StorageFullError(
                error.errno, f"the store has no room: {error.strerror}"
            ) from error
        raise
    return Stored(path=path, sha256=digest)


def make_folders(root: Path) -> None:
    """Make every folder of the store, durable before anyone relies on it.

    Of two threads that write the first files of a folder, one makes it, and the other could
    finish before the folder itself is durable.
    """
    _make_folder(_objects(root))
    for number in range(256):
        (_objects(root) / f"{number:02x}").mkdir(exist_ok=True)
    _sync(_objects(root))


def keep(root: Path, file: Path, *, floor_bytes: int = 0) -> Stored:
    """Take a finished file of a task folder into the store; see ``write_durably``."""
    return write_durably(root, file.read_bytes(), floor_bytes=floor_bytes)


def path_of(root: Path, sha256: str) -> Path:
    """Return where content of that hash lies, if it is stored."""
    return _objects(root) / sha256[:2] / f"{sha256}.dcm"


def remove_parts(root: Path) -> int:
    """Delete what unfinished writes have left; only while nobody writes. Returns how many."""
    parts = list(_objects(root).glob("*/*.part"))
    for part in parts:
        part.unlink(missing_ok=True)
    return len(parts)


def files_before(root: Path, moment: datetime) -> Iterator[Path]:
    """Return the stored files last written before a moment: those that a sweep may judge."""
    for path in _objects(root).glob("*/*.dcm"):
        if path.stat().st_mtime < moment.timestamp():
            yield path


def remove_older(path: Path, moment: datetime) -> bool:
    """Delete a stored file unless someone has written it again since ``moment``."""
    with _locked(path.parent, fcntl.LOCK_EX):
        if not path.exists() or path.stat().st_mtime >= moment.timestamp():
            return False
        path.unlink()
        return True


def free_bytes(root: Path) -> int:
    """Return how much room is left for the store."""
    return shutil.disk_usage(root).free


def _objects(root: Path) -> Path:
    return root / "objects" / "sha256"


def _require_room(root: Path, needed: int, floor_bytes: int) -> None:
    if not floor_bytes:
        return
    root.mkdir(parents=True, exist_ok=True)
    free = free_bytes(root)
    if free - needed < floor_bytes:
        raise StorageFullError(
            errno.ENOSPC, f"{free} bytes are free, {needed} needed, {floor_bytes} must remain"
        )


def _make_folder(folder: Path) -> None:
    """Make the folder and all above it durable, if it is not there yet."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.stem}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(folder: Path, mode: int) -> Iterator[int]:
    """Hold a folder: many may write at once, and nobody while something is removed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, mode)
        yield descriptor
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that survive a power cut: written under the hash of their content, or not at all."""

import errno
import fcntl
import hashlib
import mmap
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from node.errors import StorageFullError

#: Disk full, quota used up, no descriptors left: the sender may try again later.
_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})

#: How much is written between two looks at the free space.
_ROOM_STEP = 1 << 24
_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One durable file."""

    path: Path
    #: Of its content, hex.
    sha256: str


class Part:
    """A file that is being written: at the end one of the store, or nothing.

    A context that removes what was not kept. Writing and hashing go on while more arrives, and
    nothing is held in memory.

    Parameters
    ----------
    root
        The data folder.
    floor_bytes
        Free space that must remain.

    Raises
    ------
    StorageFullError
        No room, or less than the floor; also from ``write`` and ``keep``.
    """

    def __init__(self, root: Path, *, floor_bytes: int = 0) -> None:
        self._root = root
        self._floor_bytes = floor_bytes
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._path = _parts(root) / f"{secrets.token_hex(16)}.part"
        with _room_needed():
            _require_room(root, 0, floor_bytes)
            _make_folder(self._path.parent)
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def write(self, content: bytes | memoryview) -> None:
        """Append to the file."""
        before, self._size = self._size, self._size + len(content)
        with _room_needed():
            if before // _ROOM_STEP != self._size // _ROOM_STEP:
                _require_room(self._root, _ROOM_STEP, self._floor_bytes)
            _write_all(self._descriptor, content)
        self._sha256.update(content)

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """Give what was written, paged in from the file as it is looked at."""
        with (
            mmap.mmap(self._descriptor, self._size, access=mmap.ACCESS_READ) as pages,
            memoryview(pages) as content,
        ):
            yield content

    def keep(self) -> Stored:
        """Return where the content now lies for good: ``root/objects/sha256/ab/<hash>.dcm``.

        Fsync, rename, fsync of the folder. The same content is stored once.
        """
        digest = self._sha256.hexdigest()
        path = path_of(self._root, digest)
        sys.audit("pellucid.store.part_written")
        with _room_needed():
            _make_folder(path.parent)
            os.fsync(self._descriptor)
            sys.audit("pellucid.store.part_synced")
            with _locked(path.parent, fcntl.LOCK_SH) as folder:
                # Also over what is there: its age is what protects a file from a sweep until its
                # row is written, and what the disk may have spoiled meanwhile is mended.
                self._path.rename(path)
                sys.audit("pellucid.store.renamed")
                os.fsync(folder)
        sys.audit("pellucid.store.folder_synced")
        return Stored(path=path, sha256=digest)


def write_durably(root: Path, content: bytes, *, floor_bytes: int = 0) -> Stored:
    """Return where ``content`` now lies for good; see ``Part``.

    Raises
    ------
    StorageFullError
        No room, or less than the floor: nothing is left behind.
    """
    with Part(root, floor_bytes=floor_bytes) as part:
        part.write(content)
        return part.keep()


def make_folders(root: Path) -> None:
    """Make every folder of the store, durable before anyone relies on it.

    Of two threads that write the first files of a folder, one makes it, and the other could
    finish before the folder itself is durable.
    """
    _make_folder(_objects(root))
    _make_folder(_parts(root))
    for number in range(256):
        (_objects(root) / f"{number:02x}").mkdir(exist_ok=True)
    _sync(_objects(root))


def keep(root: Path, file: Path, *, floor_bytes: int = 0) -> Stored:
    """Take a finished file of a task folder into the store; see ``write_durably``."""
    return write_durably(root, file.read_bytes(), floor_bytes=floor_bytes)


def path_of(root: Path, sha256: str) -> Path:
    """Return where content of that hash lies, if it is stored."""
    return _objects(root) / sha256[:2] / f"{sha256}.dcm"


def remove_parts(root: Path, written_before: datetime = _FAR_FUTURE) -> int:
    """Delete what unfinished writes have left; return how many.

    Parameters
    ----------
    written_before
        When they were last written to; while anybody writes, a moment long past.
    """
    removed = 0
    for part in _parts(root).glob("*.part"):
        try:
            if part.stat().st_mtime < written_before.timestamp():
                part.unlink()
                removed += 1
        except FileNotFoundError:
            # Kept or given up by the one who wrote it, just now.
            continue
    return removed


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


def _parts(root: Path) -> Path:
    return root / "objects" / "parts"


@contextmanager
def _room_needed() -> Iterator[None]:
    """Turn what says that something is used up into the one error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _EXHAUSTED and not isinstance(error, StorageFullError):
            raise StorageFullError(
                error.errno, f"the store has no room: {error.strerror}"
            ) from error
        raise


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


def _write_all(descriptor: int, content: bytes | memoryview) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        content = content[written:]
        written = os.write(descriptor, content)


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

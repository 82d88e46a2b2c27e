"""Files that survive a power cut: written under the hash of their content, or not at all."""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Self

from node.errors import StorageFullError
from node.steps import Steps, side_by_side

#: Disk full, quota used up, no descriptors left: the sender may try again later.
_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})

#: How much is written between two looks at the free space.
_ROOM_STEP = 1 << 24
#: sync_file_range(2), which Linux alone has, and Python has not: without it a sync takes longer.
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_WHOLE_FILE, _BEGIN_TO_WRITE = ctypes.c_int64(0), ctypes.c_uint(2)
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
        No room, or less than the floor; also from ``write`` and ``keeping``.
    """

    def __init__(self, root: Path, *, floor_bytes: int = 0) -> None:
        self._root = root
        self._floor_bytes = floor_bytes
        #: How many bytes are written so far.
        self.size = 0
        self._sha256 = hashlib.sha256()
        parts = _parts(root)
        self._path = parts / f"{secrets.token_hex(16)}.part"
        self._is_kept = False
        try:
            _require_room(root, 0, floor_bytes)
            self._descriptor = _opened_in(parts, self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except OSError as error:
            _raise_in_words(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing of what was not kept; to be called once, never raises."""
        # What a disk that fails does not let go of is swept at the next start.
        with suppress(OSError):
            os.close(self._descriptor)
        if not self._is_kept:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def write(self, content: bytes | memoryview) -> None:
        """Append to the file."""
        before, self.size = self.size, self.size + len(content)
        try:
            if before // _ROOM_STEP != self.size // _ROOM_STEP:
                _require_room(self._root, _ROOM_STEP, self._floor_bytes)
            _write_all(self._descriptor, content)
        except OSError as error:
            _raise_in_words(error)
        self._sha256.update(content)

    def begin_to_sync(self) -> None:
        """Have the system begin to write out what is here; the sync waits for less then."""
        if _SYNC_FILE_RANGE is not None:
            _SYNC_FILE_RANGE(self._descriptor, _WHOLE_FILE, _WHOLE_FILE, _BEGIN_TO_WRITE)

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """Give what was written, paged in from the file as it is looked at."""
        with (
            mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ) as pages,
            memoryview(pages) as content,
        ):
            yield content

    def keeping(self) -> Steps[Stored]:
        """Return where the content lies for good, at last: ``root/objects/sha256/ab/<hash>.dcm``.

        Fsync, rename, fsync of the folder, each a step: where many take them side by side, one
        commit of the file system's journal serves all. The same content is stored once.
        """
        digest = self._sha256.hexdigest()
        path = path_of(self._root, digest)
        sys.audit("pellucid.store.part_written")
        try:
            os.fsync(self._descriptor)
            sys.audit("pellucid.store.part_synced")
            yield
            with _locked(path.parent, fcntl.LOCK_SH) as folder:
                # Also over what is there: its age is what protects a file from a sweep until its
                # row is written, and what the disk may have spoiled meanwhile is mended.
                self._path.rename(path)
                self._is_kept = True
                sys.audit("pellucid.store.renamed")
                yield
                os.fsync(folder)
        except OSError as error:
            _raise_in_words(error)
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
        (stored,) = side_by_side([part.keeping()])
    return stored


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


def _opened_in(folder: Path, path: Path, flags: int) -> int:
    """Return a descriptor of something in a folder, or of it, which is made if it is missing."""
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        _make_folder(folder)
        return os.open(path, flags, 0o666)


def _raise_in_words(error: OSError) -> NoReturn:
    """Raise the one error that says so for what says that something is used up, else itself."""
    if error.errno in _EXHAUSTED and not isinstance(error, StorageFullError):
        raise StorageFullError(error.errno, f"the store has no room: {error.strerror}") from error
    raise error


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
    descriptor = _opened_in(folder, folder, os.O_RDONLY)
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

"""Files that survive a power cut: written under the hash of their content, or not at all."""

import ctypes
import errno
import fcntl
import mmap
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NoReturn, Self

from blake3 import blake3

from node.disk import Sync
from node.errors import StorageFullError
from node.folders import created, locked, make_folder, sync
from node.steps import Steps, at_once
from node.writing import write_all, writing

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
    #: BLAKE3 of its content, hex.
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A part whose content is whole: in a file that is not durable yet, or in memory."""

    #: Of the file, among the parts; empty of what is in memory.
    name: str = ""
    size: int
    #: BLAKE3 of its content, hex.
    digest: str
    #: Which of the slots it is in, if it is in memory.
    slot: int | None = None


class Part:
    """A file that is being written; a context that leaves nothing of what was not finished.

    Writing and hashing go on while more arrives, and nothing is held in memory.

    Parameters
    ----------
    root
        The data folder.
    floor_bytes
        Free space that must remain.

    Raises
    ------
    StorageFullError
        No room, or less than the floor; also from ``write``.
    """

    def __init__(self, root: Path, *, floor_bytes: int = 0) -> None:
        self._root = root
        self._floor_bytes = floor_bytes
        self._size = 0
        self._hash = blake3()
        self._path = _new_part(root)
        self._is_finished = False
        try:
            require_room(root, floor_bytes)
            self._descriptor = created(self._path)
        except OSError as error:
            _raise_in_words(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, content: bytes | memoryview) -> None:
        """Append to the file."""
        before, self._size = self._size, self._size + len(content)
        try:
            if before // _ROOM_STEP != self._size // _ROOM_STEP:
                require_room(self._root, self._floor_bytes, needed=_ROOM_STEP)
            write_all(self._descriptor, content, before)
        except OSError as error:
            _raise_in_words(error)
        self._hash.update(content)

    def finish(self) -> Finished:
        """Return what to keep or to drop (``Unkept``); the disk begins to write it."""
        if _SYNC_FILE_RANGE is not None:
            # Whoever syncs it waits for less then.
            _SYNC_FILE_RANGE(self._descriptor, _WHOLE_FILE, _WHOLE_FILE, _BEGIN_TO_WRITE)
        self._is_finished = True
        return Finished(name=self._path.name, size=self._size, digest=self._hash.hexdigest())

    def close(self) -> None:
        """Leave nothing of what was not finished; to be called once, never raises."""
        with suppress(OSError):
            os.close(self._descriptor)
        if not self._is_finished:
            _remove(self._path)


class Unkept:
    """A finished part: at the end a file of the store, or nothing.

    A context that removes what was not kept. It may have been written by another process.

    Parameters
    ----------
    root
        The data folder.
    memory
        Where its content lies, with whatever else is there, if it is in no file yet; begins at a
        page, and stays as it is until the end.

    Raises
    ------
    StorageFullError
        No descriptors are left; from ``keeping``, no room.
    OSError
        It cannot be opened.
    """

    def __init__(self, root: Path, finished: Finished, memory: memoryview | None = None) -> None:
        self._root = root
        self._finished = finished
        self._content = None if memory is None else memory[: finished.size]
        self._path = _new_part(root) if memory is not None else _parts(root) / finished.name
        #: None until there is a file.
        self._descriptor: int | None = None
        self._is_kept = False
        if memory is not None:
            return
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            _remove(self._path)
            _raise_in_words(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is None:
            return
        with suppress(OSError):
            os.close(self._descriptor)
        if not self._is_kept:
            _remove(self._path)

    @contextmanager
    def content(self) -> Iterator[memoryview]:
        """Give what it holds; of a file paged in as it is looked at."""
        if self._content is not None:
            yield self._content
            return
        with (
            mmap.mmap(self._opened(), self._finished.size, access=mmap.ACCESS_READ) as pages,
            memoryview(pages) as content,
        ):
            yield content

    def keeping(self) -> Steps[Stored]:
        """Return where the content lies for good, at last: ``root/objects/blake3/ab/<hash>.dcm``.

        Fsync, rename, fsync of the folder. The same content is stored once.
        """
        digest = self._finished.digest
        path = path_of(self._root, digest)
        try:
            if self._content is not None:
                self._descriptor = created(self._path)
                yield from writing(self._descriptor, self._content)
            sys.audit("pellucid.store.part_written")
            yield Sync(self._opened())
            sys.audit("pellucid.store.part_synced")
            with locked(path.parent, fcntl.LOCK_SH) as folder:
                # Also over what is there: its age is what protects a file from a sweep until its
                # row is written, and what the disk may have spoiled meanwhile is mended.
                self._path.rename(path)
                self._is_kept = True
                sys.audit("pellucid.store.renamed")
                yield Sync(folder)
        except OSError as error:
            _raise_in_words(error)
        sys.audit("pellucid.store.folder_synced")
        return Stored(path=path, digest=digest)

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ValueError("what is in memory has no file yet")
        return self._descriptor


def write_durably(root: Path, content: bytes, *, floor_bytes: int = 0) -> Stored:
    """Return where ``content`` now lies for good; see ``Unkept.keeping``.

    Raises
    ------
    StorageFullError
        No room, or less than the floor: nothing is left behind.
    """
    with Part(root, floor_bytes=floor_bytes) as part:
        part.write(content)
        finished = part.finish()
    with Unkept(root, finished) as unkept:
        return at_once(unkept.keeping())


def make_folders(root: Path) -> None:
    """Make every folder of the store, durable before anyone relies on it.

    Of two threads that write the first files of a folder, one makes it, and the other could
    finish before the folder itself is durable.
    """
    make_folder(_objects(root))
    make_folder(_parts(root))
    for number in range(256):
        (_objects(root) / f"{number:02x}").mkdir(exist_ok=True)
    sync(_objects(root))


def keep(root: Path, file: Path, *, floor_bytes: int = 0) -> Stored:
    """Take a finished file of a task folder into the store; see ``write_durably``."""
    return write_durably(root, file.read_bytes(), floor_bytes=floor_bytes)


def path_of(root: Path, digest: str) -> Path:
    """Return where content of that hash lies, if it is stored."""
    return _folder_of(root, digest[:2]) / f"{digest}.dcm"


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
    # Also where earlier versions have put them, under another hash.
    for path in (root / "objects").glob("*/??/*.dcm"):
        if path.stat().st_mtime < moment.timestamp():
            yield path


def remove_older(path: Path, moment: datetime) -> bool:
    """Delete a stored file unless someone has written it again since ``moment``."""
    with locked(path.parent, fcntl.LOCK_EX):
        if not path.exists() or path.stat().st_mtime >= moment.timestamp():
            return False
        path.unlink()
        return True


def free_bytes(root: Path) -> int:
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
        free = free_bytes(root)
    except FileNotFoundError:
        root.mkdir(parents=True, exist_ok=True)
        free = free_bytes(root)
    if free - needed < floor_bytes:
        raise StorageFullError(
            errno.ENOSPC, f"{free} bytes are free, {needed} needed, {floor_bytes} must remain"
        )


# Paths are put together slowly: these are the same for every image.
@lru_cache(maxsize=1024)
def _folder_of(root: Path, prefix: str) -> Path:
    return _objects(root) / prefix


@lru_cache(maxsize=16)
def _objects(root: Path) -> Path:
    return root / "objects" / "blake3"


@lru_cache(maxsize=16)
def _parts(root: Path) -> Path:
    return root / "objects" / "parts"


def _raise_in_words(error: OSError) -> NoReturn:
    """Raise the one error that says so for what says that something is used up, else itself."""
    if error.errno in _EXHAUSTED and not isinstance(error, StorageFullError):
        raise StorageFullError(error.errno, f"the store has no room: {error.strerror}") from error
    raise error


def _remove(path: Path) -> None:
    # What a disk that fails does not let go of is swept at the next start.
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _new_part(root: Path) -> Path:
    return _parts(root) / f"{secrets.token_hex(16)}.part"

"""A file that is being written while its content comes."""

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blake3 import blake3

from node.folders import created, remove_quietly
from node.places import new_part
from node.room import raise_in_words, require_room
from node.writing import write_all

#: How much is written between two looks at the free space.
_ROOM_STEP = 1 << 24
#: sync_file_range(2), which Linux alone has, and Python has not: without it a sync takes longer.
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_WHOLE_FILE, _BEGIN_TO_WRITE = ctypes.c_int64(0), ctypes.c_uint(2)


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
        self._path = new_part(root)
        self._is_finished = False
        try:
            require_room(root, floor_bytes)
            self._descriptor = created(self._path)
        except OSError as error:
            raise_in_words(error)

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
            raise_in_words(error)
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
            remove_quietly(self._path)

"""What has come whole, on its way to its place in the store."""

import fcntl
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from node.disk import Sync
from node.folders import created, locked, remove_quietly
from node.landing import Spare
from node.part import Finished
from node.places import new_part, parts_of, path_of
from node.room import raise_in_words
from node.steps import Steps
from node.writing import writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One durable file."""

    path: Path
    #: BLAKE3 of its content, hex.
    digest: str


class Unkept:
    """A finished part: at the end a file of the store, or nothing, unless it is owed.

    A context that removes what was not kept. It may have been written by another process.

    Parameters
    ----------
    root
        The data folder.
    memory
        Where its content lies, with whatever else is there, if it is in no file yet; begins at a
        page, and stays as it is until it has landed.
    spare
        The file it has landed in, of what is in no part and not in memory.

    Raises
    ------
    StorageFullError
        No descriptors are left; from ``keeping``, no room.
    OSError
        It cannot be opened.
    """

    def __init__(
        self,
        root: Path,
        finished: Finished,
        memory: memoryview | None = None,
        spare: Spare | None = None,
    ) -> None:
        self._root = root
        self._finished = finished
        self._content = None if memory is None else memory[: finished.size]
        self._is_owed = False
        #: None until there is a file.
        self._descriptor: int | None = None
        if spare is not None:
            self._path, self._descriptor = spare
        elif memory is not None:
            self._path = new_part(root)
        else:
            self._path = parts_of(root) / finished.name
            self._descriptor = self._found()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def content(self) -> Iterator[memoryview]:
        """Give what it holds; of a file paged in as it is looked at."""
        if self._content is not None:
            yield self._content
            return
        with (
            mmap.mmap(self.descriptor, self._finished.size, access=mmap.ACCESS_READ) as pages,
            memoryview(pages) as content,
        ):
            yield content

    def land_in(self, spare: Spare) -> None:
        """Have what is in memory land there."""
        self._path, self._descriptor = spare

    def landing(self) -> Steps[None]:
        """Make its content durable, whatever the file is called.

        Raises
        ------
        StorageFullError, OSError
            There is no room, or the disk fails.
        """
        try:
            if self._content is not None:
                if self._descriptor is None:
                    self._descriptor = created(self._path)
                yield from writing(self._descriptor, self._content)
            sys.audit("pellucid.store.part_written")
            yield Sync(self.descriptor)
        except OSError as error:
            raise_in_words(error)
        sys.audit("pellucid.store.part_synced")

    def owe(self) -> None:
        """Leave the file where it has landed, whatever happens: a start finds it there."""
        self._is_owed = True

    def settle(self) -> None:
        """Leave nothing where it has landed: it has its place, and the ledger knows."""
        self._is_owed = False

    def filing(self) -> Steps[Stored]:
        """Return where it lies for good, at last: ``root/objects/blake3/ab/<hash>.dcm``.

        Once it has landed: rename, or a second name if it is owed, and fsync of the folder. The
        same content is stored once. May be tried again, also after a sweep has been there.

        Raises
        ------
        StorageFullError, OSError
            See ``landing``.
        """
        digest = self._finished.digest
        path = path_of(self._root, digest)
        try:
            with locked(path.parent, fcntl.LOCK_SH) as folder:
                # Also over what is there: its age is what protects a file from a sweep until its
                # row is written, and what the disk may have spoiled meanwhile is mended.
                self._take_place(path)
                sys.audit("pellucid.store.renamed")
                yield Sync(folder)
        except OSError as error:
            raise_in_words(error)
        sys.audit("pellucid.store.folder_synced")
        return Stored(path=path, digest=digest)

    def keeping(self) -> Steps[Stored]:
        """Return where it lies for good: see ``landing`` and ``filing``."""
        yield from self.landing()
        return (yield from self.filing())

    def close(self) -> None:
        """Leave nothing of what has no place and is not owed; to be called once, never raises."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            os.close(self._descriptor)
        if not self._is_owed:
            remove_quietly(self._path)

    @property
    def descriptor(self) -> int:
        """Of its file, if there is one."""
        if self._descriptor is None:
            raise ValueError("what is in memory has no file yet")
        return self._descriptor

    def _take_place(self, path: Path) -> None:
        if not self._is_owed:
            self._path.rename(path)
            return
        # It may have waited for long: after a crash, or because this has failed.
        os.utime(self.descriptor)
        try:
            path.hardlink_to(self._path)
        except FileExistsError:
            # Beside the first name: if this one stays, a start finds that all is filed.
            second = self._path.with_stem(f"{self._path.stem}-")
            second.unlink(missing_ok=True)
            second.hardlink_to(self._path)
            second.rename(path)
            # A file that had that place already keeps both names.
            remove_quietly(second)

    def _found(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY)
        except OSError as error:
            remove_quietly(self._path)
            raise_in_words(error)

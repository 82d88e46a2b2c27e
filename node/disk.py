"""What the disk is asked to do: done at once, or beside other work."""

import errno
import itertools
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from node.aio import Aio

#: As many at once as a recorder has on its way at most, and large ones.
_AT_ONCE = 128


class Sync(NamedTuple):
    """Make durable what was written (fsync)."""

    #: Of a file or folder; stays open until then.
    descriptor: int


class Write(NamedTuple):
    """Write at the start of a file."""

    descriptor: int
    #: Of memory that can be written to, and stays as it is until then.
    content: memoryview


Wish = Sync | Write
#: Is told that a wish has ended: well, or with a failure.
Hear = Callable[[Exception | None], None]


class Disk:
    """Has wishes fulfilled by Linux AIO, many at once; all of it is called by one thread.

    Where the system has none to give, a wish is fulfilled when it is made.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        #: By number, whatever is on its way.
        self._begun: dict[int, tuple[Wish, Hear]] = {}
        self._aio: Aio | None = None
        try:
            self._aio = Aio(_AT_ONCE)
        except OSError:
            return

    def fileno(self) -> int:
        """Return what can be read when there is something to hear; negative: nothing ever is."""
        return -1 if self._aio is None else self._aio.fileno()

    def begin(self, wish: Wish, hear: Hear) -> None:
        """Begin, and have ``hear`` called when it is done: by ``self.hear``, or at once."""
        number = next(self._numbers)
        self._begun[number] = wish, hear
        if not self._is_asked(number, wish):
            del self._begun[number]
            hear(fulfilled(wish))

    def hear(self) -> None:
        """Tell whoever waits for what is done by now."""
        if self._aio is None:
            return
        for number, result in self._aio.ended():
            wish, hear = self._begun.pop(number)
            hear(_failure(wish, result))

    def close(self) -> None:
        """Wait for what is on its way, and ask for nothing any more."""
        if self._aio is not None:
            self._aio.close()

    def _is_asked(self, number: int, wish: Wish) -> bool:
        if self._aio is None:
            return False
        try:
            match wish:
                case Sync(descriptor):
                    self._aio.sync(number, descriptor)
                case Write(descriptor, content):
                    self._aio.write(number, descriptor, content)
        except OSError:
            # Too many at once, or nothing for AIO: whoever tries at once is told why.
            return False
        return True


def fulfilled(wish: Wish) -> OSError | None:
    """Do it now; return why that failed."""
    try:
        match wish:
            case Sync(descriptor):
                os.fsync(descriptor)
            case Write(descriptor, content):
                return _shortfall(len(content), os.pwrite(descriptor, content, 0))
    except OSError as error:
        return error
    return None


def _failure(wish: Wish, result: int) -> Exception | None:
    if result < 0:
        return OSError(-result, os.strerror(-result))
    if isinstance(wish, Write):
        return _shortfall(len(wish.content), result)
    try:
        sys.audit("pellucid.receive.synced", wish.descriptor)
    except (OSError, MemoryError) as error:  # what a test has a disk say
        return error
    return None


def _shortfall(wanted: int, written: int) -> OSError | None:
    """Return a failure unless all was written: less is, where a disk becomes full."""
    return None if written == wanted else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

"""Syncs of files that go on in the system, while whoever asked for them does something else."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caio.linux_aio import Context

#: As many at once as a recorder has on its way at most, and large ones.
_AT_ONCE = 128

#: Is told that a sync has ended: well, or with a failure.
Hear = Callable[[Exception | None], None]


class Syncs:
    """Asks for fsync of many descriptors at once, by Linux AIO, in one thread.

    Where the system has none to give, a descriptor is synced when that is asked for.
    """

    def __init__(self) -> None:
        self._ended: list[tuple[int, Hear, int]] = []
        self._context: Context | None = None
        try:
            # Not above: caio cannot even be imported where the system has none to give, and whoever
            # waits for each sync needs none.
            from caio import linux_aio

            self._fsync = linux_aio.Operation.fsync
            self._context = linux_aio.Context(max_requests=_AT_ONCE)
        except (ImportError, SystemError, OSError):
            # Forbidden, or all used up by others (aio-max-nr).
            return

    def fileno(self) -> int:
        """Return what can be read when there is something to hear; negative: nothing ever is."""
        return -1 if self._context is None else self._context.fileno

    def begin(self, descriptor: int, hear: Hear) -> None:
        """Begin to sync, and have ``hear`` called when it is done: by ``self.hear``, or at once.

        Parameters
        ----------
        descriptor
            Of a file or folder; stays open until then.
        """
        if not self._is_begun(descriptor, hear):
            hear(synced(descriptor))

    def hear(self) -> None:
        """Tell whoever waits for what is done by now."""
        if self._context is None:
            return
        try:
            self._context.poll()
        except BlockingIOError:
            # Heard already, with what ended just before.
            return
        while self._context.process_events():
            pass
        ended, self._ended = self._ended, []
        for descriptor, hear, result in ended:
            hear(_failure(descriptor, result))

    def _is_begun(self, descriptor: int, hear: Hear) -> bool:
        if self._context is None:
            return False
        operation = self._fsync(descriptor)
        # What is called does not raise: caio would not let it through.
        operation.set_callback(partial(self._end, descriptor, hear))
        try:
            return self._context.submit(operation) == 1
        except (SystemError, OverflowError, ValueError, NotImplementedError):
            return False

    def _end(self, descriptor: int, hear: Hear, result: int) -> None:
        self._ended.append((descriptor, hear, result))


def synced(descriptor: int) -> OSError | None:
    """Sync now; return why that failed."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        return error
    return None


def _failure(descriptor: int, result: int) -> Exception | None:
    """Return what a result of the system means; an error is negative, which caio shows unsigned."""
    if result:
        number = (1 << 64) - result
        return OSError(number, os.strerror(number))
    try:
        sys.audit("pellucid.receive.synced", descriptor)
    except (OSError, MemoryError) as error:  # what a test has a disk say
        return error
    return None

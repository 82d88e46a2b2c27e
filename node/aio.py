"""Linux AIO (io_submit(2)): the system writes and syncs while whoever asked does something else.

By the calls themselves: glibc has no names for them, and caio, a library for it, writes nothing but
``bytes``, which lie where a disk cannot take them from without a copy.
"""

import ctypes
import os
import platform
import struct
from typing import NamedTuple

#: Numbers of io_setup, io_destroy, io_getevents and io_submit (syscall(2)), by machine; all are
#: little endian.
_NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
#: struct iocb of linux/aio_abi.h.
_REQUEST = struct.Struct("<QIIHhIQQqQII")
_WRITE, _SYNC = 1, 2
_TELLS_BY_EVENTFD = 1
#: struct io_event: number, address of the request, two results.
_EVENT = struct.Struct("<QQqq")
_syscall = ctypes.CDLL(None, use_errno=True).syscall


class Ended(NamedTuple):
    """What has become of one request."""

    number: int
    #: Bytes written, zero of a sync, or the negative of an error's number.
    result: int


class Aio:
    """Requests to one context of the system; all of it is called by one thread.

    Raises
    ------
    OSError
        The system has none to give: forbidden, all used up by others (aio-max-nr), or unknown here.
    """

    def __init__(self, at_once: int) -> None:
        try:
            setup, self._destroy, self._getevents, self._submit = _NUMBERS[platform.machine()]
        except KeyError as error:
            raise OSError(f"no AIO is known of {platform.machine()}") from error
        self._at_once = at_once
        self._context = ctypes.c_ulong(0)
        self._events = ctypes.create_string_buffer(at_once * _EVENT.size)
        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            _call(setup, ctypes.c_uint(at_once), ctypes.byref(self._context))
        except OSError:
            os.close(self._ended)
            raise

    def fileno(self) -> int:
        """Return what can be read when a request has ended."""
        return self._ended

    def sync(self, number: int, descriptor: int) -> None:
        """Begin an fsync.

        Raises
        ------
        OSError
            It cannot begin: too many are on their way, or this cannot be synced.
        """
        self._begin(number, _SYNC, descriptor, 0, 0)

    def write(self, number: int, descriptor: int, content: memoryview) -> None:
        """Begin to write at the start of a file.

        Parameters
        ----------
        content
            Of memory that can be written to, and stays as it is until that has ended.

        Raises
        ------
        OSError
            See ``sync``.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(content))
        self._begin(number, _WRITE, descriptor, address, len(content))

    def ended(self) -> list[Ended]:
        """Return what has ended by now."""
        try:
            os.eventfd_read(self._ended)
        except BlockingIOError:
            # Heard already, with what ended just before.
            return []
        ended: list[Ended] = []
        # The system takes more than it was asked for: what is left here is told by nobody.
        while some := self._some_ended():
            ended += some
        return ended

    def close(self) -> None:
        """Wait for what is on its way, and let go of the context."""
        _call(self._destroy, self._context)
        os.close(self._ended)

    def _some_ended(self) -> list[Ended]:
        try:
            count = _call(
                self._getevents,
                self._context,
                ctypes.c_long(0),
                ctypes.c_long(self._at_once),
                self._events,
                None,
            )
        except InterruptedError:
            # There was nothing, and a signal: whatever ends from now on is told anew.
            return []
        found = memoryview(self._events)[: count * _EVENT.size]
        return [Ended(number, result) for number, _, result, _ in _EVENT.iter_unpack(found)]

    def _begin(self, number: int, what: int, descriptor: int, address: int, count: int) -> None:
        packed = _REQUEST.pack(
            number, 0, 0, what, 0, descriptor, address, count, 0, 0,
            _TELLS_BY_EVENTFD, self._ended,
        )  # fmt: skip
        # The system has copied it when the call returns.
        request = ctypes.c_char_p(packed)
        _call(self._submit, self._context, ctypes.c_long(1), ctypes.byref(request))


def _call(number: int, *arguments: object) -> int:
    result = int(_syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return result

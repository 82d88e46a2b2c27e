"""How content comes into a file: copied by the system, or taken from where it lies."""

import errno
import fcntl
import os

from node.disk import Write
from node.steps import Steps

#: Less than so many bytes is copied: that costs less than another wait.
_DIRECT_BYTES = 1 << 17
#: What a disk takes from where it lies begins at such an address, and has such a length.
_BLOCK = 4096


def write_all(descriptor: int, content: bytes | memoryview, position: int) -> None:
    """Write all of the content at a place of a file.

    Raises
    ------
    OSError
        The disk is full, or fails.
    """
    written = os.pwrite(descriptor, content, position)
    while written < len(content):
        content, position = content[written:], position + written
        written = os.pwrite(descriptor, content, position)


def writing(descriptor: int, content: memoryview) -> Steps[None]:
    """Make content that lies at the beginning of a page the whole of an empty file.

    Of what is large most is not copied, and none of that stays in the memory of the system.

    Raises
    ------
    OSError
        The disk is full, or fails.
    """
    size = len(content)
    copied_from = 0 if size < _DIRECT_BYTES else size - size % _BLOCK
    # With its length first: what makes a file longer is waited for.
    os.ftruncate(descriptor, size)
    write_all(descriptor, content[copied_from:], copied_from)
    if copied_from:
        yield from _taking(descriptor, content[:copied_from])


def _taking(descriptor: int, content: memoryview) -> Steps[None]:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_DIRECT)
        yield Write(descriptor, content)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # The file system can only copy, or wants it to lie otherwise.
        fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
        write_all(descriptor, content, 0)

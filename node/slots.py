"""Memory that a receiver and its recorder share: what comes lies in it until it is durable.

Written to a file first, it would be copied into the memory of the system, and paged in from there.
"""

import mmap

from blake3 import blake3

from node.part import Finished

#: Bytes; a CT image has half a MiB, and what is larger comes into a file.
_SIZE = 1 << 20
#: At once; others come into files.
_COUNT = 32


class Slots:
    """So many pieces of memory, each of whole pages; to be made before the processes part.

    Only the receiver takes them and gives them back. The last that was given back is the first to
    be taken, so that no more are ever touched than are in use at once.
    """

    def __init__(self) -> None:
        self._pages = memoryview(mmap.mmap(-1, _SIZE * _COUNT))
        self._free = list(range(_COUNT))

    def take(self) -> int | None:
        """Return the number of one that nobody has; None: all are in use."""
        return self._free.pop() if self._free else None

    def give_back(self, number: int) -> None:
        """Let others have it, once what lay in it is durable or unwanted.

        Raises
        ------
        ValueError
            It was given back before: two would have it.
        """
        if number in self._free:
            raise ValueError(f"slot {number} is free already")
        self._free.append(number)

    def content(self, number: int) -> memoryview:
        """Return all of its memory."""
        return self._pages[number * _SIZE : (number + 1) * _SIZE]


class PartInMemory:
    """The content of one arrival in a slot, which is given back at the end; see ``Part``.

    Parameters
    ----------
    number
        Of a slot that was taken for it.
    """

    def __init__(self, slots: Slots, number: int) -> None:
        self._slots = slots
        self._number = number
        self._memory = slots.content(number)
        self._size = 0
        self._hash = blake3()

    @property
    def content(self) -> memoryview:
        """What it holds so far."""
        return self._memory[: self._size]

    def has_room(self, count: int) -> bool:
        """Return whether so many bytes more fit in."""
        return self._size + count <= len(self._memory)

    def write(self, content: bytes | memoryview) -> None:
        """Append what there is room for."""
        before, self._size = self._size, self._size + len(content)
        self._memory[before : self._size] = content
        self._hash.update(content)

    def finish(self) -> Finished:
        """Return what to keep or to drop (``Unkept``)."""
        return Finished(size=self._size, digest=self._hash.hexdigest(), slot=self._number)

    def close(self) -> None:
        """Give the slot back; to be called once."""
        self._slots.give_back(self._number)

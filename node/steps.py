"""Work that pauses wherever something must be durable before it goes on."""

from collections.abc import Generator
from typing import TypeVar

from node.syncs import synced

T = TypeVar("T")

#: Yields the descriptor to sync (fsync), has a failure of that thrown in, and returns its result.
Steps = Generator[int, None, T]


def at_once(steps: Steps[T]) -> T:
    """Return the result, having waited for each sync.

    Raises
    ------
    Exception
        Whatever the work raises.
    """
    try:
        descriptor = next(steps)
        while True:
            failure = synced(descriptor)
            descriptor = next(steps) if failure is None else steps.throw(failure)
    except StopIteration as end:
        result: T = end.value
        return result

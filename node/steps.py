"""Work that pauses wherever the disk must have done something before it goes on."""

from collections.abc import Generator
from typing import TypeVar

from node.disk import Wish, fulfilled

T = TypeVar("T")

#: Yields what the disk is to do, has a failure of that thrown in, and returns its result.
Steps = Generator[Wish, None, T]


def at_once(steps: Steps[T]) -> T:
    """Return the result, having waited for the disk each time.

    Raises
    ------
    Exception
        Whatever the work raises.
    """
    try:
        wish = next(steps)
        while True:
            failure = fulfilled(wish)
            wish = next(steps) if failure is None else steps.throw(failure)
    except StopIteration as end:
        result: T = end.value
        return result

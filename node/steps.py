"""Work that pauses wherever the disk must have done something before it goes on."""

from collections.abc import Callable, Generator
from functools import partial
from typing import TypeVar

from node.disk import Disk, Wish, fulfilled

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


def begin(
    steps: Steps[T],
    disk: Disk,
    end: Callable[[T | Exception], None],
    failure: Exception | None = None,
) -> None:
    """Go on as far as it goes without a wait for the disk; others go on meanwhile.

    Parameters
    ----------
    end
        Called with the result, or with what the work has raised, when it has ended: at once, or by
        ``disk.hear``.
    failure
        Of what the disk was asked for last.
    """
    try:
        wish = next(steps) if failure is None else steps.throw(failure)
    except StopIteration as stop:
        end(stop.value)
    except Exception as error:  # noqa: BLE001 (told to whoever asked)
        end(error)
    else:
        disk.begin(wish, partial(begin, steps, disk, end))

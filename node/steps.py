"""Work in steps that many can take side by side, so that what one waits for serves all."""

from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

#: Pauses between its steps, and returns its result.
Steps = Generator[None, None, T]


def side_by_side(all_steps: Iterable[Steps[T]]) -> list[T]:
    """Return the results of all; everybody has taken a step before anybody takes the next.

    Raises
    ------
    Exception
        Whatever a step raises; the others are closed where they are.
    """
    results: dict[int, T] = {}
    going = dict(enumerate(all_steps))
    count = len(going)
    while going:
        for number, steps in list(going.items()):
            try:
                next(steps)
            except StopIteration as end:
                results[number] = end.value
                del going[number]
    return [results[number] for number in range(count)]

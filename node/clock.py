"""The clock of the main process: sweeps that are repeated until it stops.

It counts elapsed seconds and never asks for the time of day, so that setting the machine's clock
neither holds a sweep back nor sets it off.
"""

import threading
from collections.abc import Callable


class Clock:
    """Some sweeps, each in a thread of its own: none keeps another waiting."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def repeat(
        self, sweep: Callable[[], object], *, every_seconds: float, after_seconds: float = 0.0
    ) -> None:
        """Call ``sweep`` after a first pause, and again and again; it must not raise."""

        def turn() -> None:
            pause = after_seconds
            while not self._stopped.wait(pause):
                sweep()
                pause = every_seconds

        thread = threading.Thread(target=turn, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Begin no sweep any more, and wait for those that have begun."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

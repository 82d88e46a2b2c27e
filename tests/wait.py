"""Waiting in tests: on a condition, with a deadline, never for a time."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, seconds: float, why: Callable[[], str] = str) -> None:
    """Return as soon as ``condition`` holds; fail after ``seconds``, telling ``why()``."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s {why()}".strip())
        pause.wait(0.02)

"""A file that a process of the test holds open and can use no more, as on a disk that fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def spoiled(path: Path) -> Iterator[None]:
    """Have every call on the open file end with an error until the block ends, and closing not."""
    held = [int(one.name) for one in Path("/proc/self/fd").iterdir() if _is(one, path)]
    assert held, f"nobody has {path} open"
    kept = {number: os.dup(number) for number in held}
    # Of such a descriptor the kernel knows the place and nothing else: EBADF.
    useless = os.open(path, os.O_PATH)
    try:
        for number in held:
            os.dup2(useless, number, inheritable=False)
        yield
    finally:
        for number, whole in kept.items():
            os.dup2(whole, number, inheritable=False)
            os.close(whole)
        os.close(useless)


def _is(descriptor: Path, path: Path) -> bool:
    try:
        return descriptor.readlink() == path
    except FileNotFoundError:  # closed since it was listed
        return False

"""What a recorder had answered for when it died, and what is still to be filed of it."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from node.keeping import Keeping, Taken, examined
from node.landed import Landed, from_message
from node.landing import Landing, Spare, read_about
from node.ledger import receptions
from node.ledger.engine import Engine
from node.places import path_of
from node.unkept import Unkept

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05


class UnfiledError(RuntimeError):
    """What was left behind cannot be filed as it is."""


def open_landing(root: Path, *, wait_seconds: float = 0.0) -> Landing | None:
    """Return the landing of a data folder when nobody else has it; None if that takes too long.

    Raises
    ------
    OSError
        The disk fails.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        with suppress(BlockingIOError):
            return Landing(root)
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_SECONDS)


def left_behind(landing: Landing, engine: Engine, how: Keeping) -> list[Taken]:
    """Return what is still to be filed, in the order in which it came.

    What is filed already, or not whole, is deleted: of the latter nobody was told that it is kept.
    What cannot be read, or not be taken any more, stays where it is, and is told to the log.
    """
    owed = []
    for path, landed in _found(landing):
        with _staying(path):
            taken = _taken(path, landed, engine, how)
            owed += [] if taken is None else [taken]
    if owed:
        extra = {"event": "left_behind", "count": len(owed)}
        logger.info("images that were acknowledged before are to be filed", extra=extra)
    return owed


def _found(landing: Landing) -> list[tuple[Path, Landed]]:
    """Return what somebody has begun to fill, and what is known of it, in the order it came."""
    found: list[tuple[int, int, Path, Landed]] = []
    for path in landing.left():
        with _staying(path):
            modified, (number, landed) = path.stat().st_mtime_ns, _known(path)
            found += [] if landed is None else [(modified, number, path, landed)]
    return [each[2:] for each in sorted(found, key=lambda each: each[:2])]


def _known(path: Path) -> tuple[int, Landed | None]:
    """Return number and instance; no instance: it was a spare, of somebody who died."""
    about = read_about(path)
    if about:
        return from_message(about)
    if path.stat().st_size:
        raise UnfiledError("its extended attributes are lost: copy it again, with them")
    path.unlink()
    return 0, None


@contextmanager
def _staying(path: Path) -> Iterator[None]:
    """Tell the log of what fails with one file, and go on with the others."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, UnfiledError) else type(error).__name__
        logger.exception(
            "an image that may have been acknowledged cannot be filed and stays where it has "
            "landed until the next start",
            extra={"event": "recovery_failed", "file": str(path), "reason": reason},
        )


def _taken(path: Path, landed: Landed, engine: Engine, how: Keeping) -> Taken | None:
    """Return what is to be filed; None: nothing is, and the file is deleted."""
    with ExitStack() as stack:
        descriptor = os.open(path, os.O_RDONLY)
        unkept = Unkept(how.data, landed.part, spare=Spare(path, descriptor))
        stack.callback(unkept.close)
        unkept.owe()
        if not _is_whole(path, landed):
            extra = {"event": "not_whole", "file": str(path)}
            logger.warning("an image was cut off, and is deleted", extra=extra)
            unkept.settle()
            return None
        place = path_of(how.data, landed.part.digest)
        if receptions.is_known(engine, place, landed.reception.at):
            # It was filed, and its first name is all that is left.
            unkept.settle()
            return None
        arrived = examined(landed, unkept, how)
        if isinstance(arrived, int):
            reason = f"it was taken, and is refused now with status 0x{arrived:04X}"
            raise UnfiledError(reason)
        stack.pop_all()
    return Taken(landed=landed, arrived=arrived, unkept=unkept, is_safe=True)


def _is_whole(path: Path, landed: Landed) -> bool:
    # Read, not paged in: a disk that fails says so then, and does not end this process.
    content = path.read_bytes()
    return len(content) == landed.part.size and blake3(content).hexdigest() == landed.part.digest

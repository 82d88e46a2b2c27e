"""What a recorder had answered for when it died, brought to where it belongs."""

import logging
import os
import time
from contextlib import closing, suppress
from pathlib import Path

from blake3 import blake3

from node.entries import Entries
from node.keeping import Keeping, examined
from node.landed import Landed, from_message
from node.landing import Landing, Spare
from node.ledger import receptions
from node.ledger.engine import Engine
from node.places import path_of
from node.steps import at_once
from node.unkept import Unkept

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.05


class UnfiledError(RuntimeError):
    """What was left behind must not be filed as it is."""


def open_landing(root: Path) -> Landing | None:
    """Return the landing of a data folder when nobody else has it; None if that takes too long.

    Raises
    ------
    OSError
        The disk fails.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            return Landing(root)
        time.sleep(_LOOK_SECONDS)
    return None


def recover(landing: Landing, engine: Engine, entries: Entries, how: Keeping) -> int:
    """File what was left behind; return how much of it stays, for another start, with the log.

    What is not whole is deleted: nobody was told that it is kept.
    """
    stays = recovered = 0
    for path, about in landing.left():
        try:
            recovered += _recovered(path, about, engine, entries, how)
        except Exception as error:
            stays += 1
            reason = str(error) if isinstance(error, UnfiledError) else type(error).__name__
            logger.exception(
                "an image that was acknowledged cannot be brought into store and ledger: it "
                "stays where it has landed until the next start",
                extra={"event": "recovery_failed", "file": str(path), "reason": reason},
            )
    if recovered:
        extra = {"event": "recovered", "count": recovered}
        logger.info("images that were acknowledged before are filed", extra=extra)
    return stays


def _recovered(path: Path, about: bytes, engine: Engine, entries: Entries, how: Keeping) -> bool:
    landed = from_message(about)[1] if about else None
    if landed is None:
        raise UnfiledError("it has lost its extended attributes: copy it from where it has them")
    descriptor = os.open(path, os.O_RDONLY)
    with closing(Unkept(how.data, landed.part, spare=Spare(path, descriptor))) as unkept:
        if not _is_whole(unkept, landed):
            return False
        unkept.owe()
        if _is_filed(engine, landed, how):
            unkept.settle()
            return False
        match examined(landed, unkept, how):
            case int(status):
                raise UnfiledError(f"it was taken, and is refused now with status 0x{status:04X}")
            case arrived:
                pass
        # Its age is what protects a file from a sweep until its row is written.
        os.utime(descriptor)
        at_once(unkept.filing())
        (outcome,) = entries.enter([arrived])
        if isinstance(outcome, Exception):
            raise outcome
        unkept.settle()
    return True


def _is_filed(engine: Engine, landed: Landed, how: Keeping) -> bool:
    """Return whether it has its place and its row, and only its first name was left.

    Raises
    ------
    UnfiledError
        It has not, and must not have it any more.
    """
    at = landed.reception.at
    if receptions.is_known(engine, path_of(how.data, landed.part.digest), at):
        return True
    if receptions.has_later_version(engine, landed.sop_instance_uid, at):
        raise UnfiledError("a later version is in the ledger, which this one must not replace")
    return False


def _is_whole(unkept: Unkept, landed: Landed) -> bool:
    if os.fstat(unkept.descriptor).st_size != landed.part.size:
        return False
    with unkept.content() as content:
        return blake3(content).hexdigest() == landed.part.digest

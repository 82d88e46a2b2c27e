"""The process that keeps what a receiver has read."""

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

from node.entries import Entries
from node.landing import Landing
from node.ledger.engine import is_file, open_ledger
from node.process import die_with_parent, keep_what_is_loaded
from node.quiet import quiet_libraries
from node.receive import ReceiveSettings, keeping_of
from node.recorder import Recorder
from node.recorder_link import READY, LinkEnd, link_ends
from node.recovery import left_behind, open_landing

logger = logging.getLogger(__name__)

#: Which the recorders of a node lock in turn, in the data folder.
_TURN = "receiving.lock"
#: Less than the main process waits for a receiver, which has waited for its senders before.
_END_SECONDS = 4.0
_LOOK_SECONDS = 0.01


class Closable(Protocol):
    """Something that is open."""

    def close(self) -> None:
        """Close it."""


@contextmanager
def recorder_process(
    settings: ReceiveSettings, *, not_its_own: Iterable[Closable] = ()
) -> Iterator[LinkEnd]:
    """Run a recorder in a child of this process; give the receiver's end of the link to it.

    A fork: the two share what is loaded. To be called while there is one thread of Python, the
    one that lives as long as the process, with which the child dies. When the link is closed,
    the child finishes what it has, and is waited for.

    Parameters
    ----------
    not_its_own
        What is open here and is to be closed there.
    """
    ours, theirs = link_ends()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            die_with_parent(parent)
            for each in (ours, *not_its_own):
                each.close()
            keep_what_is_loaded()
            record(settings, theirs)
        except BaseException:
            # Without its values, which may be of patients: see the formatter of the log.
            logger.exception("the recorder fails", extra={"event": "process_failed"})
            os._exit(1)
        os._exit(0)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        _wait_for_end(child)


def record(settings: ReceiveSettings, link: LinkEnd) -> None:
    """Keep what comes over the link until its other end is closed.

    Raises
    ------
    LedgerError
        The ledger is missing or at another revision.
    """
    quiet_libraries()
    with ExitStack() as stack:
        stack.enter_context(closing(link))
        engine = open_ledger(settings.database)
        stack.callback(engine.dispose)
        turn = stack.enter_context((settings.data / _TURN).open("ab"))
        how = keeping_of(settings)
        entries = stack.enter_context(closing(Entries(engine, turn)))
        is_alone = settings.receivers == 1 and is_file(engine)
        landing = stack.enter_context(_landing(settings.data, is_alone=is_alone))
        owed = [] if landing is None else left_behind(landing, engine, how)
        if landing is not None and not (is_alone and landing.is_usable()):
            # It is held all the same: what is owed lies there.
            landing = None
        recorder = Recorder(entries, how, link, landing=landing, owed=owed)
        stack.enter_context(closing(recorder))
        recorder.start()
        link.connection.send(READY)
        recorder.run()


@contextmanager
def _landing(root: Path, *, is_alone: bool) -> Iterator[Landing | None]:
    """Give the landing; None: another recorder has it, or the disk fails.

    Parameters
    ----------
    is_alone
        This recorder alone writes the ledger, so that images may land: whoever has the landing
        yet is about to end. What two have answered for, and not entered yet, could come into the
        ledger in another order than it came here.
    """
    landing, reason = None, "another recorder does not end"
    try:
        landing = open_landing(root, wait_seconds=_END_SECONDS if is_alone else 0.0)
    except OSError as error:
        reason = str(error.strerror)
    if landing is not None:
        with closing(landing):
            yield landing
        return
    if is_alone:
        extra = {"event": "no_landing", "reason": reason}
        logger.warning("images are answered for when they are in the ledger", extra=extra)
    yield None


def _wait_for_end(child: int) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            extra = {"event": "process_killed", "child": "recorder"}
            logger.warning("process did not end in time and is killed", extra=extra)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(_LOOK_SECONDS)

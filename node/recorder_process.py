"""The process that keeps what a receiver has read."""

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Protocol

from node.entries import Entries
from node.landing import Landing
from node.ledger.engine import Engine, is_file, open_ledger
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
        landing = stack.enter_context(_landing(settings))
        owed = [] if landing is None else left_behind(landing, engine, how)
        if landing is not None and not (_is_alone(settings, engine) and landing.is_usable()):
            # It is held all the same: what is owed lies there.
            landing = None
        recorder = Recorder(entries, how, link, landing=landing, owed=owed)
        stack.enter_context(closing(recorder))
        recorder.start()
        link.connection.send(READY)
        recorder.run()


@contextmanager
def _landing(settings: ReceiveSettings) -> Iterator[Landing | None]:
    """Give the landing; None, with the log: another recorder has it, or the disk fails."""
    landing, reason = None, "another recorder does not end"
    try:
        landing = open_landing(settings.data)
    except OSError as error:
        reason = str(error.strerror)
    if landing is None:
        extra = {"event": "no_landing", "reason": reason}
        logger.warning("images are answered for when they are in the ledger", extra=extra)
        yield None
        return
    with closing(landing):
        yield landing


def _is_alone(settings: ReceiveSettings, engine: Engine) -> bool:
    """Return whether this recorder alone writes the ledger.

    What two have answered for, and not entered yet, could come into it in another order than it
    came here.
    """
    return settings.receivers == 1 and is_file(engine)


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

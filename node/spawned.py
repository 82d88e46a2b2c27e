"""What the service's child processes run: the receiver and the workers, from start to stop.

Each import is local: a receiver never loads what only workers need.
"""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from node.log import LogStyle, configure_logging, tell_thread_errors
from node.process import die_with_parent, forbid_core_dumps, keep_what_is_loaded

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from node.listening import Sockets
    from node.receive import ReceiveSettings
    from node.worker import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What every child is told at its start."""

    #: Process id of the main process.
    parent_pid: int
    log_level: int
    log_style: LogStyle


def receive(
    settings: "ReceiveSettings", sockets: "Sockets", ready: Connection | None, birth: Birth
) -> None:
    """Run a receiver until SIGTERM; say when it takes connections, if anybody wants to know."""
    with _life(birth) as stop:
        from node.quiet import trust_uids
        from node.receive import serve
        from node.recorder_process import recorder_process

        trust_uids()

        def tell() -> None:
            keep_what_is_loaded()
            if ready is not None:
                ready.send_bytes(b"ready")
                ready.close()

        not_its_own = (sockets,) if ready is None else (sockets, ready)
        with recorder_process(settings, not_its_own=not_its_own) as recorder:
            serve(settings, sockets, stop, recorder, ready=tell)


def work(settings: "WorkerSettings", birth: Birth) -> None:
    """Run a worker until SIGTERM."""
    with _life(birth) as stop:
        from node.ledger.engine import open_ledger
        from node.worker import Worker

        engine = open_ledger(settings.config.node.database)
        try:
            Worker(engine, settings, stop).run()
        finally:
            engine.dispose()


@contextmanager
def _life(birth: Birth) -> Iterator[threading.Event]:
    """Give the event that ends this process; log what ends it otherwise, without its values."""
    stop = _begin(birth)
    try:
        yield stop
    except Exception as error:
        # multiprocessing would print the message, which may quote a data set.
        logger.exception("process ends by an error", extra={"event": "process_failed"})
        raise SystemExit(1) from error


def _begin(birth: Birth) -> threading.Event:
    """Tie this process to its parent; return the event that SIGTERM sets."""
    die_with_parent(birth.parent_pid)
    forbid_core_dumps()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    # Ctrl-C reaches the whole group of processes; only the main one acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(birth.log_level, style=birth.log_style)
    tell_thread_errors()
    return stop

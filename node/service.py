"""The running node: one clock, one receiver, some workers, one delivery thread per destination.

This process holds no patient's image and talks to no sender: it decides when a study is whole,
sends results, and keeps the other processes alive. They die with it.
"""

import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from dicom_io.study import Study
from node import completion, spawned
from node.child import ChildSettings
from node.clock import Clock
from node.config import Config, NodeSettings, config_hash
from node.deliver import Deliveries, DeliverySettings
from node.ledger import outbox, retention, tasks
from node.ledger.engine import Engine, open_ledger
from node.ledger.future import forget_future
from node.listening import Sockets
from node.log import LogStyle
from node.negotiate import Negotiations, NegotiationSettings, peers_to_ask
from node.ownership import only_node
from node.receivers import receive_settings, start_receivers
from node.retention import Retention
from node.routing import matching_routes
from node.supervise import Supervised, wait_for_change
from node.sweep import remove_orphans, sweep_at_start
from node.task import PlannedTask, Reception
from node.worker import WorkerSettings

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often and how patiently; the defaults are for a hospital, tests are quicker."""

    completion_seconds: float = 1.0
    lease_sweep_seconds: float = 5.0
    wake_seconds: float = 1.0
    retention_seconds: float = 30.0
    lease_seconds: float = 60.0
    #: Pauses of a task that is tried again.
    retry_base_seconds: float = 15.0
    retry_cap_seconds: float = 900.0
    #: Pauses of a delivery that is tried again.
    delivery_base_seconds: float = 60.0
    delivery_cap_seconds: float = 3600.0
    #: How long the processes have to end by themselves.
    stop_seconds: float = 10.0


def run(
    config: Config,
    *,
    ready: Callable[[int], object] | None = None,
    stop: threading.Event | None = None,
    pace: Pace | None = None,
    log_style: LogStyle = LogStyle.TEXT,
) -> None:
    """Run the node until ``stop`` is set, or until SIGTERM or SIGINT if there is no ``stop``.

    Parameters
    ----------
    ready
        Called once with the port, when the receiver takes connections and workers are started.

    Raises
    ------
    DataFolderInUseError
        Another node works on the data folder.
    PortInUseError
        Another program listens on the port.
    LedgerError, ConfigError
        The ledger cannot be opened; the address to listen on is not this machine's.
    """
    data = config.node.data
    data.mkdir(parents=True, exist_ok=True)
    with only_node(data), _stop_event(stop) as stopping:
        engine = open_ledger(config.node.database, migrate=True)
        try:
            sweep_at_start(engine, data)
            _name_stranded(engine, config)
            node = _Node(config, engine, pace or Pace(), log_style)
            node.run(stopping, ready or (lambda _port: None))
        finally:
            engine.dispose()


def planner(config: Config) -> completion.Planner:
    """Return what the configured routes want done with a study."""
    hash_of = {route.name: config_hash(config, route) for route in config.routes}

    def planned(study: Study, receptions: Sequence[Reception]) -> Sequence[PlannedTask]:
        return tuple(
            PlannedTask(
                route=match.route.name,
                config_hash=hash_of[match.route.name],
                priority=match.route.priority,
                quiet_seconds=match.route.complete.quiet_seconds,
                selected=match.selected,
            )
            for match in matching_routes(study, receptions, config.routes, config.peers)
        )

    return planned


def memory_limit(node: NodeSettings) -> int:
    """Return how many bytes the process of a task may use; 0 for as many as it likes.

    Unless told, nine tenths of the machine's memory, or any where a GPU driver maps what it likes.
    """
    if node.task_memory_gb is not None:
        return int(node.task_memory_gb * 1e9)
    if Path("/dev/nvidiactl").exists():
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10 * 9


class _Node:
    """Everything that lives from start to stop."""

    def __init__(self, config: Config, engine: Engine, pace: Pace, log_style: LogStyle) -> None:
        self._config = config
        self._engine = engine
        self._pace = pace
        self._birth = spawned.Birth(
            parent_pid=os.getpid(),
            log_level=logging.getLogger().getEffectiveLevel(),
            log_style=log_style,
        )
        self._children: list[Supervised] = []
        self._sockets: Sockets | None = None

    def run(self, stop: threading.Event, ready: Callable[[int], object]) -> None:
        """Start everything, keep it alive until told to stop, end everything."""
        deliveries = self._deliveries()
        negotiations = self._negotiations()
        clock = Clock()
        try:
            port = self._start_receivers()
            negotiations.start()
            self._start_workers()
            deliveries.start()
            self._wind(clock, deliveries)
            logger.info("node is ready", extra={"event": "node_ready", "port": port})
            ready(port)
            while not stop.is_set():
                for child in self._children:
                    child.look()
                wait_for_change(self._children, _LOOK_SECONDS)
        finally:
            negotiations.stop()
            self._end(deliveries, clock)

    def _start_receivers(self) -> int:
        """Start the receivers; return their port when they listen."""
        settings, count = receive_settings(self._config), self._config.node.receivers
        self._sockets, receivers = start_receivers(settings, self._birth, count=count)
        self._children.extend(receivers)
        return self._sockets.port

    def _start_workers(self) -> None:
        count = self._config.node.workers
        names = [f"{socket.gethostname()}-{index}" for index in range(count)]
        # We alone have the data folder, so whoever held these names before ended with its node.
        tasks.release_from(self._engine, names, _now())
        for index, name in enumerate(names):
            settings = self._worker_settings(index, name)
            start = functools.partial(_started_worker, settings, self._birth)
            take_back = functools.partial(_swept, functools.partial(self._take_back, name))
            self._children.append(
                Supervised(f"worker {index}", start, running=start(), ended=take_back)
            )

    def _worker_settings(self, index: int, name: str) -> WorkerSettings:
        pace = self._pace
        workers = self._config.node.workers
        return WorkerSettings(
            name=name,
            config=self._config,
            child=ChildSettings(
                folder=self._config.node.data / "work" / str(index),
                threads=max(1, (os.cpu_count() or 1) // workers),
                memory_bytes=memory_limit(self._config.node),
                time_limit_seconds=60 * self._config.node.task_minutes,
            ),
            software_version=metadata.version("pellucid"),
            lease_seconds=pace.lease_seconds,
            retry_base_seconds=pace.retry_base_seconds,
            retry_cap_seconds=pace.retry_cap_seconds,
        )

    def _take_back(self, worker: str) -> None:
        tasks.reclaim_from(self._engine, [worker], _now())

    def _deliveries(self) -> Deliveries:
        pace = self._pace
        settings = DeliverySettings(
            calling_ae=self._config.node.ae_title,
            base_seconds=pace.delivery_base_seconds,
            cap_seconds=pace.delivery_cap_seconds,
        )
        return Deliveries(self._engine, self._config.peers.values(), settings)

    def _negotiations(self) -> Negotiations:
        pace, config = self._pace, self._config
        settings = NegotiationSettings(
            calling_ae=config.node.ae_title,
            base_seconds=pace.delivery_base_seconds,
            cap_seconds=pace.delivery_cap_seconds,
        )
        peers = peers_to_ask(config.peers, config.routes)
        return Negotiations(self._engine, peers, settings)

    def _wind(self, clock: Clock, deliveries: Deliveries) -> None:
        """Wind the clock: a few sweeps, each safe to run at any time and to miss."""
        quiet = [route.complete.quiet_seconds for route in self._config.routes]
        planned = planner(self._config)

        def complete() -> None:
            forget_future(self._engine, _now())
            least = min(quiet, default=30.0)
            completion.tick(self._engine, planned, _now(), quiet_seconds=least)

        def reclaim() -> None:
            tasks.reclaim_expired(self._engine, _now())

        def reopen() -> None:
            retention.reopen(self._engine, _now())

        def collect() -> None:
            remove_orphans(self._engine, self._config.node.data, _now())

        def delete() -> None:
            deleting.sweep(_now())

        deleting = Retention(self._engine, self._config.node.data, self._config.storage)
        # While the node was down nobody could send: only silence from now on says anything.
        silence = max(quiet, default=0.0)
        for sweep, seconds, pause in (
            (complete, self._pace.completion_seconds, silence),
            (reclaim, self._pace.lease_sweep_seconds, 0.0),
            (reopen, self._pace.lease_sweep_seconds, 0.0),
            (deliveries.wake, self._pace.wake_seconds, 0.0),
            (collect, 3600.0, 0.0),
            (delete, self._pace.retention_seconds, 0.0),
        ):
            clock.repeat(
                functools.partial(_swept, sweep), every_seconds=seconds, after_seconds=pause
            )

    def _end(self, deliveries: Deliveries, clock: Clock) -> None:
        logger.info("node stops", extra={"event": "node_stops"})
        deadline = time.monotonic() + self._pace.stop_seconds
        if self._sockets is not None:
            self._sockets.close()
        for child in self._children:
            child.terminate()
        clock.stop()
        deliveries.stop(max(0.0, deadline - time.monotonic()))
        for child in self._children:
            child.join(deadline)
        logger.info("node has stopped", extra={"event": "node_stopped"})


def _name_stranded(engine: Engine, config: Config) -> None:
    for destination, count in outbox.stranded(engine, config.peers).items():
        extra = {"event": "delivery_stranded", "destination": destination, "objects": count}
        logger.error("objects are owed to a peer that is not configured: add it again", extra=extra)


def _started_worker(settings: WorkerSettings, birth: spawned.Birth) -> BaseProcess:
    process = get_context("spawn").Process(
        target=spawned.work, args=(settings, birth), name=settings.name, daemon=True
    )
    process.start()
    return process


def _swept(sweep: Callable[[], None]) -> None:
    try:
        sweep()
    except Exception:  # the clock's loop: the next turn comes anyway
        logger.exception("sweep failed, will be repeated", extra={"event": "sweep_failed"})


@contextmanager
def _stop_event(given: threading.Event | None) -> Iterator[threading.Event]:
    """Return the caller's event, or one that SIGTERM and SIGINT set while the block runs."""
    if given is not None:
        yield given
        return
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda _number, _frame: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> datetime:
    return datetime.now(UTC)

"""The receiver processes: all take connections from the same sockets, which outlive each one."""

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from node import spawned
from node.config import Config, Service
from node.doorman import AllowedPeer
from node.listening import Sockets, open_sockets
from node.receive import ReceiveSettings
from node.supervise import Supervised
from node.tls import server_context

_START_SECONDS = 60.0


class ReceiverError(RuntimeError):
    """A receiver does not start."""


def receive_settings(config: Config) -> ReceiveSettings:
    """Return what a receiver must know of the configuration."""
    called = (title for route in config.routes for title in route.called)
    return ReceiveSettings(
        ae_titles=tuple(dict.fromkeys((config.node.ae_title, *called))),
        bind=config.node.bind,
        port=config.node.port,
        data=config.node.data,
        database=config.node.database,
        peers=tuple(
            AllowedPeer(
                name=peer.name,
                ae_title=peer.ae_title,
                host=peer.host,
                echo=Service.ECHO in peer.allow,
                store=Service.STORE in peer.allow,
                commit=Service.COMMIT in peer.allow,
                identity=peer.identity,
            )
            for peer in config.peers.values()
            if peer.host
        ),
        device_uid=config.site.device_uid,
        tls=config.node.tls,
        strict=config.ingest.strict,
        floor_bytes=int(config.storage.reserve_gb * 1e9),
    )


def start_receivers(
    settings: ReceiveSettings,
    birth: spawned.Birth,
    *,
    count: int,
    seconds: float = _START_SECONDS,
) -> tuple[Sockets, tuple[Supervised, ...]]:
    """Return the receivers when all take connections, and the sockets, for the caller to close.

    If one of them does not, none of them stays.

    Raises
    ------
    PortInUseError, ConfigError
        See ``open_sockets``, ``server_context``.
    ReceiverError
        One of them ended, or was not ready in time.
    """
    if settings.tls is not None:
        # Told now, and once: a receiver that cannot load it would end again and again.
        server_context(settings.tls)
    tls_port = None if settings.tls is None else settings.tls.port
    sockets = open_sockets(settings.bind, settings.port, tls_port=tls_port)
    share = replace(
        settings,
        receivers=count,
        max_associations=_share(settings.max_associations, count),
        max_peer_associations=_share(settings.max_peer_associations, count),
        max_unknown_associations=_share(settings.max_unknown_associations, count),
    )
    start = functools.partial(_started, share, sockets, birth)
    with ExitStack() as undo:
        undo.callback(sockets.close)
        firsts = []
        for _ in range(count):
            firsts.append(_started_first(start))
            undo.callback(_end, *firsts[-1])
        deadline = time.monotonic() + seconds
        for process, told in firsts:
            _wait_until_ready(process, told, deadline)
        undo.pop_all()
    for _, told in firsts:
        told.close()
    return sockets, tuple(
        Supervised(f"receiver {number}", start, running=process)
        for number, (process, _) in enumerate(firsts)
    )


def _share(most: int, count: int) -> int:
    return -(-most // count)


def _started(
    settings: ReceiveSettings,
    sockets: Sockets,
    birth: spawned.Birth,
    ready: Connection | None = None,
) -> BaseProcess:
    process = get_context("spawn").Process(
        target=spawned.receive,
        args=(settings, sockets, ready, birth),
        name="receiver",
        daemon=True,
    )
    process.start()
    return process


def _started_first(start: Callable[..., BaseProcess]) -> tuple[BaseProcess, Connection]:
    """Return a receiver, and where it tells that it takes connections.

    By a pipe, whose end is seen when it dies: of a lock that it held, it would not be.
    """
    told, ready = get_context("spawn").Pipe(duplex=False)
    with ready:
        return start(ready), told


def _wait_until_ready(process: BaseProcess, told: Connection, deadline: float) -> None:
    if not told.poll(max(0.0, deadline - time.monotonic())):
        raise ReceiverError("a receiver is not ready in time: see the log")
    try:
        told.recv_bytes()
    except EOFError:
        process.join()
        raise ReceiverError(f"a receiver ended with {process.exitcode}: see the log") from None


def _end(process: BaseProcess, told: Connection) -> None:
    told.close()
    process.kill()
    process.join()

"""The receiver processes: all take connections from the same sockets, which outlive each one."""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

from node import spawned
from node.config import Config, Service
from node.doorman import AllowedPeer
from node.listening import Sockets, open_sockets
from node.receive import ReceiveSettings
from node.supervise import Supervised
from node.tls import server_context

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.1


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
    settings: ReceiveSettings, birth: spawned.Birth, *, count: int
) -> tuple[Sockets, tuple[Supervised, ...]]:
    """Return the receivers when all take connections, and the sockets, for the caller to close.

    Raises
    ------
    PortInUseError, ConfigError
        See ``open_sockets``, ``server_context``.
    ReceiverError
        One of them ended, or was not ready in a minute.
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
    events = [get_context("spawn").Event() for _ in range(count)]
    starts = [functools.partial(_started, share, sockets, event, birth) for event in events]
    running = [start() for start in starts]
    _wait_until_ready(running, events)
    return sockets, tuple(
        Supervised(f"receiver {number}", start, running=process)
        for number, (start, process) in enumerate(zip(starts, running, strict=True))
    )


def _share(most: int, count: int) -> int:
    return -(-most // count)


def _started(
    settings: ReceiveSettings, sockets: Sockets, ready: Event, birth: spawned.Birth
) -> BaseProcess:
    process = get_context("spawn").Process(
        target=spawned.receive,
        args=(settings, sockets, ready, birth),
        name="receiver",
        daemon=True,
    )
    process.start()
    return process


def _wait_until_ready(processes: Sequence[BaseProcess], events: Sequence[Event]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    for process, event in zip(processes, events, strict=True):
        while not event.wait(_LOOK_SECONDS):
            if not process.is_alive():
                raise ReceiverError(f"a receiver ended with {process.exitcode}: see the log")
            if time.monotonic() > deadline:
                process.kill()
                raise ReceiverError(f"a receiver is not ready after {_START_SECONDS:.0f} s")

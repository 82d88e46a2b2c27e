"""The receiver: what a sender is told Success for is whole on disk and in the ledger."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedPeer:
    """Who may connect: AE title and address together, and for what."""

    ae_title: str
    #: Host name or IP address, resolved when the receiver starts.
    host: str
    echo: bool = True
    store: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveSettings:
    """All that the receiver process needs; goes through ``multiprocessing`` spawn."""

    #: Titles that we answer to; the first is our own.
    ae_titles: tuple[str, ...]
    #: Local address; empty for every interface.
    bind: str = ""
    #: 0 lets the system choose.
    port: int
    #: The data folder, which holds the store.
    data: Path
    database: str
    peers: tuple[AllowedPeer, ...] = ()
    #: Take what anybody sends: for the demo, never for a hospital.
    accept_unknown: bool = False
    #: Our Device UID: what carries it comes from here.
    device_uid: str
    floor_bytes: int = 2_000_000_000
    #: Connections in all, and from an address that is no peer's.
    max_associations: int = 200
    max_unknown_associations: int = 16


def serve(
    settings: ReceiveSettings,
    stop: threading.Event,
    *,
    listening: Callable[[int], None] | None = None,
) -> None:
    """Receive until ``stop`` is set; then finish what is being stored and return.

    Parameters
    ----------
    listening
        Called once with the port when connections are taken.

    Raises
    ------
    PortInUseError
        Another program has the port.
    LedgerError
        The ledger is missing or at another revision.
    """
    raise NotImplementedError

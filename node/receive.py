"""The receiver: what a sender is told Success for is whole on disk and in the ledger."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import AllStoragePresentationContexts

from node.arrival import Arrival, Destination
from node.command_set import StoreRequest
from node.commitment import PUSH_MODEL, take_report
from node.confirm import record_report
from node.doorman import AllowedPeer, Doorman, GuardedServer, address_of
from node.ledger.engine import Engine, open_ledger
from node.listening import Sockets
from node.quiet import quiet_libraries
from node.recorder import Recorder
from node.task import Reception, Resending

VERIFICATION = "1.2.840.10008.1.1"
#: Little endian, native or compressed. Deflated and big endian are not offered: the first lets a
#: few bytes become gigabytes, the second is retired.
TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
)

_LARGEST_PDU = 1 << 18
_GRACE_SECONDS = 5.0


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
    #: Connections in all, from one peer's address, and from an address that is no peer's.
    max_associations: int = 200
    max_peer_associations: int = 64
    max_unknown_associations: int = 16
    #: How an object is sent again that its destination does not keep.
    resending: Resending = field(default_factory=Resending)


def serve(
    settings: ReceiveSettings,
    sockets: Sockets,
    stop: threading.Event,
    *,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Receive until ``stop`` is set; then finish what is being stored and return.

    Parameters
    ----------
    sockets
        What to take connections from, closed at the end in this process; other receivers may
        take from the same.
    ready
        Called once when connections are taken.

    Raises
    ------
    LedgerError
        The ledger is missing or at another revision.
    """
    quiet_libraries()
    with sockets:
        engine = open_ledger(settings.database)
        try:
            with _server(settings, sockets.plain, engine) as server:
                loop = threading.Thread(target=partial(server.serve_forever, 0.2), name="receiver")
                loop.start()
                ready()
                stop.wait()
                server.shutdown()
                loop.join()
                server.finish(_GRACE_SECONDS)
        finally:
            engine.dispose()


def _server(settings: ReceiveSettings, listening: socket.socket, engine: Engine) -> GuardedServer:
    doorman = Doorman(
        ae_titles=settings.ae_titles,
        peers=settings.peers,
        accept_unknown=settings.accept_unknown,
        max_associations=settings.max_associations,
        max_peer_associations=settings.max_peer_associations,
        max_unknown_associations=settings.max_unknown_associations,
    )
    entity = _entity(settings)
    destination = Destination(
        recorder=Recorder(engine),
        data=settings.data,
        floor_bytes=settings.floor_bytes,
        device_uid=settings.device_uid,
    )
    return GuardedServer(
        entity,
        listening,
        entity.supported_contexts,
        doorman=doorman,
        begin=partial(_begun, destination=destination),
        on_commitment=partial(on_commitment, settings=settings, engine=engine),
    )


def _entity(settings: ReceiveSettings) -> ApplicationEntity:
    entity = ApplicationEntity(settings.ae_titles[0])
    entity.maximum_associations = settings.max_associations
    entity.maximum_pdu_size = _LARGEST_PDU
    entity.acse_timeout = 10
    entity.dimse_timeout = 30
    entity.network_timeout = 30
    entity.add_supported_context(VERIFICATION)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), list(TRANSFER_SYNTAXES))
    # In its report the peer that opens the association is the SCP (PS3.4 J.3.3).
    entity.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    return entity


def on_commitment(event: evt.Event, name: str, *, settings: ReceiveSettings, engine: Engine) -> int:
    """Return the status for a report of storage commitment by the peer called ``name``."""
    return take_report(
        event, lambda report: record_report(engine, name, report, resending=settings.resending)
    )


def _begun(
    association: Association, request: StoreRequest, syntax: str, *, destination: Destination
) -> Arrival:
    """Return the beginning of one arrival, with who sends it."""
    asked = cast(A_ASSOCIATE, association.requestor.primitive)
    reception = Reception(
        called_ae=str(asked.called_ae_title),
        calling_ae=str(asked.calling_ae_title),
        address=address_of(association),
        at=datetime.now(UTC),
    )
    return Arrival(request, syntax, reception, destination)

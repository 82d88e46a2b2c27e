"""The receiver: what a sender is told Success for is whole on disk and in the ledger."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
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

from node.arrival import Arrival
from node.command_set import StoreRequest
from node.commitment import PUSH_MODEL, take_report
from node.confirm import record_report
from node.doorman import AllowedPeer, Doorman, GuardedServer, address_of
from node.intake import Intake
from node.keeping import Keeping
from node.ledger.engine import Engine, open_ledger
from node.listening import Sockets
from node.proposals import Proposals
from node.quiet import quiet_libraries
from node.recorder_link import LinkEnd, RecorderLink
from node.slots import Slots
from node.store_scp import StoreScp
from node.task import Reception, Resending
from node.tls import TlsSettings, server_context

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
    #: None: connections are plain.
    tls: TlsSettings | None = None
    floor_bytes: int = 2_000_000_000
    #: Refuse what contradicts itself, instead of keeping what says whose and which it is.
    strict: bool = True
    #: Connections in all, from one peer's address, and from an address that is no peer's.
    max_associations: int = 200
    max_peer_associations: int = 64
    max_unknown_associations: int = 16
    #: Processes like this one, which take connections from the same sockets.
    receivers: int = 1
    #: How an object is sent again that its destination does not keep.
    resending: Resending = field(default_factory=Resending)


def serve(
    settings: ReceiveSettings,
    sockets: Sockets,
    stop: threading.Event,
    recorder: LinkEnd,
    *,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Receive until ``stop`` is set; then finish what is being stored and return.

    Parameters
    ----------
    sockets
        What to take connections from, closed at the end in this process; other receivers may
        take from the same.
    recorder
        The end of a link to who keeps what has come; closed at the end.
    ready
        Called once when connections are taken.

    Raises
    ------
    LedgerError
        The ledger is missing or at another revision.
    ConfigError
        Certificate or key cannot be loaded.
    RecorderGoneError
        Nobody is at the other end of the link.
    """
    quiet_libraries()
    with ExitStack() as stack:
        stack.enter_context(sockets)
        tls = None if settings.tls is None else server_context(settings.tls)
        engine = open_ledger(settings.database)
        stack.callback(engine.dispose)
        link = stack.enter_context(closing(RecorderLink(recorder)))
        link.wait_until_ready()
        intake = stack.enter_context(closing(Intake()))
        intake.listen(link.fileno(), link.hear)
        serving = _serving(settings, engine, intake, link)
        servers = [serving(listening=sockets.plain)]
        if sockets.tls is not None and tls is not None:
            servers.append(serving(listening=sockets.tls, tls=tls))
        loops = [
            threading.Thread(target=each.serve_forever, args=(0.2,), daemon=True)
            for each in servers
        ]
        for loop in loops:
            loop.start()
        ready()
        stop.wait()
        for each, loop in zip(servers, loops, strict=True):
            each.shutdown()
            loop.join()
        deadline = time.monotonic() + _GRACE_SECONDS
        for each in servers:
            each.finish(max(0.0, deadline - time.monotonic()))


def keeping_of(settings: ReceiveSettings) -> Keeping:
    """Return how a receiver has what has come kept."""
    return Keeping(data=settings.data, device_uid=settings.device_uid, strict=settings.strict)


def _serving(
    settings: ReceiveSettings, engine: Engine, intake: Intake, recorder: RecorderLink
) -> Callable[..., GuardedServer]:
    """Return what makes a server of a socket."""
    doorman = Doorman(
        ae_titles=settings.ae_titles,
        peers=settings.peers,
        accept_unknown=settings.accept_unknown,
        max_associations=settings.max_associations,
        max_peer_associations=settings.max_peer_associations,
        max_unknown_associations=settings.max_unknown_associations,
        shares_sockets=settings.receivers > 1,
    )
    begin = partial(
        _begun, data=settings.data, slots=recorder.slots, floor_bytes=settings.floor_bytes
    )
    return partial(
        GuardedServer,
        _entity(settings),
        doorman=doorman,
        serve=partial(_read, begin=begin, intake=intake, recorder=recorder, proposals=Proposals()),
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


def _read(
    association: Association,
    *,
    begin: Callable[..., Arrival],
    intake: Intake,
    recorder: RecorderLink,
    proposals: Proposals,
) -> None:
    """Have an association read in the place of pynetdicom."""
    StoreScp(
        association,
        partial(begin, association),
        intake=intake,
        recorder=recorder,
        proposals=proposals,
    )


def _begun(
    association: Association,
    request: StoreRequest,
    syntax: str,
    *,
    data: Path,
    slots: Slots,
    floor_bytes: int,
) -> Arrival:
    """Return the beginning of one arrival, with who sends it."""
    asked = cast(A_ASSOCIATE, association.requestor.primitive)
    reception = Reception(
        called_ae=str(asked.called_ae_title),
        calling_ae=str(asked.calling_ae_title),
        address=address_of(association),
        at=datetime.now(UTC),
    )
    return Arrival(request, syntax, reception, data=data, slots=slots, floor_bytes=floor_bytes)

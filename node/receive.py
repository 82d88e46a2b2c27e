"""The receiver: what a sender is told Success for is whole on disk and in the ledger."""

import hashlib
import logging
import re
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
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import AllStoragePresentationContexts

from dicom_io.errors import DicomInputError
from dicom_io.header import read_header
from dicom_io.part10 import part10_head
from dicom_io.structure import Structure, read_structure
from node.commitment import PUSH_MODEL, take_report
from node.confirm import record_report
from node.doorman import AllowedPeer, Doorman, GuardedServer, address_of
from node.errors import StorageFullError
from node.ledger import instances
from node.ledger.engine import DBAPIError, Engine, open_ledger
from node.ledger.instances import Added
from node.listening import Sockets
from node.quiet import quiet_libraries
from node.store import write_durably
from node.task import Reception, Resending

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
#: PS3.4 Table B.2-1 and PS3.7 C.4, C.5.
PROCESSING_FAILURE = 0x0110
INVALID_SOP_INSTANCE = 0x0117
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

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

#: PS3.5 9.1, but leading zeros are let pass: old scanners write them, and they harm nothing.
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")
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
    #: Most bytes of data sets that have come and are not stored yet, of all senders together.
    max_held_bytes: int = 1 << 32
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
        max_held_bytes=settings.max_held_bytes,
    )
    entity = _entity(settings)
    return GuardedServer(
        entity,
        listening,
        entity.supported_contexts,
        doorman=doorman,
        on_store=partial(on_c_store, settings=settings, engine=engine),
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


def on_c_store(event: evt.Event, *, settings: ReceiveSettings, engine: Engine) -> int:
    """Return the status for one C-STORE; 0x0000 only for what is durable and in the ledger."""
    # Never raises: pynetdicom would answer 0xC211, which tells the sender never to try again.
    try:
        return _receive(event, settings, engine)
    except DicomInputError as error:
        return _refused(event, CANNOT_UNDERSTAND, f"{type(error).__name__}: {error}")
    except StorageFullError as error:
        logger.error("no room to receive: free some", extra={"event": "store_full"})  # noqa: TRY400
        return _refused(event, OUT_OF_RESOURCES, str(error))
    except (OSError, MemoryError, DBAPIError) as error:
        return _refused(event, OUT_OF_RESOURCES, type(error).__name__)
    except Exception as error:  # noqa: BLE001 (an entry point: nothing above it decides)
        # Without the traceback: its messages may quote a patient's values.
        return _refused(event, PROCESSING_FAILURE, type(error).__name__)


def _receive(event: evt.Event, settings: ReceiveSettings, engine: Engine) -> int:
    request = cast(C_STORE, event.request)
    class_uid, instance_uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    if request.DataSet is None:
        return _refused(event, CANNOT_UNDERSTAND, "no data set")
    encoded = request.DataSet.getvalue()
    syntax = str(event.context.transfer_syntax)
    structure = read_structure(encoded, syntax)
    status = _identity_status(structure, class_uid, instance_uid)
    if status != SUCCESS:
        return _refused(event, status, "identity")
    content = part10_head(class_uid, instance_uid, syntax) + encoded
    stored = write_durably(settings.data, content, floor_bytes=settings.floor_bytes)
    instance = read_header(stored.path)
    reception = _reception(event)
    if settings.device_uid in structure.device_uids:
        instances.add_ours(engine, instance, reception, sha256=stored.sha256)
        return SUCCESS
    meaning = instances.add(
        engine,
        instance,
        reception,
        sha256=stored.sha256,
        pixels_sha256=_pixels_sha256(encoded, structure),
    )
    if meaning is Added.CONFLICT:
        logger.error(
            "two patients or studies under one UID: the study is quarantined, correct it at its "
            "source",
            extra={"event": "conflict", "study": instance.study_instance_uid},
        )
    return SUCCESS


def _identity_status(structure: Structure, class_uid: str, instance_uid: str) -> int:
    uids = structure.uids
    if not all(uids.values()):
        return CANNOT_UNDERSTAND
    if not all(map(_is_uid, (class_uid, instance_uid, *uids.values()))):
        return INVALID_SOP_INSTANCE
    if (uids["SOPClassUID"], uids["SOPInstanceUID"]) != (class_uid, instance_uid):
        return DATA_SET_MISMATCH
    return SUCCESS


def _is_uid(text: str) -> bool:
    return _UID.fullmatch(text) is not None


def _pixels_sha256(encoded: bytes, structure: Structure) -> str:
    if structure.pixels is None:
        return ""
    start, end = structure.pixels
    return hashlib.sha256(memoryview(encoded)[start:end]).hexdigest()


def _reception(event: evt.Event) -> Reception:
    request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
    return Reception(
        called_ae=str(request.called_ae_title),
        calling_ae=str(request.calling_ae_title),
        address=address_of(event.assoc),
        at=datetime.now(UTC),
    )


def _refused(event: evt.Event, status: int, reason: str) -> int:
    request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
    logger.warning(
        "instance refused",
        extra={
            "event": "instance_refused",
            "status": f"0x{status:04X}",
            "reason": reason,
            "calling_ae": str(request.calling_ae_title),
        },
    )
    return status

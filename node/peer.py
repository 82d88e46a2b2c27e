"""Associations as SCU: echo, send and single C-STOREs.

Nothing here logs a peer's data sets: what the libraries print by themselves is switched off.
"""

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import (
    PresentationContext,
    build_context,
)

from dicom_io.errors import DamagedFileError
from dicom_io.header import PARSE_ERRORS
from node.config import Peer
from node.errors import ConfigError
from node.quiet import quiet_libraries
from node.tls import client_context, handshake_words
from node.transport import Connection, Entity, HandshakeError
from node.user_identity import shown

#: Presentation contexts that fit into one association (PS3.8 9.3.2.2: odd numbers to 255).
MAX_CONTEXTS = 128
_VERIFICATION = "1.2.840.10008.1.1"
_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


class UnreachableError(ConnectionError):
    """No connection, or no association: a later try may succeed."""


class AssociationRejectedError(ConnectionError):
    """The peer refused the association for good; a person must change a setting there or here."""


class AssociationLostError(ConnectionError):
    """The association ended, or the peer did not answer in time, before a status came."""


class NoContextError(RuntimeError):
    """The peer accepted no presentation context that fits the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each part of a talk may take, in seconds."""

    connect: float = 10.0
    association: float = 15.0
    #: From the end of a request to its response.
    response: float = 60.0
    #: Silence on the wire.
    network: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What a C-ECHO found out."""

    ok: bool
    #: One sentence for an administrator.
    message: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What must be known of a file before it is offered to a peer."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The peer's answer about one file."""

    object: StoredObject
    #: C-STORE status; None if the peer accepts no presentation context that fits the file.
    status: int | None


def echo(peer: Peer, *, calling_ae: str, timeouts: Timeouts = Timeouts()) -> Echo:
    """Ask ``peer`` for a C-ECHO and say in words what came of it."""
    start = time.monotonic()
    try:
        with associate(
            peer, [build_context(_VERIFICATION)], calling_ae=calling_ae, timeouts=timeouts
        ) as association:
            status = _status_of(peer, association.send_c_echo())
    except (ConnectionError, NoContextError) as error:
        return Echo(ok=False, message=str(error), seconds=time.monotonic() - start)
    ok = status == 0x0000
    answer = "answers" if ok else f"answers the echo with status 0x{status:04X}"
    message = f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port}) {answer}"
    return Echo(ok=ok, message=message, seconds=time.monotonic() - start)


def send_files(
    peer: Peer,
    paths: Iterable[Path],
    *,
    calling_ae: str,
    progress: Callable[[int, int], None] | None = None,
    timeouts: Timeouts = Timeouts(),
) -> tuple[Sent, ...]:
    """Send the files to ``peer`` by C-STORE and return its answer about each, in order.

    Parameters
    ----------
    progress
        Called with (sent, total) after each file.

    Raises
    ------
    UnreachableError, AssociationRejectedError, AssociationLostError
        The rest of the files was not sent.
    """
    objects = [stored_object(path) for path in paths]
    sent: list[Sent] = []
    for batch in batches(objects):
        with associate(
            peer, contexts_for(batch), calling_ae=calling_ae, timeouts=timeouts
        ) as association:
            for item in batch:
                sent.append(Sent(object=item, status=_status_or_none(peer, association, item)))
                if progress is not None:
                    progress(len(sent), len(objects))
    return tuple(sent)


def stored_object(path: Path) -> StoredObject:
    """Return what the File Meta Information (PS3.10 7.1) of a file says of its object.

    Raises
    ------
    DamagedFileError
        It says nothing that can be understood.
    """
    try:
        meta = read_file_meta_info(path)
        return StoredObject(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
        )
    except PARSE_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedFileError(
            f"{path.name} has no File Meta Information that can be read (PS3.10 7.1)"
        ) from error


def batches(objects: Sequence[StoredObject]) -> Iterator[tuple[StoredObject, ...]]:
    """Cut the objects, in order, into runs whose presentation contexts fit one association."""
    batch: list[StoredObject] = []
    needed: set[tuple[str, str]] = set()
    for item in objects:
        wanted = needed | _proposals(item)
        if len(wanted) > MAX_CONTEXTS:
            yield tuple(batch)
            batch, wanted = [], _proposals(item)
        batch.append(item)
        needed = wanted
    if batch:
        yield tuple(batch)


def contexts_for(objects: Iterable[StoredObject]) -> list[PresentationContext]:
    """Return one context per pair of SOP class and transfer syntax.

    One syntax a context: offered together, a peer may choose one that is not the file's.
    """
    pairs = sorted({pair for item in objects for pair in _proposals(item)})
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


@contextmanager
def associate(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae: str,
    timeouts: Timeouts = Timeouts(),
    handlers: Sequence[evt.EventHandlerType] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """Open an association with ``peer``; release it at the end, abort it on an error.

    Parameters
    ----------
    handlers
        What to do about what the peer asks over it.
    roles
        Those that differ from the usual ones.

    Raises
    ------
    UnreachableError
        No connection, no answer in time, or a rejection that the peer calls transient.
    AssociationRejectedError
        A permanent rejection, such as an AE title that the peer does not know.
    """
    quiet_libraries()
    # Files are sent as they are, unparsed.
    _config.STORE_SEND_CHUNKED_DATASET = True
    entity = Entity(calling_ae)
    entity.connection_timeout = timeouts.connect
    entity.acse_timeout = timeouts.association
    entity.dimse_timeout = timeouts.response
    entity.network_timeout = timeouts.network
    try:
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            ext_neg=[*roles, *([] if peer.identity is None else [shown(peer.identity)])],
            tls_args=None if peer.tls is None else (client_context(peer.tls), peer.tls.host),
            evt_handlers=list(handlers),
        )
    except socket.gaierror as error:
        raise UnreachableError(f"{peer.name}: the host name {peer.host} is not known") from error
    except ConfigError as error:
        # Certificates may be just being renewed.
        raise UnreachableError(f"{peer.name}: no TLS with it: {error}") from error
    if not association.is_established:
        raise _refusal(peer, association, calling_ae=calling_ae)
    try:
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()


def store(peer: Peer, association: Association, item: StoredObject) -> int:
    """Send one object by C-STORE, byte for byte as it is in its file, and return the status.

    Where the peer accepted only the other uncompressed transfer syntax, the object is encoded
    anew for it.

    Raises
    ------
    NoContextError
        The peer accepted no fitting presentation context.
    AssociationLostError
        No status came.
    """
    if not association.is_established:
        raise AssociationLostError(f"{peer.name} ended the association")
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    }
    if (item.sop_class_uid, item.transfer_syntax_uid) in accepted:
        return _sent(peer, association, item.path)
    if accepted & _proposals(item):
        return _sent(peer, association, dcmread(item.path))
    raise NoContextError(
        f"{peer.name} accepts no presentation context for SOP class {item.sop_class_uid} "
        f"in transfer syntax {item.transfer_syntax_uid}"
    )


def _proposals(item: StoredObject) -> set[tuple[str, str]]:
    if item.transfer_syntax_uid in _UNCOMPRESSED:
        return {(item.sop_class_uid, str(syntax)) for syntax in _UNCOMPRESSED}
    return {(item.sop_class_uid, item.transfer_syntax_uid)}


def _status_or_none(peer: Peer, association: Association, item: StoredObject) -> int | None:
    try:
        return store(peer, association, item)
    except NoContextError:
        return None


def _sent(peer: Peer, association: Association, source: Path | Dataset) -> int:
    try:
        return _status_of(peer, association.send_c_store(source))
    except RuntimeError as error:  # pynetdicom's word for an association that has just ended
        raise AssociationLostError(f"{peer.name} ended the association") from error


def _status_of(peer: Peer, response: object) -> int:
    status = getattr(response, "Status", None)
    if status is None:
        raise AssociationLostError(f"{peer.name} gave no answer before the association ended")
    return int(status)


def _refusal(
    peer: Peer, association: Association, *, calling_ae: str
) -> ConnectionError | NoContextError:
    place = f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        identity = "; are user and passcode right?" if peer.identity is not None else ""
        message = f"{place} rejects {calling_ae}: {answer.reason_str}{identity}"
        permanent = answer.result == 0x01
        return AssociationRejectedError(message) if permanent else UnreachableError(message)
    if association.rejected_contexts and not association.accepted_contexts:
        return NoContextError(f"{place} accepts none of the offered presentation contexts")
    wire = association.dul.socket
    failure = wire.failure if isinstance(wire, Connection) else None
    if peer.tls is not None and isinstance(failure, HandshakeError):
        words = handshake_words(failure.__cause__ or failure, peer.tls)
        return UnreachableError(f"{place} {words}")
    if failure is not None:
        return UnreachableError(f"{place} cannot be reached: {_why_unreachable(failure)}")
    hint = ""
    if peer.tls is None:
        hint = "; does it ask for TLS at this port (tls)?"
    elif peer.tls.cert is None:
        hint = "; does it ask for a certificate of ours (tls.cert, tls.key)?"
    return UnreachableError(
        f"{place} closed the connection or did not answer the association{hint}"
    )


def _why_unreachable(failure: OSError) -> str:
    match failure:
        case ConnectionRefusedError():
            return "connection refused; does the peer run, is the port right?"
        case TimeoutError():
            return "no answer; is the host up, does a firewall stand between?"
    return str(failure.strerror or failure)

"""Who may connect to the receiver, how often, and how slowly: all of it before any work."""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socketserver import BaseServer
from typing import cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from node.commitment import PUSH_MODEL
from node.listening import BACKLOG

logger = logging.getLogger(__name__)

_VERIFICATION = "1.2.840.10008.1.1"
#: PS3.7 C.5.17.
_NOT_AUTHORIZED = 0x0124
#: PS3.8 9.3.4: rejected for good by the service user, and why.
_CALLING_UNKNOWN = (0x01, 0x01, 0x03)
_CALLED_UNKNOWN = (0x01, 0x01, 0x07)
#: One PDU may take so long, however slowly its bytes drip.
_PDU_SECONDS = 20.0
_LARGEST_REQUEST = 1 << 16
_LARGEST_PDU = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedPeer:
    """Who may connect: AE title and address together, and for what."""

    ae_title: str
    #: Host name or IP address, resolved when the receiver starts.
    host: str
    #: Its name in the configuration.
    name: str = ""
    echo: bool = True
    store: bool = True
    #: Whether it may report what it has committed itself to keep.
    commit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorman:
    """The rules of admission."""

    #: Titles that we answer to.
    ae_titles: tuple[str, ...]
    peers: tuple[AllowedPeer, ...]
    #: Admit whoever is no peer, for everything.
    accept_unknown: bool
    max_associations: int
    max_peer_associations: int
    max_unknown_associations: int
    #: Most bytes that have come and are not stored yet, of all associations together.
    max_held_bytes: int


class GuardedServer(ThreadedAssociationServer):
    """A Storage SCP that counts connections, and refuses before it spends a thread on one.

    Parameters
    ----------
    listening
        What connections are taken from; closed with the server.
    on_store
        Gives the status of a C-STORE.
    on_commitment
        Gives the status of a report of storage commitment, from the name of the peer.
    """

    request_queue_size = BACKLOG
    daemon_threads = True

    def __init__(
        self,
        entity: ApplicationEntity,
        listening: socket.socket,
        contexts: list[PresentationContext],
        *,
        doorman: Doorman,
        on_store: Callable[[evt.Event], int],
        on_commitment: Callable[[evt.Event, str], int],
    ) -> None:
        self._doorman = doorman
        self._peers = _resolved(doorman.peers)
        self._addresses = frozenset(address for _, address in self._peers)
        self._on_store = on_store
        self._on_commitment = on_commitment
        self._held: dict[Association, int] = {}
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, self._bound_reads),
            (evt.EVT_CONN_CLOSE, self._forget),
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]
        self._listening = listening
        where = listening.getsockname()
        super().__init__(entity, where, doorman.ae_titles[0], contexts, evt_handlers=handlers)

    def server_bind(self) -> None:
        """Take the socket that listens already in the place of one of its own."""
        cast(socket.socket, self.socket).close()
        self.socket = self._listening
        # Another receiver may have taken the connection that this one was woken for.
        self.socket.setblocking(False)

    def server_close(self) -> None:
        """Close the socket here; where other processes have it, it goes on to listen."""
        # Not pynetdicom's, which shuts it down for everybody.
        self._listening.close()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection that answers at once and never blocks for ever."""
        connection, address = super().get_request()
        connection.settimeout(_PDU_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(
        self,
        request: socket.socket | tuple[bytes, socket.socket],  # noqa: ARG002 (socketserver's)
        client_address: tuple[str, int] | str,
    ) -> bool:
        """Return whether one more connection from that address is within the caps."""
        address = client_address[0]
        active = self.active_associations
        if len(active) >= self._doorman.max_associations:
            return False
        same = sum(address_of(one) == address for one in active)
        known = address in self._addresses
        most = (
            self._doorman.max_peer_associations if known else self._doorman.max_unknown_associations
        )
        return same < most

    def shutdown(self) -> None:
        """Stop listening; associations go on."""
        # Not pynetdicom's, which looks for a server that the entity has started itself.
        BaseServer.shutdown(self)
        self.server_close()

    def finish(self, seconds: float) -> None:
        """Wait for the open associations, and abort those that last longer."""
        deadline = time.monotonic() + seconds
        for association in self.active_associations:
            association.join(max(0.0, deadline - time.monotonic()))
        for association in self.active_associations:
            association.abort()

    def _admit(self, event: evt.Event) -> None:
        """Reject unknown titles; take the contexts away that a peer may not use."""
        association = event.assoc
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        if request.called_ae_title not in self._doorman.ae_titles:
            _reject(association, _CALLED_UNKNOWN, "no route and not this node is called so")
            return
        peer = self._peer_of(association)
        if peer is None and not self._doorman.accept_unknown:
            _reject(association, _CALLING_UNKNOWN, "no peer of this title at this address")
        else:
            association.acceptor.supported_contexts = [
                context
                for context in association.acceptor.supported_contexts
                if _may(peer, str(context.abstract_syntax))
            ]

    def _peer_of(self, association: Association) -> AllowedPeer | None:
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        return self._peers.get((str(request.calling_ae_title), address_of(association)))

    def _bound_reads(self, event: evt.Event) -> None:
        """Replace pynetdicom's reading, which believes any length and waits for ever."""
        association = event.assoc
        wire = cast(AssociationSocket, association.dul.socket)

        def recv(count: int) -> bytearray:
            most = _LARGEST_PDU if association.is_established else _LARGEST_REQUEST
            if count > most:
                raise ConnectionAbortedError(f"a PDU of {count} bytes, at most {most} are read")
            self._hold(association, count)
            return _read(cast(socket.socket, wire.socket), count)

        wire.recv = recv  # type: ignore[method-assign, assignment]

    def _hold(self, association: Association, count: int) -> None:
        """Count what has come; end the association that asks for more than there is room for."""
        held = self._held[association] = self._held.get(association, 0) + count
        if held <= _LARGEST_PDU or sum(list(self._held.values())) <= self._doorman.max_held_bytes:
            return
        logger.warning(
            "association ended: too much is held in memory, of all senders together",
            extra={
                "event": "memory_bound",
                "address": address_of(association),
                "bytes": held,
                "most": self._doorman.max_held_bytes,
            },
        )
        raise ConnectionAbortedError(f"{held} bytes are held of one association")

    def _store(self, event: evt.Event) -> int:
        try:
            return self._on_store(event)
        finally:
            self._release(event)

    def _report(self, event: evt.Event) -> tuple[int, None]:
        peer = self._peer_of(event.assoc)
        if peer is None or not peer.commit:
            return _NOT_AUTHORIZED, None
        try:
            return self._on_commitment(event, peer.name), None
        finally:
            self._held[event.assoc] = 0

    def _release(self, event: evt.Event) -> None:
        """Take off what has been stored; all of it, if nothing waits behind it."""
        association, request = event.assoc, cast(C_STORE, event.request)
        queue = association.dimse
        if association not in self._held:
            return
        if queue.message is None and queue.msg_queue.empty():
            self._held[association] = 0
        elif request.DataSet is not None:
            # A sender that does not wait for answers fills the queue.
            self._held[association] -= request.DataSet.getbuffer().nbytes

    def _forget(self, event: evt.Event) -> None:
        self._held.pop(event.assoc, None)


def address_of(association: Association) -> str:
    """Return the IP address of the sender."""
    sender = association.requestor.address_info
    return "" if sender is None else str(sender.address)


def _may(peer: AllowedPeer | None, abstract_syntax: str) -> bool:
    """Return whether a peer may use a SOP class; None is somebody who is admitted unknown."""
    if peer is None:
        return abstract_syntax != PUSH_MODEL
    if abstract_syntax == PUSH_MODEL:
        return peer.commit
    return peer.echo if abstract_syntax == _VERIFICATION else peer.store


def _resolved(peers: Sequence[AllowedPeer]) -> dict[tuple[str, str], AllowedPeer]:
    """Return the peers by AE title and IP address."""
    found: dict[tuple[str, str], AllowedPeer] = {}
    for peer in peers:
        try:
            answers = socket.getaddrinfo(peer.host, None, type=socket.SOCK_STREAM)
        except socket.gaierror:
            logger.error(  # noqa: TRY400 (the trace of a name lookup helps nobody)
                "host of a peer is unknown: it cannot connect until the name resolves and the "
                "node is restarted",
                extra={"event": "peer_unresolved", "peer": peer.ae_title, "host": peer.host},
            )
            continue
        for answer in answers:
            found[peer.ae_title, str(answer[4][0])] = peer
    return found


def _reject(association: Association, reason: tuple[int, int, int], why: str) -> None:
    request = cast(A_ASSOCIATE, association.requestor.primitive)
    logger.warning(
        "association rejected: %s",
        why,
        extra={
            "event": "association_rejected",
            "calling_ae": str(request.calling_ae_title),
            "called_ae": str(request.called_ae_title),
            "address": address_of(association),
        },
    )
    association.acse.send_reject(*reason)
    association.kill()


def _read(connection: socket.socket, count: int) -> bytearray:
    """Return ``count`` bytes, or fewer if the sender has closed; in ``_PDU_SECONDS`` or never."""
    deadline = time.monotonic() + _PDU_SECONDS
    buffer = bytearray(count)
    filled = 0
    with memoryview(buffer) as view:
        while filled < count:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = connection.recv_into(view[filled:])
            if received == 0:
                break
            filled += received
    connection.settimeout(_PDU_SECONDS)
    return buffer[:filled] if filled < count else buffer

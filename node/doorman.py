"""Who may connect to the receiver, how often, and how slowly: all of it before any work."""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socketserver import BaseServer
from typing import cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import ThreadedAssociationServer

from node.commitment import PUSH_MODEL
from node.config import UserIdentity
from node.listening import BACKLOG
from node.user_identity import is_shown, response_to

logger = logging.getLogger(__name__)

_VERIFICATION = "1.2.840.10008.1.1"
#: PS3.7 C.5.17.
_NOT_AUTHORIZED = 0x0124
#: PS3.8 9.3.4: rejected for good by the service user, and why.
_CALLING_UNKNOWN = (0x01, 0x01, 0x03)
_CALLED_UNKNOWN = (0x01, 0x01, 0x07)
#: PS3.7 D.3.3.7: not who it should be; no reason is given.
_NOT_IDENTIFIED = (0x01, 0x02, 0x01)
#: Until a connection is read for the first time.
_FIRST_SECONDS = 20.0
_HANDSHAKE_SECONDS = 10.0
#: How long a busy receiver leaves a connection to others, for each that it has.
_WAIT_FOR_EACH, _LONGEST_WAIT = 0.002, 0.02


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
    #: What it must show with every association; None: nothing.
    identity: UserIdentity | None = None


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
    #: Whether other processes take connections from the same sockets.
    shares_sockets: bool


class GuardedServer(ThreadedAssociationServer):
    """A Storage SCP that counts connections, and refuses before it spends a thread on one.

    Parameters
    ----------
    listening
        What connections are taken from; closed with the server.
    serve
        Called for every connection, to have it read in the place of pynetdicom.
    on_commitment
        Gives the status of a report of storage commitment, from the name of the peer.
    tls
        What the handshake of every connection begins from; None: connections are plain.
    """

    request_queue_size = BACKLOG
    daemon_threads = True

    def __init__(
        self,
        entity: ApplicationEntity,
        listening: socket.socket,
        *,
        doorman: Doorman,
        serve: Callable[[Association], object],
        on_commitment: Callable[[evt.Event, str], int],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._doorman = doorman
        self._tls = tls
        #: Addresses whose handshakes are not done.
        self._shaking: list[str] = []
        self._peers = _resolved(doorman.peers)
        self._addresses = frozenset(address for _, address in self._peers)
        self._serve = serve
        self._on_commitment = on_commitment
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, self._read),
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]
        self._listening = listening
        self._contexts = {
            str(context.abstract_syntax): context for context in entity.supported_contexts
        }
        # None for pynetdicom, which would copy all of them for every connection.
        where, title = listening.getsockname(), doorman.ae_titles[0]
        super().__init__(entity, where, title, [], evt_handlers=handlers)

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
        if self._doorman.shares_sockets:
            # All of them were woken: whoever has the least to do is the first to take it.
            busy = len(self._open_associations()) + len(self._shaking)
            time.sleep(min(_LONGEST_WAIT, busy * _WAIT_FOR_EACH))
        connection, address = super().get_request()
        connection.settimeout(_FIRST_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(
        self,
        request: socket.socket | tuple[bytes, socket.socket],  # noqa: ARG002 (socketserver's)
        client_address: tuple[str, int] | str,
    ) -> bool:
        """Return whether one more connection from that address is within the caps."""
        address = client_address[0]
        present = [*map(address_of, self._open_associations()), *self._shaking]
        if len(present) >= self._doorman.max_associations:
            return False
        same = present.count(str(address))
        known = address in self._addresses
        most = (
            self._doorman.max_peer_associations if known else self._doorman.max_unknown_associations
        )
        return same < most

    def finish_request(
        self,
        request: socket.socket | tuple[bytes, socket.socket],
        client_address: tuple[str, int] | str,
    ) -> None:
        """Serve a connection, in a thread of its own; with TLS, after the handshake."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        self._shaking.append(str(client_address[0]))
        try:
            connection = cast(socket.socket, request)
            connection.settimeout(_HANDSHAKE_SECONDS)
            secure = self._tls.wrap_socket(connection, server_side=True)
        except OSError as error:
            extra = {"event": "handshake_failed", "address": client_address[0]}
            logger.warning("TLS handshake failed: %s", _why(error), extra=extra)
            self.shutdown_request(request)
        else:
            super().finish_request(secure, client_address)
        finally:
            self._shaking.remove(str(client_address[0]))

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

    def _open_associations(self) -> list[Association]:
        """Return what is open here, and at the other servers of this process."""
        return [
            thread
            for thread in threading.enumerate()
            if isinstance(thread, Association)
            and isinstance(thread._server, GuardedServer)  # noqa: SLF001 (no public name)
            and thread._server._doorman is self._doorman  # noqa: SLF001
        ]

    def _admit(self, event: evt.Event) -> None:
        """Reject unknown titles; support the contexts that a peer asks for and may use."""
        association = event.assoc
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        if request.called_ae_title not in self._doorman.ae_titles:
            _reject(association, _CALLED_UNKNOWN, "no route and not this node is called so")
            return
        peer = self._peer_of(association)
        if peer is None and not self._doorman.accept_unknown:
            _reject(association, _CALLING_UNKNOWN, "no peer of this title at this address")
        elif not _identified(association, peer):
            why = "user or passcode of this peer are missing or wrong; mend them here or there"
            _reject(association, _NOT_IDENTIFIED, why, level=logging.ERROR)
        else:
            asked = {
                str(each.abstract_syntax) for each in request.presentation_context_definition_list
            }
            association.acceptor.supported_contexts = [
                self._contexts[uid] for uid in asked & self._contexts.keys() if _may(peer, uid)
            ]

    def _peer_of(self, association: Association) -> AllowedPeer | None:
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        return self._peers.get((str(request.calling_ae_title), address_of(association)))

    def _read(self, event: evt.Event) -> None:
        """Read the connection in the place of pynetdicom."""
        self._serve(event.assoc)

    def _report(self, event: evt.Event) -> tuple[int, None]:
        peer = self._peer_of(event.assoc)
        if peer is None or not peer.commit:
            return _NOT_AUTHORIZED, None
        return self._on_commitment(event, peer.name), None


def address_of(association: Association) -> str:
    """Return the IP address of the sender."""
    sender = association.requestor.address_info
    return "" if sender is None else str(sender.address)


def _why(error: OSError) -> str:
    return str(getattr(error, "reason", "") or type(error).__name__)


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


def _identified(association: Association, peer: AllowedPeer | None) -> bool:
    """Return whether a peer shows the user identity that was agreed with it, if one was."""
    # Here and not in a handler of EVT_USER_ID, which nobody calls where none is shown at all.
    if peer is None or peer.identity is None:
        return True
    item = association.requestor.user_identity
    if not is_shown(peer.identity, item):
        return False
    if agreed := response_to(item):
        association.acceptor.add_negotiation_item(agreed)
    return True


def _reject(
    association: Association,
    reason: tuple[int, int, int],
    why: str,
    *,
    level: int = logging.WARNING,
) -> None:
    request = cast(A_ASSOCIATE, association.requestor.primitive)
    logger.log(
        level,
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

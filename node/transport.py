"""The transport connection under an association that we open (PS3.8 9.1): plain, or with TLS.

What goes wrong with it is kept, and its end is told to whoever waits for an answer.
"""

import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import _QueueItem
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu import A_RELEASE_RQ
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

logger = logging.getLogger(__name__)

#: What is read of a connection with TLS to know whether there is anything.
_CHUNK = 4096


class HandshakeError(ConnectionError):
    """There is a connection, but no TLS comes about; the cause says why."""


class Entity(ApplicationEntity):
    """An entity whose connections tell why they did not come about, and leave no socket open."""

    def _create_socket(
        self,
        assoc: Association,
        address: AddressInformation,
        tls_args: tuple[ssl.SSLContext, str] | None,
    ) -> AssociationSocket:
        connection = Connection(assoc, address, tls_args)
        assoc.dul.run = partial(_run_to_the_end, assoc.dul.run, connection)  # type: ignore[method-assign]
        return connection


def _run_to_the_end(run_reactor: Callable[[], None], connection: "Connection") -> None:
    """Run an upper layer, and leave no connection open, however it ends."""
    try:
        run_reactor()
    except InvalidEventError:
        # We asked to send when the peer had just asked to end: whoever waits was told so.
        logger.debug("the peer has ended the association", extra={"event": "association_ended"})
    finally:
        connection.close()


class Connection(AssociationSocket):
    """A connection to a peer, from its beginning to its end."""

    def __init__(
        self,
        association: Association,
        address: AddressInformation,
        tls: tuple[ssl.SSLContext, str] | None,
    ) -> None:
        super().__init__(association, address=address)
        self.tls_args = tls
        #: Why it did not come about; None while all is well.
        self.failure: OSError | None = None
        #: Read already, and not yet asked for.
        self._ahead = b""

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect, and shake hands where TLS is asked for."""
        # In the place of pynetdicom's, which says nothing of why it failed.
        address = primitive.address_info.as_tuple
        try:
            wire = self._opened(address)
        except OSError as error:
            self.failure = error
            self._shutdown_socket()
            self.socket = None
            primitive.result = "Evt17"
        else:
            here = AddressInformation.from_tuple(wire.getsockname())
            self.assoc.requestor.address_info = here
            # Where only the first to ask hears of the end, others wait for an answer in vain.
            self.assoc.dimse.msg_queue = _Messages(self.assoc._reactor_checkpoint)  # noqa: SLF001 (no public name)
            self.assoc.bind(evt.EVT_PDU_RECV, _hear_of_release)
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": address})
            primitive.result = "Evt2"
        finally:
            self.provider_queue.put(primitive)
            self._ready.set()

    @property
    def ready(self) -> bool:
        """Whether there is anything to read, be it the end of the connection."""
        if self._ahead:
            return True
        there = bool(super().ready)
        return self._look_ahead() if there and isinstance(self.socket, ssl.SSLSocket) else there

    def recv(self, nr_bytes: int) -> bytearray:
        """Return so many bytes, or fewer where the connection ended before."""
        ahead, self._ahead = self._ahead[:nr_bytes], self._ahead[nr_bytes:]
        try:
            return bytearray(ahead) + super().recv(nr_bytes - len(ahead))
        except ssl.SSLError as error:
            self._refused(error)
            raise

    def _opened(self, address: tuple[str, int] | tuple[str, int, int, int]) -> socket.socket:
        wire = cast(socket.socket, self.socket)
        wire.settimeout(self.assoc.connection_timeout)
        wire.connect(address)
        if self.tls_args is not None:
            context, name = self.tls_args
            try:
                self.socket = wire = context.wrap_socket(wire, server_hostname=name)
            except (OSError, ValueError) as error:
                raise HandshakeError(str(error)) from error
        # Without this a peer that stops reading would block a send for ever.
        wire.settimeout(self.assoc.network_timeout)
        # A small object would wait for the acknowledgment of its command, 40 ms each.
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def _look_ahead(self) -> bool:
        """Return whether there is anything for us: what arrived may be for TLS alone."""
        wire = cast(ssl.SSLSocket, self.socket)
        wire.settimeout(0)
        try:
            self._ahead = wire.recv(_CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            # A session ticket, say: to wait for more would keep back what is to be sent.
            return False
        except OSError as error:
            # Whoever reads hears of it; but not of why.
            if isinstance(error, ssl.SSLError):
                self._refused(error)
        finally:
            wire.settimeout(self.assoc.network_timeout)
        return True

    def _refused(self, error: ssl.SSLError) -> None:
        """Keep what TLS 1.3 tells late: who is refused hears of it in the place of an answer."""
        self.failure = HandshakeError(str(error))
        self.failure.__cause__ = error

    def _shutdown_socket(self) -> None:
        # pynetdicom 3.0.4 closes only what could be shut down, hence only what was connected.
        wire = self.socket
        super()._shutdown_socket()
        if wire is not None:
            wire.close()


class _Messages(queue.Queue[_QueueItem]):
    """What a peer has sent; that there will be no more is told to everyone who asks.

    Parameters
    ----------
    is_free
        Set while nobody waits for an answer. pynetdicom's own thread, which looks for requests and
        does not wait for any, may then take what is here; between its look at this and its look
        here an answer may come.
    """

    def __init__(self, is_free: threading.Event) -> None:
        super().__init__()
        self._is_free = is_free

    def get(self, block: bool = True, timeout: float | None = None) -> _QueueItem:
        item = super().get(block, timeout)
        is_for_another = not block and not self._is_free.is_set()
        if item[1] is None or is_for_another:
            self.put(item)
        if is_for_another:
            raise queue.Empty
        return item


def _hear_of_release(event: evt.Event) -> None:
    """Tell whoever waits for an answer that the peer wants to end instead."""
    if isinstance(event.pdu, A_RELEASE_RQ):
        event.assoc.dimse.msg_queue.put((None, None))

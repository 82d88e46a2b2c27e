"""C-STORE over an established association, read straight from its connection.

pynetdicom negotiates, and serves whatever else comes: it gets those PDUs as they were. Its own way
leads each message through three queues and two threads, which sleep between two looks at them.
"""

import logging
import select
import socket
import sys
import time
from typing import cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from node.command_set import StoreRequest, store_response
from node.commitment import PUSH_MODEL
from node.messages import Begin, Messages
from node.upper_layer import P_DATA, ProtocolError, Wire, data_pdu, pdu_head

logger = logging.getLogger(__name__)

#: Between two PDUs.
_IDLE_SECONDS = 30.0
#: How soon it is noticed, while nothing comes, that pynetdicom has something to send or to end.
_LOOK_SECONDS = 0.25
_LARGEST_REQUEST = 1 << 16
_LARGEST_PDU = 1 << 20
#: Established, and neither side has asked for its end (PS3.8 9.2.1).
_ESTABLISHED = "Sta6"
#: Ended by either side; only the connection is still open.
_ENDED = "Sta13"
#: A PDU is invalid (PS3.8 table 9-10).
_INVALID = "Evt19"
#: Verification, and storage commitment.
_NO_STORAGE = ("1.2.840.10008.1.1", PUSH_MODEL)


class StoreScp:
    """Reads one association, in the thread of its upper layer and in the place of pynetdicom.

    Parameters
    ----------
    association
        Whose connection is open, and which nobody has read from yet.
    begin
        Called for every C-STORE request.
    """

    def __init__(self, association: Association, begin: Begin) -> None:
        self._association = association
        self._begin = begin
        self._dul = association.dul
        self._transport = cast(AssociationSocket, self._dul.socket)
        self._wire = Wire(cast(socket.socket, self._transport.socket))
        self._poll = select.poll()
        self._poll.register(self._wire.fileno(), select.POLLIN)
        self._messages: Messages | None = None
        self._read_for_pynetdicom = self._dul._read_pdu_data  # noqa: SLF001 (no public hook)
        self._run_reactor = self._dul.run
        self._dul.run = self._run  # type: ignore[method-assign]
        self._transport.recv = self._bounded  # type: ignore[method-assign, assignment]
        self._dul._read_pdu_data = self.read  # type: ignore[method-assign]  # noqa: SLF001

    def read(self) -> None:
        """Take what comes until pynetdicom has something to do; called when bytes are there."""
        state = self._dul.state_machine.current_state
        if state == _ENDED:
            # Whoever goes on to send after the end would be listened to until a timer ends it.
            self._transport.close()
            return
        if state != _ESTABLISHED:
            self._read_for_pynetdicom()
            return
        # The association's own thread has nothing to do meanwhile, and would look all the time.
        checkpoint = self._association._reactor_checkpoint  # noqa: SLF001 (no public hook)
        checkpoint.clear()
        try:
            while self._take_pdu() and self._wait():
                pass
        except (ProtocolError, MemoryError) as error:
            self._tell_end(str(error), is_breach=True)
            self._dul.event_queue.put(_INVALID)
        except OSError as error:
            self._tell_end(str(error) or type(error).__name__, is_breach=False)
            self._transport.close()
        finally:
            checkpoint.set()

    def _run(self) -> None:
        """Run the upper layer to its end, and leave nothing behind, however it ends."""
        try:
            self._run_reactor()
        except Exception as error:  # noqa: BLE001 (the loop of one association: it ends alone)
            # pynetdicom's, of what comes in an order that it did not foresee.
            self._tell_end(type(error).__name__, is_breach=True)
        finally:
            self._drop_message()
            # pynetdicom closes no socket whose other side is gone already.
            self._wire.close()
            # Whoever waits for a request to associate would wait on, and count, for seconds.
            self._dul.to_user_queue.put(None)

    def _drop_message(self) -> None:
        if self._messages is not None:
            self._messages.close()

    def _bounded(self, count: int) -> bytearray:
        """Return bytes for pynetdicom, which would believe any length and wait for ever."""
        if count > _LARGEST_REQUEST and self._dul.state_machine.current_state != _ESTABLISHED:
            raise ConnectionAbortedError(f"a PDU of {count} bytes before an association")
        return bytearray(self._wire.exactly(count))

    def _take_pdu(self) -> bool:
        """Take one PDU; return whether pynetdicom has nothing to do with it."""
        head = self._wire.head(_IDLE_SECONDS)
        if head is None:
            raise ConnectionResetError("closed by the peer")
        kind, length = head
        if length > _LARGEST_PDU:
            raise ProtocolError(f"a PDU of {length} bytes, at most {_LARGEST_PDU} are read")
        body = self._wire.body(length)
        if kind == P_DATA:
            others = self._taking().take(body)
        else:
            self._drop_message()
            others = [pdu_head(kind, length) + bytes(body)]
        for pdu in others:
            self._wire.give_back(pdu)
            self._read_for_pynetdicom()
        return not others

    def _taking(self) -> Messages:
        if self._messages is None:
            storable = {
                int(context.context_id or 0): str(context.transfer_syntax[0])
                for context in self._association.accepted_contexts
                if context.as_scp and context.abstract_syntax not in _NO_STORAGE
            }
            self._messages = Messages(storable, self._begin, self._answer)
        return self._messages

    def _answer(self, request: StoreRequest, context_id: int, status: int) -> None:
        self._wire.send(data_pdu(context_id, store_response(request, status)))
        sys.audit("pellucid.receive.answered")

    def _wait(self) -> bool:
        """Return whether there is more to read; False when pynetdicom has something to do."""
        deadline = time.monotonic() + _IDLE_SECONDS
        while not self._is_wanted_elsewhere():
            if self._wire.is_pending() or self._poll.poll(_LOOK_SECONDS * 1000):
                return True
            if time.monotonic() > deadline:
                raise ProtocolError(f"nothing came for {_IDLE_SECONDS:.0f} s")
        return False

    def _is_wanted_elsewhere(self) -> bool:
        has_to_send = not self._dul.to_provider_queue.empty()
        ends = self._association._kill or self._dul._kill_thread  # noqa: SLF001 (no public hook)
        return has_to_send or ends

    def _tell_end(self, reason: str, *, is_breach: bool) -> None:
        amid = self._messages is not None and self._messages.is_amid
        self._drop_message()
        if amid or is_breach:
            logger.warning(
                "association ended: %s",
                reason,
                extra={"event": "association_broken", "amid_a_message": amid},
            )

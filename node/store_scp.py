"""C-STORE over an established association, read straight from its connection.

pynetdicom negotiates, and serves whatever else comes: it gets those PDUs as they were. Its own way
leads each message through three queues and two threads, which sleep between two looks at them.
"""

import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import cast

from pynetdicom.association import Association
from pynetdicom.pdu import PDU
from pynetdicom.transport import AssociationSocket

from node.arrival import Arrival
from node.command_set import StoreRequest, store_response
from node.commitment import PUSH_MODEL
from node.intake import Intake
from node.landed import Landed
from node.messages import Messages, Whole
from node.proposals import Proposals
from node.recorder_link import RecorderLink
from node.upper_layer import (
    A_ASSOCIATE_RQ,
    A_RELEASE_RQ,
    P_DATA,
    ProtocolError,
    Wire,
    data_pdu,
    pdu_head,
)

logger = logging.getLogger(__name__)

_LARGEST_REQUEST = 1 << 16
#: Established, and neither side has asked for its end (PS3.8 9.2.1).
_ESTABLISHED = "Sta6"
#: Ended by either side; only the connection is still open.
_ENDED = "Sta13"
#: An A-ASSOCIATE-RQ PDU has come, a PDU is invalid (PS3.8 table 9-10).
_PROPOSED = "Evt6"
_INVALID = "Evt19"
#: PS3.7 9.1.1.1: a request to store that no data set follows.
_NOTHING_SENT = 0xC000
#: Verification, and storage commitment.
_NO_STORAGE = ("1.2.840.10008.1.1", PUSH_MODEL)

#: Begins to take one instance, which is encoded in that transfer syntax.
BeginArrival = Callable[[StoreRequest, str], Arrival]


class StoreScp:
    """Has one association read in the place of pynetdicom, whose thread waits meanwhile.

    Parameters
    ----------
    association
        Whose connection is open, and which nobody has read from yet.
    begin
        Called for every C-STORE request.
    intake, recorder
        Who reads, and who has what has come kept.
    proposals
        What was proposed before is not decoded anew.
    """

    def __init__(
        self,
        association: Association,
        begin: BeginArrival,
        *,
        intake: Intake,
        recorder: RecorderLink,
        proposals: Proposals,
    ) -> None:
        self._association = association
        self._begin = begin
        self._intake = intake
        self._recorder = recorder
        self._proposals = proposals
        self._dul = association.dul
        self._transport = cast(AssociationSocket, self._dul.socket)
        self.wire = Wire(cast(socket.socket, self._transport.socket))
        self._messages: Messages[Arrival] | None = None
        self._unanswered = 0
        #: For the thread of the upper layer: PDUs for pynetdicom, a failure that ends the
        #: association; or None: pynetdicom has something to do.
        self._tasks: SimpleQueue[list[bytes] | Exception | None] = SimpleQueue()
        self._read_for_pynetdicom = self._dul._read_pdu_data  # noqa: SLF001 (no public hook)
        self._decode_for_pynetdicom = self._dul._decode_pdu  # noqa: SLF001 (no public hook)
        self._run_reactor = self._dul.run
        self._dul.run = self._run  # type: ignore[method-assign]
        self._transport.recv = self._bounded  # type: ignore[method-assign, assignment]
        self._dul._read_pdu_data = self.read  # type: ignore[method-assign]  # noqa: SLF001
        self._dul._decode_pdu = self._decoded  # type: ignore[method-assign, assignment]  # noqa: SLF001

    def read(self) -> None:
        """Have the association read until pynetdicom has something to do."""
        state = self._dul.state_machine.current_state
        if state == _ENDED:
            # Whoever goes on to send after the end would be listened to until a timer ends it.
            self._transport.close()
            return
        if state != _ESTABLISHED:
            self._read_for_pynetdicom()
            return
        if not self._dul.event_queue.empty():
            # It takes one at a time, and one of them may end the association, or be answered.
            return
        # The association's own thread has nothing to do meanwhile, and would look all the time.
        checkpoint = self._association._reactor_checkpoint  # noqa: SLF001 (no public hook)
        checkpoint.clear()
        try:
            self._do(self._wait_for_task())
        finally:
            checkpoint.set()

    def take(self, kind: int, body: memoryview) -> bool:
        """Take a PDU; see ``Served``."""
        if kind != P_DATA:
            self._drop_message()
            self._leave(kind, pdu_head(kind, len(body)) + bytes(body))
            return False
        others, whole = self._taking().take(body)
        if others:
            self._leave_to_pynetdicom(others)
        elif whole:
            self._intake.drop(self)
            self._unanswered = len(whole)
            for each in whole:
                self._pass_on(each)
        return not others and not whole

    def is_wanted(self) -> bool:
        """Return whether pynetdicom has something to send or to end."""
        has_to_send = not self._dul.to_provider_queue.empty()
        ends = self._association._kill or self._dul._kill_thread  # noqa: SLF001 (no public hook)
        return has_to_send or ends

    def end(self, failure: Exception | None) -> None:
        """Wake the thread of the upper layer."""
        self._tasks.put(failure)

    def _decoded(self, pdu: bytearray) -> tuple[PDU, str]:
        """Return a PDU for pynetdicom, and what its state machine calls the event."""
        # In an association that is established it is a breach, and may be far longer.
        is_breach = self._dul.state_machine.current_state == _ESTABLISHED
        if pdu[0] != A_ASSOCIATE_RQ or is_breach:
            return self._decode_for_pynetdicom(pdu)
        return self._proposals.decoded(bytes(pdu)), _PROPOSED

    def _wait_for_task(self) -> list[bytes] | Exception | None:
        """Have the association read; return what there is to do then."""
        self.wire.wait_no_more()
        self._intake.read(self)
        task = self._tasks.get()
        self.wire.wait_again()
        return task

    def _do(self, task: list[bytes] | Exception | None) -> None:
        match task:
            case None:
                pass
            case list():
                for pdu in task:
                    self.wire.give_back(pdu)
                    self._read_for_pynetdicom()
            case OSError():
                self._tell_end(str(task) or type(task).__name__, is_breach=False)
                self._transport.close()
            case _:
                # Others than ours may quote what was sent.
                why = str(task) if isinstance(task, ProtocolError) else type(task).__name__
                self._tell_end(why, is_breach=True)
                self._dul.event_queue.put(_INVALID)

    def _leave(self, kind: int, pdu: bytes) -> None:
        if kind != A_RELEASE_RQ:
            self._leave_to_pynetdicom([pdu])
            return
        # When an association has ended in good order, all that came over it is in its place.
        self._intake.drop(self)
        self._recorder.await_filed(lambda _: self._tasks.put([pdu]))

    def _leave_to_pynetdicom(self, pdus: list[bytes]) -> None:
        self._intake.drop(self)
        self._tasks.put(pdus)

    def _pass_on(self, whole: Whole[Arrival]) -> None:
        if whole.arriving is None:
            self._answer(whole, _NOTHING_SENT)
            return
        landed = whole.arriving.land()
        if isinstance(landed, Landed):
            self._recorder.keep(landed, partial(self._answer, whole))
        else:
            self._answer(whole, landed)

    def _answer(self, whole: Whole[Arrival], status: int) -> None:
        """Answer a request, and read on if it was the last; never raises."""
        if whole.arriving is not None:
            # Not before: as long as it is open, no failure to write it out is forgotten.
            whole.arriving.close()
        try:
            response = store_response(whole.request, status)
            self.wire.send(data_pdu(whole.context_id, response))
            sys.audit("pellucid.receive.answered")
            self._unanswered -= 1
            if not self._unanswered:
                self._intake.read(self)
        except Exception as error:  # noqa: BLE001 (this association ends, and no other)
            self.end(error)

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
            self.wire.close()
            # Whoever waits for a request to associate would wait on, and count, for seconds.
            self._dul.to_user_queue.put(None)

    def _drop_message(self) -> None:
        if self._messages is not None:
            self._messages.close()

    def _bounded(self, count: int) -> bytearray:
        """Return bytes for pynetdicom, which would believe any length and wait for ever."""
        if count > _LARGEST_REQUEST and self._dul.state_machine.current_state != _ESTABLISHED:
            raise ConnectionAbortedError(f"a PDU of {count} bytes before an association")
        return bytearray(self.wire.exactly(count))

    def _taking(self) -> Messages[Arrival]:
        if self._messages is None:
            storable = {
                int(context.context_id or 0): str(context.transfer_syntax[0])
                for context in self._association.accepted_contexts
                if context.as_scp and context.abstract_syntax not in _NO_STORAGE
            }
            self._messages = Messages(storable, self._begin)
        return self._messages

    def _tell_end(self, reason: str, *, is_breach: bool) -> None:
        amid = self._messages is not None and self._messages.is_amid
        self._drop_message()
        if amid or is_breach:
            logger.warning(
                "association ended: %s",
                reason,
                extra={"event": "association_broken", "amid_a_message": amid},
            )

"""Storage commitment on the wire: asking a peer to keep objects for good, and reading its answer.

PS3.4 J: the request is an N-ACTION, the answer an N-EVENT-REPORT, on the same association or on
one that the peer opens.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context

from dicom_io.encode.inherit import sop_reference
from node.config import Peer
from node.peer import AssociationLostError, Timeouts, associate
from node.task import CommitmentReport, Confirmation

logger = logging.getLogger(__name__)

#: Storage Commitment Push Model SOP Class and its one instance (PS3.4 J.3.5).
PUSH_MODEL = "1.2.840.10008.1.20.1"
_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST = 1

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT = 0x0115


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRequest:
    """Objects that a peer is asked to keep, under one number."""

    transaction_uid: str
    objects: tuple[Confirmation, ...]
    #: How long the association is kept open for an answer; later the peer opens its own.
    linger_seconds: float = 2.0


def request_commitment(
    peer: Peer,
    request: CommitmentRequest,
    *,
    calling_ae: str,
    timeouts: Timeouts,
    on_report: Callable[[CommitmentReport], bool],
) -> int:
    """Ask ``peer`` to keep objects and return its status; wait a moment for the answer.

    Parameters
    ----------
    on_report
        Takes a report that comes over the same association and returns whether it was asked for.

    Raises
    ------
    UnreachableError, AssociationRejectedError, AssociationLostError, NoContextError
        The request was not answered.
    """
    replying, answered = threading.Event(), threading.Event()

    def on_event(event: evt.Event) -> tuple[int, None]:
        return take_report(event, on_report), None

    def on_message(event: evt.Event) -> None:
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            replying.set()

    def on_sent(_event: evt.Event) -> None:
        # Only now may the association be released: a release overtakes what is still to be sent.
        if replying.is_set():
            answered.set()

    with associate(
        peer,
        [build_context(PUSH_MODEL)],
        calling_ae=calling_ae,
        timeouts=timeouts,
        handlers=[
            (evt.EVT_N_EVENT_REPORT, on_event),
            (evt.EVT_DIMSE_SENT, on_message),
            (evt.EVT_PDU_SENT, on_sent),
        ],
    ) as association:
        answer, _ = association.send_n_action(_content(request), _REQUEST, PUSH_MODEL, _INSTANCE)
        status = getattr(answer, "Status", None)
        if status is None:
            raise AssociationLostError(f"{peer.name} did not answer the request for commitment")
        if status == SUCCESS:
            answered.wait(request.linger_seconds)
    return int(status)


def take_report(event: evt.Event, on_report: Callable[[CommitmentReport], bool]) -> int:
    """Return the status for an N-EVENT-REPORT; success only for what is recorded.

    Never raises: pynetdicom would answer with a status of its own.
    """
    request = cast(N_EVENT_REPORT, event.request)
    if request.EventTypeID not in (1, 2):
        return NO_SUCH_EVENT_TYPE
    try:
        report = _report(event.event_information)
    except Exception:  # noqa: BLE001 (whatever was sent: it is no report)
        return INVALID_ARGUMENT
    try:
        return SUCCESS if on_report(report) else INVALID_ARGUMENT
    except Exception:  # an entry point: the peer may try again
        extra = {"event": "report_not_recorded", "transaction": report.transaction_uid}
        logger.exception("a report of commitment could not be recorded", extra=extra)
        return PROCESSING_FAILURE


def _content(request: CommitmentRequest) -> Dataset:
    """Return the action information (PS3.4 Table J.3-1)."""
    content = Dataset()
    content.TransactionUID = request.transaction_uid
    content.ReferencedSOPSequence = DicomSequence(
        sop_reference(each.sop_class_uid, each.sop_instance_uid) for each in request.objects
    )
    return content


def _report(content: Dataset) -> CommitmentReport:
    """Return the event information (PS3.4 Table J.3-2); an object in both lists has failed."""
    failed = {
        str(item.ReferencedSOPInstanceUID): _reason(item)
        for item in content.get("FailedSOPSequence") or ()
    }
    committed = (
        str(item.ReferencedSOPInstanceUID) for item in content.get("ReferencedSOPSequence") or ()
    )
    return CommitmentReport(
        transaction_uid=str(content.TransactionUID),
        committed=tuple(uid for uid in committed if uid not in failed),
        failed=failed,
    )


def _reason(item: Dataset) -> int | None:
    reason = item.get("FailureReason")
    return None if reason is None else int(reason)

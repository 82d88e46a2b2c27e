"""A PACS that commits itself to keep objects: at once, later, over which association, or never."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from types import TracebackType
from typing import Self

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from node.quiet import quiet_libraries

_INSTANCE = "1.2.840.10008.1.20.1.1"


class Where(StrEnum):
    """Over which association a report comes."""

    SAME = "same"
    OTHER = "other"
    NEVER = "never"


class CommittingPacs:
    """A Storage and Storage Commitment SCP on loopback.

    Parameters
    ----------
    failure
        From SOP Instance UID to the failure reason; None commits.
    status
        Of the N-ACTION.
    lists
        Whether it lists an object, by SOP Instance UID; None: it takes no query.
    most
        Most objects in the answer to one query.
    """

    def __init__(
        self,
        where: Where = Where.NEVER,
        *,
        failure: Callable[[str], int | None] = lambda uid: None,
        status: int = 0x0000,
        offers_commitment: bool = True,
        lists: Callable[[str], bool] | None = None,
        most: int = 100,
    ) -> None:
        self.where = where
        self.failure = failure
        self.status = status
        self.port = 0
        #: Port of the node, to report to.
        self.node_port = 0
        self.stored: Counter[str] = Counter()
        #: Transaction UID and SOP Instance UIDs of each request.
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        #: Status that each report was answered with; None if it could not be made.
        self.answers: list[int | None] = []
        self._offers = offers_commitment
        self._lists = lists
        self._most = most
        #: SOP Instance UIDs asked for by each query; empty for all of a series.
        self.queries: list[str] = []
        self.query_status = 0x0000
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        quiet_libraries()
        entity = AE("KEEPER")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax)
        if self._offers:
            entity.add_supported_context(StorageCommitmentPushModel)
        if self._lists is not None:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers = [
            (evt.EVT_C_STORE, self._keep),
            (evt.EVT_N_ACTION, self._asked),
            (evt.EVT_C_FIND, self._find),
        ]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for thread in self._threads:
            thread.join(20)
        self._server.shutdown()

    def report(self, transaction_uid: str, uids: tuple[str, ...], *, title: str = "KEEPER") -> None:
        """Report over an association of its own."""
        entity = AE(title)
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate(
            "127.0.0.1", self.node_port, ae_title="PELLUCID", ext_neg=[role]
        )
        if not association.is_established:
            self.answers.append(None)
            return
        self._send(association, transaction_uid, uids)
        association.release()

    def _keep(self, event: evt.Event) -> int:
        self.stored[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        wanted = event.identifier
        self.queries.append(str(wanted.SOPInstanceUID or ""))
        if self.query_status != 0x0000:
            yield self.query_status, None
            return
        asked = [self.queries[-1]] if self.queries[-1] else list(self.stored)
        for uid in [uid for uid in asked if uid in self.stored and self._lists(uid)][: self._most]:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.StudyInstanceUID = wanted.StudyInstanceUID
            match.SeriesInstanceUID = wanted.SeriesInstanceUID
            match.SOPInstanceUID = uid
            yield 0xFF00, match

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        content = event.action_information
        uids = tuple(str(item.ReferencedSOPInstanceUID) for item in content.ReferencedSOPSequence)
        transaction_uid = str(content.TransactionUID)
        self.requests.append((transaction_uid, uids))
        if self.status == 0x0000 and self.where is Where.SAME:
            self._start(self._send, event.assoc, transaction_uid, uids)
        elif self.status == 0x0000 and self.where is Where.OTHER:
            self._start(self.report, transaction_uid, uids)
        return self.status, None

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _send(self, association: Association, transaction_uid: str, uids: tuple[str, ...]) -> None:
        content = Dataset()
        content.TransactionUID = transaction_uid
        reasons = {uid: self.failure(uid) for uid in uids}
        content.ReferencedSOPSequence = [_item(u) for u, why in reasons.items() if why is None]
        failed = [_item(u, why) for u, why in reasons.items() if why is not None]
        if failed:
            content.FailedSOPSequence = failed
        if not content.ReferencedSOPSequence:
            del content.ReferencedSOPSequence
        answer, _ = association.send_n_event_report(
            content, 2 if failed else 1, StorageCommitmentPushModel, _INSTANCE
        )
        self.answers.append(getattr(answer, "Status", None))


def _item(uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    item.ReferencedSOPInstanceUID = uid
    if reason is not None:
        item.FailureReason = reason
    return item

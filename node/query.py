"""What a PACS lists and holds: queries by C-FIND, documents by C-GET (PS3.4 C.4)."""

from collections.abc import Sequence

from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.presentation import build_context, build_role

from node.config import Peer
from node.peer import AssociationLostError, Timeouts, associate

#: Study Root Query/Retrieve Information Model - FIND and - GET.
_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_PENDING = (0xFF00, 0xFF01)


class QueryFailedError(ConnectionError):
    """The PACS answered a query with a failure; a later try may succeed."""


def find(
    peer: Peer, identifier: Dataset, *, calling_ae: str, timeouts: Timeouts
) -> tuple[Dataset, ...]:
    """Return the matches for a Study Root query.

    Raises
    ------
    QueryFailedError
        Its status is no success.
    UnreachableError, AssociationRejectedError, AssociationLostError, NoContextError
        It could not be asked.
    """
    found = []
    with associate(
        peer, [build_context(_FIND)], calling_ae=calling_ae, timeouts=timeouts
    ) as association:
        for answer, match in association.send_c_find(identifier, _FIND):
            status = getattr(answer, "Status", None)
            if status is None:
                raise AssociationLostError(f"{peer.name} did not answer a query")
            if status in _PENDING and match is not None:
                found.append(match)
            elif status not in (0x0000, *_PENDING):
                raise QueryFailedError(f"{peer.name} cannot answer a query (0x{status:04X})")
    return tuple(found)


def listed(
    peer: Peer, series: tuple[str, str], *, only: str = "", calling_ae: str, timeouts: Timeouts
) -> frozenset[str]:
    """Return the SOP Instance UIDs that ``peer`` lists in a series.

    Parameters
    ----------
    series
        Study Instance UID and Series Instance UID.
    only
        SOP Instance UID to ask for; empty for all.

    Raises
    ------
    ConnectionError, NoContextError
        As ``find``.
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = series
    identifier.SOPInstanceUID = only
    matches = find(peer, identifier, calling_ae=calling_ae, timeouts=timeouts)
    return frozenset(str(match.get("SOPInstanceUID", "")) for match in matches)


def fetch_series(
    peer: Peer,
    series: tuple[str, str],
    sop_classes: Sequence[str],
    *,
    calling_ae: str,
    timeouts: Timeouts,
) -> tuple[Dataset, ...]:
    """Return the instances of a series by C-GET (PS3.4 C.4.3), those of some SOP classes alone.

    They are kept in memory: this is for documents.

    Raises
    ------
    QueryFailedError
        Its status is no success.
    UnreachableError, AssociationRejectedError, AssociationLostError, NoContextError
        It could not be asked.
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = series
    found = []

    def keep(event: evt.Event) -> int:
        found.append(event.dataset)
        return 0x0000

    with associate(
        peer,
        [build_context(_GET), *(build_context(uid) for uid in sop_classes)],
        calling_ae=calling_ae,
        timeouts=timeouts,
        handlers=[(evt.EVT_C_STORE, keep)],
        roles=[build_role(uid, scp_role=True) for uid in sop_classes],
    ) as association:
        for answer, _ in association.send_c_get(identifier, _GET):
            status = getattr(answer, "Status", None)
            if status is None:
                raise AssociationLostError(f"{peer.name} did not answer a retrieval")
            # Of other SOP classes it could not send anything: a warning (PS3.4 Table C.4-3).
            if status not in (0x0000, 0xB000, *_PENDING):
                raise QueryFailedError(f"{peer.name} cannot retrieve (0x{status:04X})")
    return tuple(found)

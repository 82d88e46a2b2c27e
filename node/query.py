"""What a PACS lists: queries by C-FIND (PS3.4 C.4.1)."""

from pydicom import Dataset
from pynetdicom.presentation import build_context

from node.config import Peer
from node.peer import AssociationLostError, Timeouts, associate

#: Study Root Query/Retrieve Information Model - FIND.
_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
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

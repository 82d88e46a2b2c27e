"""What a destination's answer means for the object that was sent: one table for every wire."""

from dataclasses import dataclass
from enum import StrEnum

#: PS3.7 C.5: the peer has the object already.
_DUPLICATE = 0x0111
#: PS3.7 C.4: kept in spite of attributes out of range or unknown to the peer.
_KEPT_WITH_WARNING = (0x0001, 0x0107, 0x0116)
#: PS3.7 C.5: processing failure and resource limitation may pass.
_TEMPORARY = (0x0110, 0x0213)


class Fate(StrEnum):
    """What becomes of a delivery after a try."""

    DELIVERED = "delivered"
    #: It may succeed later.
    POSTPONED = "postponed"
    #: The destination will never take this object as it is.
    REFUSED = "refused"
    #: A person must change a setting, here or there.
    PARKED = "parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one object."""

    fate: Fate
    #: DIMSE status, or the failure or warning reason of STOW-RS; None if there was none.
    status: int | None = None
    #: In words; empty if all is well.
    reason: str = ""


def keeps(status: int) -> bool:
    """Return whether a peer that answers a C-STORE so has the object (PS3.4 B.2.3, PS3.7 C)."""
    return status in (0x0000, _DUPLICATE, *_KEPT_WITH_WARNING) or 0xB000 <= status <= 0xBFFF


def answer_of(status: int) -> Answer:
    """Return what a C-STORE status means (PS3.4 B.2.3, PS3.7 C).

    The reasons in an answer to STOW-RS are of the same values (PS3.18 I.2.2).
    """
    if keeps(status):
        return Answer(fate=Fate.DELIVERED, status=status)
    if 0xA700 <= status <= 0xA7FF or status in _TEMPORARY:
        reason = f"no resources there now (0x{status:04X})"
        return Answer(fate=Fate.POSTPONED, status=status, reason=reason)
    return Answer(fate=Fate.REFUSED, status=status, reason=f"refused for good (0x{status:04X})")

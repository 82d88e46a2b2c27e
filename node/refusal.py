"""What a sender is told whose instance is not taken, and why, in the log: no value of a patient."""

import logging

from dicom_io.errors import DicomInputError
from node.errors import StorageFullError
from node.ledger.engine import DBAPIError
from node.task import Reception

logger = logging.getLogger(__name__)

#: PS3.4 Table B.2-1 and PS3.7 C.4, C.5.
PROCESSING_FAILURE = 0x0110
INVALID_SOP_INSTANCE = 0x0117
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


def refused_for(error: Exception, reception: Reception) -> int:
    """Return the status for what has failed."""
    match error:
        case DicomInputError():
            return refused(CANNOT_UNDERSTAND, f"{type(error).__name__}: {error}", reception)
        case StorageFullError():
            logger.error("no room to receive: free some", extra={"event": "store_full"})
            return refused(OUT_OF_RESOURCES, str(error), reception)
        case OSError() | MemoryError() | DBAPIError():
            return refused(OUT_OF_RESOURCES, type(error).__name__, reception)
        case _:
            # Without the traceback: its messages may quote a patient's values.
            return refused(PROCESSING_FAILURE, type(error).__name__, reception)


def refused(status: int, reason: str, reception: Reception) -> int:
    """Return the status, and log it."""
    logger.warning(
        "instance refused",
        extra={
            "event": "instance_refused",
            "status": f"0x{status:04X}",
            "reason": reason,
            "calling_ae": reception.calling_ae,
        },
    )
    return status

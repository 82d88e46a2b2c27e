"""One instance on its way in: from the first byte of its data set to the status that answers it."""

import logging
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_io.errors import DamagedFileError, DicomInputError
from dicom_io.header import identify
from dicom_io.part10 import data_set_start, part10_head
from dicom_io.pixel_hash import pixels_sha256
from dicom_io.structure import (
    Structure,
    StructureError,
    read_structure,
    without_character_set,
)
from dicom_io.study import Instance
from node.command_set import StoreRequest
from node.errors import StorageFullError
from node.ledger.engine import DBAPIError
from node.ledger.instances import Added, Arrived
from node.steps import Steps
from node.store import Part, Stored
from node.task import Reception

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
#: Stored, although the data set is not what its SOP class asks for (PS3.4 Table B.2-1).
KEPT_AS_IT_IS = 0xB007
#: PS3.4 Table B.2-1 and PS3.7 C.4, C.5.
PROCESSING_FAILURE = 0x0110
INVALID_SOP_INSTANCE = 0x0117
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

#: PS3.5 9.1, but leading zeros are let pass: old scanners write them, and they harm nothing.
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where what arrives goes."""

    #: The data folder, which holds the store.
    data: Path
    #: Free space that must remain.
    floor_bytes: int
    #: Our Device UID: what carries it comes from here.
    device_uid: str
    #: Refuse what contradicts itself; if not, it is kept and marked where it still says whose and
    #: which it is.
    strict: bool


class Arrival:
    """One instance, written to disk while it comes; what is not whole at the end leaves nothing.

    Written, then kept, then concluded when the ledger has it; closed, whatever happens.

    Parameters
    ----------
    request
        What the command set announces.
    transfer_syntax_uid
        Of the presentation context.
    reception
        Who sends it, and when.
    """

    def __init__(
        self,
        request: StoreRequest,
        transfer_syntax_uid: str,
        reception: Reception,
        destination: Destination,
    ) -> None:
        self._request = request
        self._syntax = transfer_syntax_uid
        self._reception = reception
        self._destination = destination
        self._part: Part | None = None
        self._failure: Exception | None = None
        uids = (request.sop_class_uid, request.sop_instance_uid)
        if all(map(_is_uid, uids)):
            self._try_to_write(part10_head(*uids, transfer_syntax_uid))

    @property
    def size(self) -> int:
        """How many bytes are written so far."""
        return 0 if self._part is None else self._part.size

    def write(self, content: memoryview) -> None:
        """Take the next piece of its data set; never raises."""
        if self._part is not None and self._failure is None:
            self._try_to_write(content)

    def begin_to_sync(self) -> None:
        """Have the disk begin with what is here, which is all; what keeps it waits for less."""
        if self._part is not None:
            self._part.begin_to_sync()

    def keeping(self) -> Steps[Arrived | int]:
        """Return it when it is durable, or the status that refuses it; never raises."""
        try:
            sys.audit("pellucid.receive.arrived")
            return (yield from self._kept())
        except Exception as error:  # noqa: BLE001 (an entry point: nothing above it decides)
            return self._refused_for(error)

    def conclude(self, arrived: Arrived, meaning: Added | Exception) -> int:
        """Return the status, from what the ledger has made of it: a success only if it is there."""
        if isinstance(meaning, Exception):
            return self._refused_for(meaning)
        instance = arrived.instance
        if meaning is Added.CONFLICT:
            logger.error(
                "two patients or studies under one UID: the study is quarantined, correct it at "
                "its source",
                extra={"event": "conflict", "study": instance.study_instance_uid},
            )
        if not instance.nonconformance:
            return SUCCESS
        self._tell_nonconformance(instance, meaning)
        return KEPT_AS_IT_IS

    def close(self) -> None:
        """Leave nothing of what was not kept."""
        part, self._part = self._part, None
        if part is not None:
            part.close()

    def _try_to_write(self, content: bytes | memoryview) -> None:
        try:
            if self._part is None:
                destination = self._destination
                self._part = Part(destination.data, floor_bytes=destination.floor_bytes)
            self._part.write(content)
        except (OSError, MemoryError) as error:
            # The sender goes on, and hears of it when it awaits its answer.
            self._failure = error

    def _kept(self) -> Steps[Arrived | int]:
        if self._failure is not None:
            raise self._failure
        if self._part is None:
            return self._refused(INVALID_SOP_INSTANCE, "identity")
        with (
            self._part.mapped() as content,
            content[data_set_start(content) :] as data_set,
        ):
            structure, wrong = self._walked(data_set)
        status = _identity_status(structure, self._request)
        if status != SUCCESS:
            unread = wrong and status == CANNOT_UNDERSTAND
            return self._refused(status, wrong if unread else "identity")
        yield
        stored = yield from self._part.keeping()
        return Arrived(
            instance=self._identified(structure, stored, wrong),
            reception=self._reception,
            sha256=stored.sha256,
            pixels_sha256=pixels_sha256,
            is_ours=self._destination.device_uid in structure.device_uids,
        )

    def _walked(self, data_set: memoryview) -> tuple[Structure, str]:
        """Return what a data set holds, and what is wrong with it, which a strict node refuses."""
        try:
            return read_structure(data_set, self._syntax), ""
        except StructureError as error:
            if self._destination.strict or error.found is None:
                raise
            return error.found, str(error)

    def _identified(self, structure: Structure, stored: Stored, wrong: str) -> Instance:
        """Return what it is, with what is wrong with it."""
        try:
            instance = identify(structure, transfer_syntax_uid=self._syntax, path=stored.path)
        except DamagedFileError as error:
            if self._destination.strict:
                raise
            # Of a text that is no ASCII it can then be seen that it cannot be read.
            plain = without_character_set(structure)
            instance = identify(plain, transfer_syntax_uid=self._syntax, path=stored.path)
            wrong = wrong or str(error)
        return replace(instance, nonconformance=wrong) if wrong else instance

    def _tell_nonconformance(self, instance: Instance, meaning: Added) -> None:
        logger.warning(
            "instance does not conform: it is kept and no route runs on it; have its sender mend "
            "it and send it again",
            extra={
                "event": "instance_nonconformant",
                "study": instance.study_instance_uid,
                "instance": instance.sop_instance_uid,
                "reason": instance.nonconformance,
                "meaning": meaning,
                "calling_ae": self._reception.calling_ae,
            },
        )

    def _refused_for(self, error: Exception) -> int:
        match error:
            case DicomInputError():
                return self._refused(CANNOT_UNDERSTAND, f"{type(error).__name__}: {error}")
            case StorageFullError():
                logger.error("no room to receive: free some", extra={"event": "store_full"})
                return self._refused(OUT_OF_RESOURCES, str(error))
            case OSError() | MemoryError() | DBAPIError():
                return self._refused(OUT_OF_RESOURCES, type(error).__name__)
            case _:
                # Without the traceback: its messages may quote a patient's values.
                return self._refused(PROCESSING_FAILURE, type(error).__name__)

    def _refused(self, status: int, reason: str) -> int:
        logger.warning(
            "instance refused",
            extra={
                "event": "instance_refused",
                "status": f"0x{status:04X}",
                "reason": reason,
                "calling_ae": self._reception.calling_ae,
            },
        )
        return status


def _identity_status(structure: Structure, request: StoreRequest) -> int:
    uids = structure.uids
    if not all(uids.values()):
        return CANNOT_UNDERSTAND
    if not all(map(_is_uid, uids.values())):
        return INVALID_SOP_INSTANCE
    announced = (request.sop_class_uid, request.sop_instance_uid)
    if (uids["SOPClassUID"], uids["SOPInstanceUID"]) != announced:
        return DATA_SET_MISMATCH
    return SUCCESS


def _is_uid(text: str) -> bool:
    return _UID.fullmatch(text) is not None

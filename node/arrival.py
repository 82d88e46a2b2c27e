"""One instance on its way in: into memory if it is small, into a file while it comes if not."""

import re
import sys
from contextlib import closing
from pathlib import Path

from dicom_io.part10 import part10_head
from node.command_set import StoreRequest
from node.landed import Landed
from node.part import Part
from node.refusal import INVALID_SOP_INSTANCE, refused, refused_for
from node.room import require_room
from node.slots import PartInMemory, Slots
from node.task import Reception

#: PS3.5 9.1, but leading zeros are let pass: old scanners write them, and they harm nothing.
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")


class Arrival:
    """One instance, from the first byte of its data set to the last.

    Written, then landed; closed, whatever happens: what has not come whole leaves nothing.

    Parameters
    ----------
    request
        What the command set announces.
    transfer_syntax_uid
        Of the presentation context.
    reception
        Who sends it, and when.
    data
        The data folder, which holds the store.
    slots
        Memory for what is small, as long as there is some.
    floor_bytes
        Free space that must remain.
    """

    def __init__(
        self,
        request: StoreRequest,
        transfer_syntax_uid: str,
        reception: Reception,
        *,
        data: Path,
        slots: Slots,
        floor_bytes: int,
    ) -> None:
        self._request = request
        self._syntax = transfer_syntax_uid
        self._reception = reception
        self._data = data
        self._slots = slots
        self._floor_bytes = floor_bytes
        self._part: Part | PartInMemory | None = None
        self._failure: Exception | None = None
        uids = (request.sop_class_uid, request.sop_instance_uid)
        if all(map(is_uid, uids)):
            self._try_to_write(part10_head(*uids, transfer_syntax_uid))

    def write(self, content: memoryview) -> None:
        """Take the next piece of its data set; never raises."""
        if self._part is not None and self._failure is None:
            self._try_to_write(content)

    def land(self) -> Landed | int:
        """Return what has come whole, or the status that refuses it; never raises."""
        try:
            sys.audit("pellucid.receive.landed")
            return self._landed()
        except Exception as error:  # noqa: BLE001 (an entry point: nothing above it decides)
            return refused_for(error, self._reception)

    def close(self) -> None:
        """Leave nothing of what has not landed."""
        part, self._part = self._part, None
        if part is not None:
            part.close()

    def _try_to_write(self, content: bytes | memoryview) -> None:
        try:
            self._with_room(len(content)).write(content)
        except (OSError, MemoryError) as error:
            # The sender goes on, and hears of it when it awaits its answer.
            self._failure = error

    def _with_room(self, count: int) -> Part | PartInMemory:
        """Return its part, which has room for so many bytes more."""
        if self._part is None:
            self._part = self._begun()
        if isinstance(self._part, PartInMemory) and not self._part.has_room(count):
            small, self._part = self._part, None
            with closing(small):
                self._part = Part(self._data, floor_bytes=self._floor_bytes)
                self._part.write(small.content)
        return self._part

    def _begun(self) -> Part | PartInMemory:
        require_room(self._data, self._floor_bytes)
        slot = self._slots.take()
        if slot is None:
            return Part(self._data, floor_bytes=self._floor_bytes)
        return PartInMemory(self._slots, slot)

    def _landed(self) -> Landed | int:
        if self._failure is not None:
            raise self._failure
        if self._part is None:
            return refused(INVALID_SOP_INSTANCE, "identity", self._reception)
        return Landed(
            sop_class_uid=self._request.sop_class_uid,
            sop_instance_uid=self._request.sop_instance_uid,
            transfer_syntax_uid=self._syntax,
            reception=self._reception,
            part=self._part.finish(),
        )


def is_uid(text: str) -> bool:
    """Return whether a text can be a UID."""
    return _UID.fullmatch(text) is not None

"""The command sets of C-STORE (PS3.7 9.3.1), in and out: always implicit VR little endian."""

import struct
from dataclasses import dataclass

_C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_HEAD = struct.Struct("<HHL")
_NUMBER = struct.Struct("<HHLH")
#: Elements of group 0000.
_CLASS, _FIELD, _MESSAGE_ID, _ANSWERED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET, _STATUS, _INSTANCE = 0x0800, 0x0900, 0x1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A C-STORE request, as its command set announces the data set."""

    message_id: int
    #: As they were sent, unchecked, without padding.
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command set of any service."""

    elements: dict[int, bytes]

    @property
    def is_complete(self) -> bool:
        """Whether it says which command it is, and whether a data set follows (PS3.7 E.1)."""
        return {_FIELD, _DATA_SET} <= self.elements.keys()

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return _number(self.elements.get(_DATA_SET, b"")) != _NO_DATA_SET

    @property
    def store_request(self) -> StoreRequest | None:
        """The C-STORE request that it is; None for anything else."""
        if _number(self.elements.get(_FIELD, b"")) != _C_STORE_REQUEST:
            return None
        return StoreRequest(
            message_id=_number(self.elements.get(_MESSAGE_ID, b"")),
            sop_class_uid=_text(self.elements.get(_CLASS, b"")),
            sop_instance_uid=_text(self.elements.get(_INSTANCE, b"")),
            has_data_set=self.has_data_set,
        )


def read_command(encoded: bytes) -> Command | None:
    """Return a command set; None if its lengths do not fit."""
    elements: dict[int, bytes] = {}
    position = 0
    while position + _HEAD.size <= len(encoded):
        group, element, length = _HEAD.unpack_from(encoded, position)
        start, position = position + _HEAD.size, position + _HEAD.size + length
        if group != 0 or position > len(encoded):
            return None
        elements[element] = encoded[start:position]
    return Command(elements=elements) if position == len(encoded) else None


def store_response(request: StoreRequest, status: int) -> bytes:
    """Return the command set that answers a C-STORE request (PS3.7 table 9.3-2)."""
    elements = b"".join(
        (
            _uid(_CLASS, request.sop_class_uid),
            _NUMBER.pack(0, _FIELD, 2, _C_STORE_RESPONSE),
            _NUMBER.pack(0, _ANSWERED_ID, 2, request.message_id),
            _NUMBER.pack(0, _DATA_SET, 2, _NO_DATA_SET),
            _NUMBER.pack(0, _STATUS, 2, status),
            _uid(_INSTANCE, request.sop_instance_uid),
        )
    )
    return _HEAD.pack(0, 0, 4) + struct.pack("<L", len(elements)) + elements


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode("latin-1")
    value += b"\0" * (len(value) % 2)
    return _HEAD.pack(0, element, len(value)) + value


def _number(value: bytes) -> int:
    return int.from_bytes(value[:2], "little")


def _text(value: bytes) -> str:
    # Latin-1 keeps every byte: what is no UID is refused, and answered as it came.
    return value.decode("latin-1").strip(" \0")

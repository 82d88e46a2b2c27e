"""The head of a DICOM file: preamble, prefix and file meta information."""

import struct

from dicom_io.uids import named_uid

#: This program as the writer of files (PS3.10 7.1). No version name beside it: the same instance
#: must become the same bytes, whoever sends it and whichever version of ours receives it.
IMPLEMENTATION_CLASS_UID = named_uid("pellucid implementation class")

#: Where the value of the first element lies: behind preamble, prefix and the element's own head.
_GROUP_LENGTH = 128 + 4 + 8


def part10_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return what stands before a data set in a file (PS3.10 7.1), always explicit VR."""
    elements = b"".join(
        (
            struct.pack("<HH2s2xI2s", 0x0002, 0x0001, b"OB", 2, b"\x00\x01"),
            _uid(0x0002, sop_class_uid),
            _uid(0x0003, sop_instance_uid),
            _uid(0x0010, transfer_syntax_uid),
            _uid(0x0012, IMPLEMENTATION_CLASS_UID),
        )
    )
    group_length = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements))
    return b"".join((bytes(128), b"DICM", group_length, elements))


def data_set_start(content: bytes | memoryview) -> int:
    """Return where the data set begins, in bytes, behind a head that ``part10_head`` has made."""
    (length,) = struct.unpack_from("<I", content, _GROUP_LENGTH)
    return _GROUP_LENGTH + 4 + int(length)


def _uid(element: int, uid: str) -> bytes:
    # PS3.5 9.1: an odd length is filled up by one null.
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(value)) + value

"""The structure of an encoded data set, walked before anyone trusts it: lengths, depth, pixels.

Walks the bytes themselves, without recursion and without decoding a value, so that neither deep
nesting nor false lengths reach a parser that would believe them.
"""

import struct
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dicom_io.errors import DicomInputError

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

#: A longer value is no criterion of a route.
LONGEST_VALUE = 4096
_MOST_DEPTH = 32
_MOST_ELEMENTS = 500_000
_UNDEFINED = 0xFFFFFFFF
#: VRs with a four-byte length in explicit VR (PS3.5 7.1.2).
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR",
                   b"UT", b"UV"))  # fmt: skip
#: The others of explicit VR.
_SHORT = frozenset((b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS",
                    b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL",
                    b"US"))  # fmt: skip
_PLAIN_HEAD = struct.Struct("<HH2sH")
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXELS = frozenset((0x7FE00008, 0x7FE00009))
_SPECIFIC_CHARACTER_SET = 0x00080005
_CONTRIBUTING_EQUIPMENT = 0x0018A001
_DEVICE_UID = 0x00181002

#: Groups and tags whose elements are looked at one by one, whatever their VR.
_NOT_PLAIN = frozenset((0xFFFE, 0x7FE0, _CONTRIBUTING_EQUIPMENT, _DEVICE_UID))

_WANTED = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00280002: "SamplesPerPixel",
    0x00280004: "PhotometricInterpretation",
    0x00280008: "NumberOfFrames",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280100: "BitsAllocated",
}


class StructureError(DicomInputError):
    """An encoded data set contradicts itself: a length, a nesting or its pixel data."""

    #: What was found up to there.
    found: "Structure | None" = None


class Element(NamedTuple):
    """One element of the data set itself, in none of its sequences."""

    tag: int
    #: As it is written; empty in implicit VR.
    representation: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What the walk has found; nothing in it is checked but its place."""

    #: Keyword to text, for the four UIDs that identify the instance.
    uids: dict[str, str]
    #: Every Device UID, of the equipment and of the contributing equipment.
    device_uids: frozenset[str]
    #: Start and end of the value of the pixel data; None if there is none.
    pixels: tuple[int, int] | None
    #: What stands before the pixel data, but sequences and values of more than 4096 bytes.
    elements: tuple[Element, ...]


@dataclass(slots=True, kw_only=True)
class _Walk:
    encoded: bytes | memoryview
    position: int = 0
    elements: int = 0
    found: list[Element] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)
    device_uids: set[str] = field(default_factory=set)
    pixels: tuple[int, int] | None = None
    #: Where encapsulated pixel data starts, while the walk is in it.
    pixels_start: int = 0
    open: list["_Container"] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Container:
    #: ``data set``, ``sequence`` or ``fragments``.
    kind: str
    #: Where it must end, or where its parent must if its own length is undefined.
    limit: int
    defined: bool
    explicit: bool


def read_structure(encoded: bytes | memoryview, transfer_syntax_uid: str) -> Structure:
    """Return what identifies an encoded data set whose every length fits its place.

    Parameters
    ----------
    encoded
        The data set as it came, little endian, without file meta information.
    transfer_syntax_uid
        Implicit VR for ``1.2.840.10008.1.2``, else explicit VR (PS3.5 A.1, A.2, A.4).

    Raises
    ------
    StructureError
        A length leads out of its parent, nesting is deeper than 32, there are more than 500 000
        elements, a container is not closed, or native pixel data is shorter than its description.
        It holds what was found until then.
    """
    explicit = transfer_syntax_uid != IMPLICIT_LITTLE_ENDIAN
    walk = _Walk(encoded=encoded)
    walk.open.append(
        _Container(kind="data set", limit=len(encoded), defined=True, explicit=explicit)
    )
    try:
        while walk.open:
            _plain(walk)
            _step(walk)
        if transfer_syntax_uid in (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN):
            _require_pixels(walk)
    except StructureError as error:
        error.found = _found(walk)
        raise
    return _found(walk)


def without_character_set(structure: Structure) -> Structure:
    """Return what was found as if it did not say in which characters its texts are written."""
    kept = tuple(each for each in structure.elements if each.tag != _SPECIFIC_CHARACTER_SET)
    return replace(structure, elements=kept)


def _found(walk: _Walk) -> Structure:
    names = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    return Structure(
        uids={name: _text(walk.values.get(name, b"")) for name in names},
        device_uids=frozenset(walk.device_uids),
        pixels=walk.pixels,
        elements=tuple(walk.found),
    )


def _plain(walk: _Walk) -> None:
    """Walk the elements that ``_step`` would find nothing special in, as far as they go.

    They are most of what a data set holds before its pixels.
    """
    container, encoded = walk.open[-1], walk.encoded
    if container.kind != "data set" or not container.explicit:
        return
    is_outermost, limit = len(walk.open) == 1, container.limit
    while walk.position + _PLAIN_HEAD.size <= limit and walk.elements < _MOST_ELEMENTS:
        group, number, representation, length = _PLAIN_HEAD.unpack_from(encoded, walk.position)
        start, tag = walk.position + _PLAIN_HEAD.size, group << 16 | number
        end = start + length
        if representation not in _SHORT or group in _NOT_PLAIN or tag in _NOT_PLAIN or end > limit:
            return
        walk.position = end
        walk.elements += 1
        if is_outermost and length <= LONGEST_VALUE:
            _remember(walk, tag, representation, bytes(encoded[start:end]))


def _step(walk: _Walk) -> None:
    container = walk.open[-1]
    if walk.position == container.limit:
        if not container.defined:
            raise StructureError(f"a {container.kind} is not closed at byte {walk.position}")
        walk.open.pop()
        return
    walk.elements += 1
    if walk.elements > _MOST_ELEMENTS or len(walk.open) > _MOST_DEPTH:
        raise StructureError(
            f"more than {_MOST_ELEMENTS} elements or {_MOST_DEPTH} levels at byte {walk.position}"
        )
    if container.kind == "data set":
        _element(walk, container)
    else:
        _item(walk, container)


def _element(walk: _Walk, container: _Container) -> None:
    tag, representation, length = _head(walk, container)
    if tag == _ITEM_END and not container.defined:
        walk.open.pop()
        return
    if tag >> 16 == 0xFFFE:
        raise StructureError(f"a delimiter stands among elements at byte {walk.position}")
    nested = representation == b"SQ" or tag == _CONTRIBUTING_EQUIPMENT
    if length == _UNDEFINED:
        _open_undefined(walk, container, tag, representation)
    elif nested:
        explicit = _holds_explicit(container, representation)
        _open(walk, container, "sequence", length=length, explicit=explicit)
    else:
        _skip(walk, container, tag, representation, length)


def _head(walk: _Walk, container: _Container) -> tuple[int, bytes, int]:
    """Return tag, VR (empty if implicit) and length; the position is then behind them."""
    start = walk.position
    _require(start + 8 <= container.limit, "an element's head is cut", start)
    group, element = struct.unpack_from("<HH", walk.encoded, start)
    tag = group << 16 | element
    if not container.explicit or group == 0xFFFE:
        walk.position = start + 8
        return tag, b"", int(struct.unpack_from("<I", walk.encoded, start + 4)[0])
    representation = bytes(walk.encoded[start + 4 : start + 6])
    if representation not in _LONG:
        if not (representation.isalpha() and representation.isupper()):
            raise StructureError(
                f"the element at byte {start} has no VR (PS3.5 7.1.2): "
                "the transfer syntax promises explicit VR"
            )
        walk.position = start + 8
        return tag, representation, int(struct.unpack_from("<H", walk.encoded, start + 6)[0])
    _require(start + 12 <= container.limit, "an element's head is cut", start)
    walk.position = start + 12
    return tag, representation, int(struct.unpack_from("<I", walk.encoded, start + 8)[0])


def _open_undefined(walk: _Walk, container: _Container, tag: int, representation: bytes) -> None:
    if representation in (b"OB", b"OW") or (tag == _PIXEL_DATA and not representation):
        _require(tag == _PIXEL_DATA, "an undefined length outside pixel data", walk.position)
        walk.pixels_start = walk.position
        _open(walk, container, "fragments", length=None, explicit=container.explicit)
        return
    _require(representation in (b"SQ", b"UN", b""), "an undefined length", walk.position)
    explicit = _holds_explicit(container, representation)
    _open(walk, container, "sequence", length=None, explicit=explicit)


def _holds_explicit(container: _Container, representation: bytes) -> bool:
    # PS3.5 6.2.2: a sequence of unknown VR holds implicit VR.
    return container.explicit and representation != b"UN"


def _item(walk: _Walk, container: _Container) -> None:
    tag, _, length = _head(walk, container)
    if tag == _SEQUENCE_END and not container.defined:
        if container.kind == "fragments":
            walk.pixels = (walk.pixels_start, walk.position)
        walk.open.pop()
        return
    _require(tag == _ITEM, "something else stands in the place of an item", walk.position)
    if container.kind == "sequence":
        undefined = length == _UNDEFINED
        _open(
            walk,
            container,
            "data set",
            length=None if undefined else length,
            explicit=container.explicit,
        )
    else:
        _skip(walk, container, tag, b"", length)


def _open(
    walk: _Walk, container: _Container, kind: str, *, length: int | None, explicit: bool
) -> None:
    limit = container.limit if length is None else walk.position + length
    _require(limit <= container.limit, f"a {kind} is longer than its parent", walk.position)
    walk.open.append(
        _Container(kind=kind, limit=limit, defined=length is not None, explicit=explicit)
    )


def _skip(walk: _Walk, container: _Container, tag: int, representation: bytes, length: int) -> None:
    start, end = walk.position, walk.position + length
    _require(end <= container.limit, "a value is longer than its parent", start)
    walk.position = end
    if tag == _DEVICE_UID:
        walk.device_uids.add(_text(bytes(walk.encoded[start:end])))
    if len(walk.open) > 1:
        return
    if tag == _PIXEL_DATA or tag in _FLOAT_PIXELS:
        walk.pixels = (start, end)
    elif length <= LONGEST_VALUE:
        _remember(walk, tag, representation, bytes(walk.encoded[start:end]))


def _remember(walk: _Walk, tag: int, representation: bytes, value: bytes) -> None:
    if tag in _WANTED:
        walk.values[_WANTED[tag]] = value
    if walk.pixels is None:
        walk.found.append(Element(tag, representation, value))


def _require_pixels(walk: _Walk) -> None:
    """Require native pixel data to be as long as its description says (PS3.3 C.7.6.3)."""
    if walk.pixels is None or "Rows" not in walk.values:
        return
    try:
        pixels = _number(walk, "Rows") * _number(walk, "Columns") * _frames(walk)
        bits = pixels * _bits_per_pixel(walk)
    except (struct.error, ValueError) as error:
        raise StructureError("the size of the pixel data is not described by numbers") from error
    found, expected = walk.pixels[1] - walk.pixels[0], (bits + 7) // 8
    if found < expected:
        raise StructureError(f"pixel data has {found} bytes, its description asks for {expected}")


def _bits_per_pixel(walk: _Walk) -> int:
    # Two chrominance samples for every two pixels (PS3.3 C.7.6.3.1.2).
    halved = _text(walk.values.get("PhotometricInterpretation", b"")) == "YBR_FULL_422"
    samples = 2 if halved else _number(walk, "SamplesPerPixel", absent=1)
    return samples * _number(walk, "BitsAllocated", absent=32)


def _frames(walk: _Walk) -> int:
    return int(_text(walk.values.get("NumberOfFrames", b"")) or 1)


def _number(walk: _Walk, name: str, *, absent: int = 0) -> int:
    value = walk.values.get(name)
    return absent if value is None else int(struct.unpack("<H", value)[0])


def _text(value: bytes) -> str:
    return value.decode("ascii", errors="replace").strip(" \0")


def _require(holds: bool, otherwise: str, position: int) -> None:
    if not holds:
        raise StructureError(f"{otherwise} at byte {position}")

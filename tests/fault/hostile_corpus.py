"""Data sets and files that contradict themselves, one for each way, named by what is wrong.

All made by code. What is merely odd and must be taken is here too.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.build_wire import DEVICE_UID, EXPLICIT, MR_IMAGE
from tests.fault.pdu import IMPLICIT

JPEG = "1.2.840.10008.1.2.4.50"
UID, STUDY, SERIES = "1.2.3.4.1", "1.2.3", "1.2.3.4"
UNDEFINED = 0xFFFFFFFF
LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
#: Errors of the walk.
CUT, NO_VR, LONGER = "head is cut", "has no VR", "is longer than its parent"
UNCLOSED, DELIMITER = "is not closed", "a delimiter stands among elements"
NO_ITEM, TOO_MUCH = "stands in the place of an item", "more than 500000 elements or 32 levels"
OPEN_END, OPEN_BYTES = "an undefined length at", "an undefined length outside pixel data"
SHORT, NO_NUMBER = "its description asks for", "is not described by numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One encoded data set, and what must come of it."""

    name: str
    content: bytes
    syntax: str = EXPLICIT
    #: What the C-STORE request announces.
    uid: str = UID
    sop_class: str = MR_IMAGE
    #: Part of the message of the walk; None where the walk finds nothing wrong.
    error: str | None = None
    status: int = 0x0000


def element(tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
    """Return an element in explicit VR; ``length`` is what it claims."""
    claimed = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + struct.pack("<xxI" if vr in LONG else "<H", claimed) + value


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    """Return an element in implicit VR, or an item or delimiter in any."""
    claimed = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, claimed) + value


def item(value: bytes = b"", length: int | None = None) -> bytes:
    return implicit(0xFFFEE000, value, length)


ITEM_END, SEQUENCE_END = implicit(0xFFFEE00D), implicit(0xFFFEE0DD)
SEQUENCE, PIXELS = 0x00081140, 0x7FE00010
OPEN_SEQUENCE = element(SEQUENCE, "SQ", length=UNDEFINED)
OPEN_LEVEL = OPEN_SEQUENCE + item(length=UNDEFINED)
CLOSE_LEVEL = ITEM_END + SEQUENCE_END


def padded(text: str | bytes) -> bytes:
    value = text if isinstance(text, bytes) else text.encode()
    return value + b"\0" * (len(value) % 2)


def identity(**changes: str | bytes | None) -> bytes:
    """Return the four identifying UIDs in explicit VR; None leaves one out."""
    given = {"sop_class": MR_IMAGE, "uid": UID, "study": STUDY, "series": SERIES, **changes}
    tags = {"sop_class": 0x00080016, "uid": 0x00080018, "study": 0x0020000D, "series": 0x0020000E}
    return b"".join(
        element(tags[name], "UI", padded(value))
        for name, value in given.items()
        if value is not None
    )


def implicit_identity() -> bytes:
    tags = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
    values = (MR_IMAGE, UID, STUDY, SERIES)
    return b"".join(implicit(t, padded(v)) for t, v in zip(tags, values, strict=True))


def pixels(value: bytes = bytes(48), **changes: bytes | None) -> bytes:
    """Return pixel data of 4 x 6 words and its description; None leaves an element out."""
    given = {
        "samples": (0x00280002, "US", b"\1\0"),
        "photometric": (0x00280004, "CS", b"MONOCHROME2 "),
        "frames": (0x00280008, "IS", None),
        "rows": (0x00280010, "US", b"\4\0"),
        "columns": (0x00280011, "US", b"\6\0"),
        "bits": (0x00280100, "US", b"\x10\0"),
    }
    described = ((t, vr, changes.get(name, default)) for name, (t, vr, default) in given.items())
    head = b"".join(element(t, vr, one) for t, vr, one in described if one is not None)
    return head + element(PIXELS, "OW", value)


def fragments(*parts: bytes, end: bytes = SEQUENCE_END) -> bytes:
    return element(PIXELS, "OB", length=UNDEFINED) + b"".join(parts) + end


def corpus() -> list[Hostile]:
    """Return all of it."""
    return [
        *_heads(), *_lengths(), *_undefined(), *_sequences(), *_amounts(), *_fragments(),
        *_pixels(), *_identities(), *_odd_texts(), *_odd_but_right(),
    ]  # fmt: skip


def _broken(name: str, content: bytes, error: str, syntax: str = EXPLICIT) -> Hostile:
    known = implicit_identity() if syntax == IMPLICIT else identity()
    return Hostile(name=name, content=known + content, syntax=syntax, error=error, status=0xC000)


def _fine(name: str, content: bytes, syntax: str = EXPLICIT) -> Hostile:
    known = implicit_identity() if syntax == IMPLICIT else identity()
    return Hostile(name=name, content=known + content, syntax=syntax)


def _heads() -> Iterator[Hostile]:
    yield Hostile(name="nothing at all", content=b"", status=0xC000)
    for count in range(1, 8):
        short = element(0x00100010, "PN", b"AB")[:count]
        yield _broken(f"head cut after {count} bytes", short, CUT)
        short = implicit(0x00100010, b"AB")[:count]
        yield _broken(f"implicit head cut after {count} bytes", short, CUT, IMPLICIT)
    for count in range(8, 12):
        short = element(0x00100010, "UT", b"AB")[:count]
        yield _broken(f"long head cut after {count} bytes", short, CUT)
    for vr in (b"\0\0", b"ob", b"12", b"O ", b"??", b"\xff\xff", b"A\0"):
        content = struct.pack("<HH2sH", 0x10, 0x10, vr, 0)
        yield _broken(f"VR {vr!r}", content, NO_VR)
    yield _broken("implicit VR where explicit is promised", implicit(0x00100010, b"AB"), NO_VR)
    yield _broken("implicit VR in JPEG", implicit(0x00100010, b"AB"), NO_VR, JPEG)
    yield Hostile(name="text", content=b"no data set but text", error=NO_VR, status=0xC000)
    yield Hostile(name="a whole file", content=bytes(128) + b"DICM", error=NO_VR, status=0xC000)


def _lengths() -> Iterator[Hostile]:
    for excess in (1, 2, 0xFF00):
        value = element(0x00100010, "PN", b"AB", 2 + excess)
        yield _broken(f"short value {excess} bytes too long", value, LONGER)
    for claimed in (3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE):
        value = element(0x00104000, "UT", b"AB", claimed)
        yield _broken(f"long value of {claimed:#x} bytes", value, LONGER)
        value = implicit(0x00104000, b"AB", claimed)
        yield _broken(f"implicit value of {claimed:#x} bytes", value, LONGER, IMPLICIT)
    for claimed in (1, 0x7FFFFFFF, 0xFFFFFFFE):
        value = element(SEQUENCE, "SQ", length=claimed)
        yield _broken(f"sequence of {claimed:#x} bytes at the end", value, LONGER)
    yield _broken("pixel data longer than the file", element(PIXELS, "OW", b"12", 4), LONGER)


def _undefined() -> Iterator[Hostile]:
    for vr in ("OD", "OF", "OL", "OV", "SV", "UC", "UR", "UT", "UV"):
        content = element(0x00091001, vr, length=UNDEFINED) + SEQUENCE_END
        yield _broken(f"{vr} of undefined length", content, OPEN_END)
    for vr in ("OB", "OW"):
        content = element(0x00091001, vr, length=UNDEFINED) + SEQUENCE_END
        yield _broken(f"{vr} of undefined length outside pixel data", content, OPEN_BYTES)
    unknown = element(0x00091001, "UN", length=UNDEFINED)
    inner = implicit(0x00100020, b"ID")
    yield _fine("UN of undefined length", unknown + item(inner) + SEQUENCE_END)
    yield _broken("UN of undefined length, open", unknown + item(inner), UNCLOSED)
    explicit = item(element(0x00100020, "LO", b"ID"))
    yield _broken("UN with explicit VR inside", unknown + explicit + SEQUENCE_END, LONGER)
    content = implicit(SEQUENCE, length=UNDEFINED) + item(inner)
    yield _fine("implicit sequence of undefined length", content + SEQUENCE_END, IMPLICIT)
    yield _broken("implicit sequence, open", content, UNCLOSED, IMPLICIT)


def _sequences() -> Iterator[Hostile]:
    inner = element(0x00100020, "LO", b"ID")
    sequence = element(SEQUENCE, "SQ", item(inner))
    yield _fine("sequence", sequence)
    yield _fine("empty sequence", element(SEQUENCE, "SQ"))
    yield _fine("sequence of an empty item", element(SEQUENCE, "SQ", item()))
    yield _broken("item longer than its sequence", element(SEQUENCE, "SQ", item(inner, 99)), LONGER)
    cut = element(0x00100020, "LO", b"ID", 9)
    yield _broken("value longer than its item", element(SEQUENCE, "SQ", item(cut)), LONGER)
    nested = element(SEQUENCE, "SQ", item(element(SEQUENCE, "SQ", length=99)))
    yield _broken("sequence longer than its item", nested, LONGER)
    yield _broken("element in the place of an item", element(SEQUENCE, "SQ", inner), NO_ITEM)
    yield _broken("item end in a sequence", OPEN_SEQUENCE + ITEM_END, NO_ITEM)
    ended = element(SEQUENCE, "SQ", SEQUENCE_END)
    yield _broken("sequence end in a sequence of known length", ended, NO_ITEM)
    ended = element(SEQUENCE, "SQ", item(ITEM_END))
    yield _broken("item end in an item of known length", ended, DELIMITER)
    yield _broken("sequence end in an open item", OPEN_LEVEL + SEQUENCE_END, DELIMITER)
    yield _broken("item in an item", OPEN_LEVEL + item(), DELIMITER)
    yield _broken("open sequence", OPEN_SEQUENCE, UNCLOSED)
    yield _broken("open item", OPEN_LEVEL, UNCLOSED)
    yield _broken("open item in a closed one", element(SEQUENCE, "SQ", item(OPEN_LEVEL)), UNCLOSED)
    for name, one in (("item", item()), ("item end", ITEM_END), ("sequence end", SEQUENCE_END)):
        yield _broken(f"{name} among elements", one, DELIMITER)
    for count in range(1, 8):
        cut = element(SEQUENCE, "SQ", item(inner)[:count])
        yield _broken(f"item head cut after {count} bytes", cut, CUT)
    yield _broken("head cut in an item", element(SEQUENCE, "SQ", item(inner[:5])), CUT)


def _amounts() -> Iterator[Hostile]:
    yield _fine("15 levels", OPEN_LEVEL * 15 + CLOSE_LEVEL * 15)
    for levels in (16, 33, 1000, 60_000):
        content = OPEN_LEVEL * levels + CLOSE_LEVEL * levels
        yield _broken(f"{levels} levels", content, TOO_MUCH)
    yield _broken("60000 levels, open", OPEN_LEVEL * 60_000, TOO_MUCH)
    deep = b""
    for _ in range(40):
        deep = element(SEQUENCE, "SQ", item(deep))
    yield _broken("40 levels of known length", deep, TOO_MUCH)
    one = element(0x00091001, "LO")
    yield _fine("500000 elements", one * (500_000 - 4))
    yield _broken("500001 elements", one * (500_001 - 4), TOO_MUCH)
    yield _broken("500001 items", element(SEQUENCE, "SQ", item() * 500_001), TOO_MUCH)


def _fragments() -> Iterator[Hostile]:
    table, part = item(), item(b"jpeg")
    yield _fine("fragments", fragments(table, part), JPEG)
    yield _fine("fragments without one", fragments(), JPEG)
    yield _broken("fragments that do not end", fragments(table, part, end=b""), UNCLOSED, JPEG)
    yield _broken("fragment beyond the end", fragments(table, item(b"jpeg", 99)), LONGER, JPEG)
    endless = fragments(table, item(b"jpeg", UNDEFINED))
    yield _broken("fragment of undefined length", endless, LONGER, JPEG)
    among = fragments(table, element(0x00100020, "LO", b"ID"))
    yield _broken("element among fragments", among, NO_ITEM, JPEG)
    yield _broken("item end among fragments", fragments(table, ITEM_END), NO_ITEM, JPEG)
    yield _broken("fragment head cut", fragments(table, end=SEQUENCE_END[:6]), CUT, JPEG)


def _pixels() -> Iterator[Hostile]:
    yield _fine("pixel data", pixels())
    yield _fine("more pixel data than described", pixels(bytes(480)))
    for count in (0, 1, 47):
        yield _broken(f"{count} of 48 bytes of pixel data", pixels(bytes(count)), SHORT)
    yield _broken("two frames described, one there", pixels(frames=b"2 "), SHORT)
    yield _broken("2147483647 frames described", pixels(frames=b"2147483647"), SHORT)
    yield _broken("65535 rows described", pixels(rows=b"\xff\xff"), SHORT)
    yield _broken("65535 samples described", pixels(samples=b"\xff\xff"), SHORT)
    yield _broken("bits not described", pixels(bits=None), SHORT)
    yield _fine("samples not described", pixels(samples=None))
    yield _fine("no rows described", pixels(rows=None))
    halved = pixels(samples=b"\3\0", photometric=b"YBR_FULL_422", bits=b"\x08\0")
    yield _fine("chrominance halved", halved)
    for text in (b"x ", b"1e3 ", b"1.5 ", b"\xff\xff", b"1\\2 "):
        yield _broken(f"{text!r} frames", pixels(frames=text), NO_NUMBER)
    yield _broken("4096 digits of frames", pixels(frames=b"9" * 4096), SHORT)
    yield _fine("empty number of frames", pixels(frames=b""))
    for name in ("rows", "columns", "bits", "samples"):
        for value in (b"", b"\4", b"\4\0\4\0"):
            changed = pixels(**{name: value})
            yield _broken(f"{name} in {len(value)} bytes", changed, NO_NUMBER)


def _identities() -> Iterator[Hostile]:
    for name in ("sop_class", "uid", "study", "series"):
        yield Hostile(name=f"no {name}", content=identity(**{name: None}), status=0xC000)
        yield Hostile(name=f"empty {name}", content=identity(**{name: ""}), status=0xC000)
        yield Hostile(name=f"blank {name}", content=identity(**{name: "  "}), status=0xC000)
    wrong = {
        "letters": "1.2.x", "a path": "../../etc/x", "an absolute path": "/etc/passwd",
        "65 characters": "1." + "2" * 63, "two dots": "1..2", "a dot first": ".1",
        "a dot last": "1.",
        "a space within": "1. 2", "a null within": "1.\0002", "a line": "1.2\n3", "a sign": "1.-2",
    }  # fmt: skip
    for name, value in wrong.items():
        for of in ("uid", "study", "series"):
            content = identity(**{of: value})
            announced = value if of == "uid" else UID
            yield Hostile(name=f"{of} with {name}", content=content, uid=announced, status=0x0117)
    content = identity(study="1.٣".encode())
    yield Hostile(name="study in other digits", content=content, status=0x0117)
    yield Hostile(name="another uid", content=identity(uid="1.2.3.4.9"), status=0xA900)
    other = identity(sop_class="1.2.840.10008.5.1.4.1.1.2")
    yield Hostile(name="another class", content=other, status=0xA900)
    again = element(0x00080018, "UI", padded("1.2.3.4.9"))
    yield Hostile(name="two uids", content=identity() + again, status=0xA900)
    inner = element(SEQUENCE, "SQ", item(identity()))
    yield Hostile(name="identity in a sequence alone", content=inner, status=0xC000)


def _odd_texts() -> Iterator[Hostile]:
    for charset in (
        b"ISO_IR 999", b"ISO_IR 192", b"GB18030 ", b"\\ISO 2022 IR 87", b"ISO 2022 IR 149\\x",
        b"\xff\xfe\xfd\xfc", b"\\" * 100, b"ISO_IR 100\\ISO_IR 192\\ISO_IR 13 ",
    ):  # fmt: skip
        name = element(0x00100010, "PN", b"\x1b$B;3ED\x1b(B^\xe3\x81\xff\x80")
        content = element(0x00080005, "CS", padded(charset)) + name
        yield _fine(f"character set {charset!r}", content)
    for charset in (b"ISO_IR 100\\A\0\0B", b"ISO_IR 100\\\0\0\0A"):
        content = identity() + element(0x00080005, "CS", padded(charset))
        yield Hostile(name=f"character set {charset!r}", content=content, status=0xC000)
    content = identity() + element(0x00080005, "US", b"\1\0")
    yield Hostile(name="a number for a character set", content=content, status=0xC000)
    again = element(0x0020000E, "OB", padded(SERIES))
    yield Hostile(name="series again, as bytes", content=identity() + again, status=0xC000)
    yield _fine("an escape that ends nowhere", element(0x00100010, "PN", b"A\x1b$B\x1b\x1b"))
    yield _fine("nulls for a name", element(0x00100010, "PN", bytes(4096)))


def _odd_but_right() -> Iterator[Hostile]:
    yield _fine("numbers of three bytes", element(0x00280103, "US", b"123"))
    yield _fine("decimals without end", element(0x00180050, "DS", b"1" * 4000))
    yield _fine("a value of 60000 bytes", element(0x00104000, "LT", b"x" * 60_000))
    yield _fine("a group of FFFF", element(0xFFFF0001, "LO", b"ID"))
    yield _fine("a group of zero", element(0x00000000, "UL", bytes(4)))
    yield _fine("elements out of order", element(0x00100020, "LO", b"ID") + identity())
    yield _fine("a tag of two VRs", element(0x00100020, "SQ", item()))
    device = implicit(0x00181002, padded(DEVICE_UID))
    yield _fine("equipment of unknown VR", element(0x0018A001, "UN", item(device)))
    yield _fine("equipment that is a text", element(0x0018A001, "LO"))
    yield _broken("equipment that is no sequence", element(0x0018A001, "LO", b"ID"), CUT)
    yield _fine("a private element of VR ZZ", element(0x00091001, "ZZ", b"12"))

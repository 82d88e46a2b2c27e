"""PDUs as bytes (PS3.8 9.3), true or false, and a connection that sends them from any address.

Written apart from the library that the node uses: what is sent here is what is written here.
"""

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.build_wire import EXPLICIT, MR_IMAGE, VERIFICATION, encoded

APPLICATION = "1.2.840.10008.3.1.1.1"
IMPLICIT = "1.2.840.10008.1.2"
ECHO_CONTEXT, STORE_CONTEXT = 1, 3
CONTEXTS = ((ECHO_CONTEXT, VERIFICATION, (IMPLICIT,)), (STORE_CONTEXT, MR_IMAGE, (EXPLICIT,)))

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = 1, 2


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Return a PDU; ``length`` is what its head claims, the truth if None."""
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes) -> bytes:
    """Return an item of an A-ASSOCIATE PDU."""
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(
    *,
    called: str = "PELLUCID",
    calling: str = "CT1",
    contexts: Iterable[tuple[int, str, Sequence[str]]] = CONTEXTS,
    more: bytes = b"",
    largest_pdu: int = 16384,
) -> bytes:
    """Return an A-ASSOCIATE-RQ; ``more`` is put into its user information."""
    proposed = b"".join(
        item(
            0x20,
            struct.pack(">Bxxx", number)
            + item(0x30, abstract.encode())
            + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for number, abstract, syntaxes in contexts
    )
    user = item(0x51, struct.pack(">I", largest_pdu)) + item(0x52, b"2.25.1") + more
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    body = struct.pack(">Hxx", 1) + titles + bytes(32)
    return pdu(ASSOCIATE_RQ, body + item(0x10, APPLICATION.encode()) + proposed + item(0x50, user))


def user_identity(name: bytes) -> bytes:
    """Return the user identity of a user name (PS3.7 D.3.3.7)."""
    return item(0x58, struct.pack(">BBH", 1, 0, len(name)) + name + struct.pack(">H", 0))


def fragment(context: int, header: int, content: bytes, *, length: int | None = None) -> bytes:
    """Return a presentation data value."""
    claimed = len(content) + 2 if length is None else length
    return struct.pack(">IBB", claimed, context, header) + content


def command_set(elements: Mapping[int, bytes], *, group_length: int | None = None) -> bytes:
    """Return a command set (PS3.7 6.3.1) of elements of group 0000."""
    body = b"".join(
        struct.pack("<HHI", 0, number, len(value)) + value
        for number, value in sorted(elements.items())
    )
    length = len(body) if group_length is None else group_length
    return struct.pack("<HHII", 0, 0, 4, length) + body


def store_command(
    uid: str,
    *,
    sop_class: str = MR_IMAGE,
    message: int = 1,
    group_length: int | None = None,
    dataset: int = 0x0001,
) -> bytes:
    """Return the command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return command_set(
        {
            0x0002: _uid(sop_class),
            0x0100: struct.pack("<H", 0x0001),
            0x0110: struct.pack("<H", message),
            0x0700: struct.pack("<H", 0x0002),
            0x0800: struct.pack("<H", dataset),
            0x1000: _uid(uid),
        },
        group_length=group_length,
    )


def echo_command(message: int = 1) -> bytes:
    """Return the command set of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return command_set(
        {
            0x0002: _uid(VERIFICATION),
            0x0100: struct.pack("<H", 0x0030),
            0x0110: struct.pack("<H", message),
            0x0800: struct.pack("<H", 0x0101),
        }
    )


def p_data(*fragments: bytes) -> bytes:
    """Return a P-DATA-TF."""
    return pdu(P_DATA, b"".join(fragments))


def in_fragments(context: int, kind: int, content: bytes, size: int) -> list[bytes]:
    """Return P-DATA-TFs of one fragment each, the last one marked so; ``kind`` is COMMAND or 0."""
    starts = range(0, max(len(content), 1), size)
    return [
        p_data(
            fragment(
                context,
                kind | (LAST if start + size >= len(content) else 0),
                content[start : start + size],
            )
        )
        for start in starts
    ]


def store_pdus(dataset, *, message: int = 1, size: int = 8192) -> list[bytes]:
    """Return the PDUs of an honest C-STORE-RQ."""
    command = store_command(str(dataset.SOPInstanceUID), message=message)
    return [
        p_data(fragment(STORE_CONTEXT, COMMAND | LAST, command)),
        *in_fragments(STORE_CONTEXT, 0, encoded(dataset), size),
    ]


def release_rq() -> bytes:
    """Return an A-RELEASE-RQ."""
    return pdu(RELEASE_RQ, bytes(4))


def abort() -> bytes:
    """Return an A-ABORT by the service user."""
    return pdu(ABORT, bytes(4))


@dataclass(slots=True)
class Connection:
    """A TCP connection to a receiver from one of this machine's addresses."""

    port: int
    source: str = "127.0.0.1"
    seconds: float = 20.0
    wire: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.wire = socket.create_connection(
            ("127.0.0.1", self.port), timeout=self.seconds, source_address=(self.source, 0)
        )
        self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def send(self, *pdus: bytes) -> bool:
        """Send, and return whether the other side took it."""
        try:
            self.wire.sendall(b"".join(pdus))
        except (ConnectionError, TimeoutError):
            return False
        return True

    def read(self) -> tuple[int, bytes] | None:
        """Return kind and body of the next PDU, or None if the other side has closed."""
        head = self._exactly(6)
        if head is None:
            return None
        kind, length = struct.unpack(">BxI", head)
        body = self._exactly(length)
        return None if body is None else (kind, body)

    def associate(self, **claims) -> bool:
        """Ask for an association; return whether there is one."""
        if not self.send(associate_rq(**claims)):
            return False
        answer = self.read()
        return answer is not None and answer[0] == ASSOCIATE_AC

    def status(self) -> int | None:
        """Return the status of the next response, or None if the association has ended."""
        answer = self.read()
        if answer is None or answer[0] != P_DATA:
            return None
        return status_of(answer[1])

    def echo(self) -> int | None:
        """Return the status of a C-ECHO."""
        self.send(p_data(fragment(ECHO_CONTEXT, COMMAND | LAST, echo_command())))
        return self.status()

    def store(self, dataset, **how) -> int | None:
        """Return the status of an honest C-STORE."""
        self.send(*store_pdus(dataset, **how))
        return self.status()

    def release(self) -> bool:
        """Return whether a release was answered."""
        if not self.send(release_rq()):
            return False
        answer = self.read()
        return answer is not None and answer[0] == RELEASE_RP

    def until_closed(self) -> list[int]:
        """Return the kinds of all PDUs that still come until the other side closes."""
        kinds = []
        while (answer := self.read()) is not None:
            kinds.append(answer[0])
        return kinds

    def _exactly(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self.wire.recv(count - len(parts))
            except ConnectionError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)


def elements_of(command: bytes) -> dict[int, bytes]:
    """Return the elements of a command set, as far as it makes sense."""
    elements, position = {}, 0
    while position + 8 <= len(command):
        _, number, length = struct.unpack_from("<HHI", command, position)
        elements[number] = command[position + 8 : position + 8 + length]
        position += 8 + length
    return elements


def responses(body: bytes) -> dict[int, bytes]:
    """Return the command set in the body of a P-DATA-TF of one fragment."""
    return elements_of(body[6:])


def status_of(body: bytes) -> int:
    """Return the status in the body of a P-DATA-TF of one fragment."""
    return int(struct.unpack("<H", responses(body)[0x0900])[0])


def _uid(text: str) -> bytes:
    value = text.encode()
    return value + b"\0" * (len(value) % 2)

"""Seeded mutations of what real senders say, and what an answer to them may claim.

A case follows from its seed and its number alone. A written case is sent again by
``python -m tests.fault.fuzzing FILE PORT``.
"""

import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.build_wire import image, sender, store
from tests.fault.pdu import (
    ASSOCIATE_RQ,
    COMMAND,
    ECHO_CONTEXT,
    LAST,
    P_DATA,
    Connection,
    associate_rq,
    echo_command,
    elements_of,
    fragment,
    p_data,
    release_rq,
    status_of,
    store_pdus,
)
from tests.wait import until

#: Of one length, so that each case can have its own in the place of the recorded one.
RECORDED_UID = "2.25.1000000000"
#: After which a receiver is thought to wait for more.
_QUIET_SECONDS = 0.7
_LIES = (0, 1, 2, 5, 0xFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is sent over one connection, in the pieces that it is sent in."""

    number: int
    pieces: tuple[bytes, ...]
    #: Bytes of it after which the answer is awaited, as most senders do; 0 for one that does not.
    opening: int

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)


@dataclass(slots=True, kw_only=True)
class Answered:
    """What came of a case."""

    case: Case
    #: Message IDs that were answered by Success for a C-STORE.
    stored: list[int] = field(default_factory=list)
    #: Whether the receiver has closed the connection.
    closed: bool = False


def record(port: int) -> list[bytes]:
    """Return the PDUs that pynetdicom sends in an association with an echo and a C-STORE."""
    with _relay(port) as (relay, heard):
        with sender(relay) as association:
            assert association.send_c_echo().Status == 0x0000
            assert store(association, image(RECORDED_UID)) == 0x0000
        until(lambda: bytes(heard).endswith(release_rq()), seconds=20)
    return split(bytes(heard))


def fragmented() -> list[bytes]:
    """Return the PDUs of an association with two C-STOREs, in fragments of odd sizes."""
    return [
        associate_rq(),
        *store_pdus(image(RECORDED_UID), message=1, size=333),
        p_data(fragment(ECHO_CONTEXT, COMMAND | LAST, echo_command(2))),
        *store_pdus(image(RECORDED_UID, study="1.2.9"), message=3, size=1001),
        release_rq(),
    ]


def make_case(seed: int, number: int, exchanges: Sequence[Sequence[bytes]]) -> Case:
    """Return the case of that number."""
    chance = random.Random(f"{seed}:{number}")
    own = f"2.25.1{number:09d}".encode()
    pdus = [one.replace(RECORDED_UID.encode(), own) for one in chance.choice(exchanges)]
    for _ in range(chance.randint(1, 3)):
        chance.choice(_MUTATIONS)(chance, pdus)
    content = b"".join(pdus)
    opening = len(pdus[0]) if chance.random() < 0.8 else 0
    pieces = (content[:opening], *_pieces(chance, content[opening:]))
    return Case(number=number, pieces=pieces, opening=opening)


def play(case: Case, port: int, source: str) -> Answered:
    """Send a case, and hear what is answered until the receiver closes."""
    answered = Answered(case=case)
    with Connection(port, source, _QUIET_SECONDS) as connection:
        for number, piece in enumerate(case.pieces):
            if not connection.send(piece):
                break
            if number == 0 and case.opening:
                _hear(connection, answered, most=1)
        _hear(connection, answered)
        # Whoever waits for more learns that there is none.
        with suppress(OSError):
            connection.wire.shutdown(socket.SHUT_WR)
        connection.wire.settimeout(40)
        _hear(connection, answered)
    return answered


def _hear(connection: Connection, answered: Answered, *, most: int = 1000) -> None:
    """Take what is answered until nothing comes for a moment."""
    with suppress(TimeoutError):
        for _ in range(most):
            pdu = connection.read()
            if pdu is None:
                answered.closed = True
                return
            answered.stored += _stored(*pdu)


def sent_datasets(content: bytes) -> dict[int, set[bytes]]:
    """Return the data sets that a stream of PDUs carries whole, by Message ID."""
    found: dict[int, set[bytes]] = {}
    command, data = b"", b""
    for header, value in _fragments(content):
        if header & COMMAND:
            command, data = command + value, b""
        else:
            data += value
        if header & LAST and not header & COMMAND:
            found.setdefault(_message_id(command), set()).add(data)
            command = b""
        elif header & LAST and _without_data(command):
            command = b""
    return found


def split(content: bytes) -> list[bytes]:
    """Return the PDUs of a stream, by their lengths."""
    pdus, position = [], 0
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position + 2)
        pdus.append(content[position : position + 6 + length])
        position += 6 + length
    return pdus


def _flip_bits(chance: random.Random, pdus: list[bytes]) -> None:
    index = chance.randrange(len(pdus))
    changed = bytearray(pdus[index])
    reach = min(len(changed), chance.choice((8, 100, len(changed))))
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    pdus[index] = bytes(changed)


def _cut_stream(chance: random.Random, pdus: list[bytes]) -> None:
    whole = b"".join(pdus)
    pdus[:] = [whole[: chance.randint(1, len(whole))]]


def _cut_pdu(chance: random.Random, pdus: list[bytes]) -> None:
    index = chance.randrange(len(pdus))
    pdus[index] = pdus[index][: chance.randint(1, len(pdus[index]))]


def _lie_about_length(chance: random.Random, pdus: list[bytes]) -> None:
    index = chance.randrange(len(pdus))
    length = chance.choice((*_LIES, len(pdus[index]) - 7, len(pdus[index]) - 5))
    pdus[index] = pdus[index][:2] + struct.pack(">I", max(length, 0)) + pdus[index][6:]


def _lie_within(chance: random.Random, pdus: list[bytes]) -> None:
    index = chance.randrange(len(pdus))
    changed = bytearray(pdus[index].ljust(12, b"\0"))
    at = 6 if changed[0] == P_DATA else chance.randrange(6, len(changed) - 4)
    layout = chance.choice((">H", ">I", "<H", "<I"))
    lie = chance.choice(_LIES) & (0xFFFF if layout.endswith("H") else 0xFFFFFFFF)
    struct.pack_into(layout, changed, at, lie)
    pdus[index] = bytes(changed)


def _repeat(chance: random.Random, pdus: list[bytes]) -> None:
    pdus.insert(chance.randrange(len(pdus) + 1), chance.choice(pdus))


def _reorder(chance: random.Random, pdus: list[bytes]) -> None:
    # The association stands first: without it nothing behind is looked at.
    behind = pdus[1:]
    chance.shuffle(behind)
    pdus[1:] = behind


def _drop(chance: random.Random, pdus: list[bytes]) -> None:
    if len(pdus) > 1:
        pdus.pop(chance.randrange(len(pdus)))


def _splice(chance: random.Random, pdus: list[bytes]) -> None:
    foreign = chance.choice((chance.randbytes(chance.randint(1, 400)), chance.choice(pdus)))
    index = chance.randrange(len(pdus))
    at = chance.randint(0, len(pdus[index]))
    pdus[index] = pdus[index][:at] + foreign + pdus[index][at:]


def _fragment_anew(chance: random.Random, pdus: list[bytes]) -> None:
    made: list[bytes] = []
    for one in pdus:
        if len(one) < 12 or one[0] != P_DATA:
            made.append(one)
            continue
        context, header, value = one[10], one[11], one[12:]
        cuts = sorted(chance.randint(0, len(value)) for _ in range(chance.randint(1, 12)))
        parts = [value[a:b] for a, b in zip([0, *cuts], [*cuts, len(value)], strict=True)]
        flags = [header & ~LAST] * (len(parts) - 1) + [header]
        pdvs = [fragment(context, f, part) for f, part in zip(flags, parts, strict=True)]
        made += [p_data(*pdvs)] if chance.random() < 0.5 else [p_data(pdv) for pdv in pdvs]
    pdus[:] = made


def _turn_header(chance: random.Random, pdus: list[bytes]) -> None:
    candidates = [i for i, one in enumerate(pdus) if one[:1] == bytes([P_DATA]) and len(one) > 11]
    if candidates:
        index = chance.choice(candidates)
        changed = bytearray(pdus[index])
        changed[chance.choice((10, 11))] = chance.randrange(256)
        pdus[index] = bytes(changed)


def _other_kind(chance: random.Random, pdus: list[bytes]) -> None:
    index = chance.randrange(len(pdus))
    pdus[index] = bytes([chance.randrange(256)]) + pdus[index][1:]


def _ask_again(chance: random.Random, pdus: list[bytes]) -> None:
    requests = [one for one in pdus if one[:1] == bytes([ASSOCIATE_RQ])]
    if requests:
        pdus.insert(chance.randint(1, len(pdus)), chance.choice(requests))


def _leave_whole(chance: random.Random, pdus: list[bytes]) -> None:
    """Change nothing: what is only cut into odd pieces must be stored."""


_MUTATIONS: tuple[Callable[[random.Random, list[bytes]], None], ...] = (
    _flip_bits, _flip_bits, _cut_stream, _cut_pdu, _lie_about_length, _lie_within, _lie_within,
    _repeat, _reorder, _drop, _splice, _fragment_anew, _fragment_anew, _turn_header, _other_kind,
    _ask_again, _leave_whole,
)  # fmt: skip


def _pieces(chance: random.Random, content: bytes) -> list[bytes]:
    """Return the content in the pieces of separate sends: often one, sometimes odd ones."""
    if chance.random() < 0.5:
        return [content]
    cuts = sorted({chance.randint(0, len(content)) for _ in range(chance.randint(1, 20))})
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def _stored(kind: int, body: bytes) -> list[int]:
    if kind != P_DATA:
        return []
    answer = elements_of(body[6:])
    is_store = answer.get(0x0100) == struct.pack("<H", 0x8001)
    if not is_store or status_of(body) != 0x0000:
        return []
    return [struct.unpack("<H", answer[0x0120])[0]]


def _fragments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield message control header and value of each PDV, until the stream makes no sense."""
    position = 0
    while position + 6 <= len(content):
        kind, length = struct.unpack_from(">BxI", content, position)
        body = content[position + 6 : position + 6 + length]
        position += 6 + length
        if len(body) < length:
            return
        at = 0
        while kind == P_DATA and at + 6 <= len(body):
            (size,) = struct.unpack_from(">I", body, at)
            if size < 2 or at + 4 + size > len(body):
                return
            yield body[at + 5], body[at + 6 : at + 4 + size]
            at += 4 + size


def _message_id(command: bytes) -> int:
    value = elements_of(command).get(0x0110, b"")
    return struct.unpack("<H", value)[0] if len(value) == 2 else -1


def _without_data(command: bytes) -> bool:
    return elements_of(command).get(0x0800) == struct.pack("<H", 0x0101)


@contextmanager
def _relay(port: int) -> Iterator[tuple[int, bytearray]]:
    """Give the port of a relay for one connection, and what has come from its client."""
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_pass_on, args=(listening, port, heard))
        thread.start()
        yield listening.getsockname()[1], heard
        thread.join(20)


def _pass_on(listening: socket.socket, port: int, heard: bytearray) -> None:
    client, _ = listening.accept()
    server = socket.create_connection(("127.0.0.1", port))
    with client, server:
        back = threading.Thread(target=_pump, args=(server, client, bytearray()))
        back.start()
        _pump(client, server, heard)
        back.join(20)


def _pump(source: socket.socket, sink: socket.socket, heard: bytearray) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            heard += part
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    written = Case(number=0, pieces=(Path(sys.argv[1]).read_bytes(),), opening=0)
    sys.stdout.write(f"{play(written, int(sys.argv[2]), '127.0.0.1')}\n")

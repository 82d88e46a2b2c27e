"""One target of the coverage-guided fuzzer, in a process of its own: libFuzzer ends it.

``python -m tests.fault.guided TARGET FOLDER [libFuzzer's options]``; a file in place of the folder
is tried once more. Whatever a target raises besides its documented errors is a finding.
"""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["dicom_io", "node"]):
    from dicom_io.errors import DamagedFileError, DicomInputError
    from dicom_io.header import identify, read_header
    from dicom_io.part10 import part10_head
    from dicom_io.structure import StructureError, read_structure
    from node.command_set import StoreRequest, read_command, store_response
    from node.messages import Messages
    from node.upper_layer import ProtocolError

from tests.fault.hostile_corpus import JPEG, UID
from tests.fault.pdu import EXPLICIT, IMPLICIT, MR_IMAGE

#: The first byte of an input says in which transfer syntax the rest is.
SYNTAXES = (EXPLICIT, IMPLICIT, JPEG)
#: Precedes each body of a P-DATA-TF PDU in an input: its length.
LENGTH_BYTES = 2
#: For inputs of some kilobytes, and for what the fuzzer itself keeps.
MOST_MEMORY = 1 << 28


def walk(content: bytes, _file: Path) -> None:
    """Walk a data set; what is found lies in it, and can be named."""
    syntax, encoded = _syntax_and_rest(content)
    try:
        structure = read_structure(encoded, syntax)
    except StructureError:
        return
    if structure.pixels is not None:
        start, end = structure.pixels
        assert 0 <= start <= end <= len(encoded), "pixels outside of the data set"
    with suppress(DicomInputError):
        identify(structure, transfer_syntax_uid=syntax, path=Path("walked"))


def taken(content: bytes, file: Path) -> None:
    """Walk a data set; what passes and has a name keeps it in its file, if that can be parsed."""
    syntax, encoded = _syntax_and_rest(content)
    try:
        found = identify(
            read_structure(encoded, syntax), transfer_syntax_uid=syntax, path=Path("walked")
        )
    except DicomInputError:
        return
    file.write_bytes(part10_head(MR_IMAGE, UID, syntax) + encoded)
    try:
        again = read_header(file)
    except DamagedFileError:
        # The walk has no part in what values mean; whoever reads the file later says so.
        return
    for name in ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "patient_id"):
        assert getattr(again, name) == getattr(found, name), f"another {name} in the file"


def header(content: bytes, file: Path) -> None:
    """Read the identity of any file."""
    file.write_bytes(content)
    # pydicom asks for as much room as a length claims before it reads; none of it is touched. What
    # a sender brings is walked before, so that nothing in the store claims more than it has.
    with suppress(DicomInputError, MemoryError):
        read_header(file)


def messages(content: bytes, _file: Path) -> None:
    """Take the bodies of P-DATA-TF PDUs; each instance that begins is given away or closed."""
    begun: list[_Arriving] = []

    def begin(_request: StoreRequest, _syntax: str) -> _Arriving:
        begun.append(_Arriving())
        return begun[-1]

    taking = Messages({3: EXPLICIT, 5: IMPLICIT}, begin)
    with suppress(ProtocolError):
        for body in _bodies(content):
            taken = taking.take(memoryview(body))
            assert sum(map(len, taken.others)) <= len(content) + 6 * len(taken.others), "not sent"
            assert not (taken.others and taken.whole), "two readers of one PDU"
            for whole in taken.whole:
                if whole.arriving is not None:
                    whole.arriving.close()
    taking.close()
    assert not taking.is_amid
    assert all(each.is_closed for each in begun), "an instance that nobody closes"


def command(content: bytes, _file: Path) -> None:
    """Read a command set; a C-STORE request can be answered."""
    read = read_command(content)
    if read is None or not read.is_complete or read.store_request is None:
        return
    request = read.store_request
    answer = read_command(store_response(request, 0x0000))
    assert answer is not None, "an answer that nobody can read"
    assert answer.elements[0x0120] == request.message_id.to_bytes(2, "little")


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    each.__name__: each for each in (walk, taken, header, messages, command)
}


def _syntax_and_rest(content: bytes) -> tuple[str, bytes]:
    return SYNTAXES[content[0] % len(SYNTAXES)] if content else EXPLICIT, content[1:]


def _bodies(content: bytes) -> Iterator[bytes]:
    position = 0
    while position + LENGTH_BYTES <= len(content):
        start = position + LENGTH_BYTES
        length = int.from_bytes(content[position:start], "big")
        yield content[start : start + length]
        position = start + length


class _Arriving:
    """An instance that comes and is thrown away."""

    is_closed = False

    def write(self, content: memoryview) -> None:
        assert not self.is_closed, "written to after its end"
        assert content.nbytes >= 0

    def close(self) -> None:
        self.is_closed = True


def _bound_memory() -> None:
    """Have whatever asks for more than is due to one input get a MemoryError, which is a finding.

    Not by libFuzzer's own limit: what it looks at a process has from the one that started it.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(target: str, *words: str) -> None:
    """Fuzz until libFuzzer has had enough."""
    with TemporaryDirectory(prefix="pellucid-guided-") as folder:
        file = Path(folder) / "one.dcm"
        attempt = TARGETS[target]
        atheris.Setup(
            [sys.argv[0], "-rss_limit_mb=0", *words], lambda content: attempt(content, file)
        )
        _bound_memory()
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

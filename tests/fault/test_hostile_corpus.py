"""Every way in which a data set can be wrong has its file here, its error and its status."""

import ast
import inspect
import traceback

import pytest

from dicom_io import structure
from dicom_io.errors import (
    DamagedFileError,
    DicomInputError,
    MissingAttributeError,
    NotDicomError,
    UnsupportedObjectError,
)
from dicom_io.header import read_header
from dicom_io.part10 import part10_head
from dicom_io.structure import StructureError, read_structure
from tests.build_wire import EXPLICIT, MR_IMAGE, VERIFICATION
from tests.fault.hostile_corpus import (
    JPEG,
    UID,
    corpus,
    element,
    fragments,
    identity,
    item,
    padded,
    pixels,
)
from tests.fault.pdu import COMMAND, IMPLICIT, LAST, Connection, fragment, p_data, store_command
from tests.wait import until

CONTEXTS = {EXPLICIT: 3, IMPLICIT: 5, JPEG: 7}
CASES = {case.name: case for case in corpus()}
#: Half a million elements take seconds.
LARGE = 1 << 20
NAMES = [
    pytest.param(name, marks=pytest.mark.fault) if len(case.content) > LARGE else name
    for name, case in CASES.items()
]
WHOLE = identity() + element(0x00081140, "SQ", item(element(0x00100020, "LO", b"ID"))) + pixels()


def test_the_corpus_is_large_and_every_file_has_its_own_name():
    assert len(corpus()) == len(CASES) >= 120


@pytest.mark.parametrize("name", NAMES)
def test_the_walk_says_what_is_wrong(name):
    case = CASES[name]

    if case.error is None:
        read_structure(case.content, case.syntax)
    else:
        with pytest.raises(StructureError, match=case.error):
            read_structure(case.content, case.syntax)


def test_every_refusal_of_the_walk_has_a_file():
    hit = {line for case in small() for line in lines_of_refusal(case)}

    unhit = [
        ast.unparse(node)
        for node in refusals(ast.parse(inspect.getsource(structure)))
        if not hit & set(range(node.lineno, node.end_lineno + 1))
    ]

    assert unhit == []


def small():
    return [case for case in CASES.values() if len(case.content) <= LARGE]


def lines_of_refusal(case):
    """Return the lines of the module that a refusal of the case came through."""
    try:
        read_structure(case.content, case.syntax)
    except StructureError as error:
        frames = traceback.extract_tb(error.__traceback__)
        return {frame.lineno for frame in frames if frame.filename == structure.__file__}
    return set()


def refusals(tree):
    """Return every ``raise``, and every call of what raises if a condition does not hold."""
    return [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Raise) and node.exc is not None)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_require")
    ]


def test_every_beginning_of_a_data_set_is_refused_or_is_one():
    ends = set()
    for count in range(len(WHOLE)):
        try:
            read_structure(WHOLE[:count], EXPLICIT)
        except StructureError:
            continue
        ends.add(count)

    assert read_structure(WHOLE, EXPLICIT).pixels is not None
    # Between two elements the beginning is a data set; nowhere else.
    assert ends == set(boundaries(WHOLE))


def boundaries(content):
    position = 0
    while position < len(content):
        yield position
        vr = content[position + 4 : position + 6].decode()
        long = vr in {"SQ", "OW", "OB"}
        length = (
            content[position + 8 : position + 12] if long else content[position + 6 : position + 8]
        )
        position += (12 if long else 8) + int.from_bytes(length, "little")


def test_each_is_answered_by_its_status_and_only_what_is_right_is_stored(target):
    answers = {case.name: sent(target, case) for case in small()}

    assert answers == {case.name: case.status for case in small()}
    target.serves()
    target.has_nothing_left_over()


@pytest.mark.fault
def test_half_a_million_elements_are_answered_by_their_status(target):
    for case in CASES.values():
        if len(case.content) > LARGE:
            assert sent(target, case) == case.status, case.name


def sent(target, case):
    """Return the status of a C-STORE of the case."""
    contexts = [(number, MR_IMAGE, (syntax,)) for syntax, number in CONTEXTS.items()]
    context = CONTEXTS[case.syntax]
    command = store_command(case.uid, sop_class=case.sop_class)
    with Connection(target.port, "127.0.0.3") as connection:
        assert connection.associate(contexts=[(1, VERIFICATION, (IMPLICIT,)), *contexts])
        connection.send(p_data(fragment(context, COMMAND | LAST, command)))
        for start in range(0, len(case.content) + 1, 1 << 17):
            part = case.content[start : start + (1 << 17)]
            last = LAST if start + (1 << 17) > len(case.content) else 0
            connection.send(p_data(fragment(context, last, part)))
        status = connection.status()
        connection.release()
    # An address has but so many connections, those included that are about to end.
    until(lambda: target.now.threads <= target.before.threads + 8, seconds=20)
    return status


HEAD = part10_head(MR_IMAGE, UID, EXPLICIT)
DIRECTORY = part10_head("1.2.840.10008.1.3.10", UID, EXPLICIT)
FILES = {
    "nothing": (b"", NotDicomError),
    "a preamble alone": (bytes(128), NotDicomError),
    "another prefix": (bytes(128) + b"DICX" + WHOLE, NotDicomError),
    "a data set without a preamble": (WHOLE, NotDicomError),
    "a text": (b"no DICOM" * 100, NotDicomError),
    "a prefix alone": (bytes(128) + b"DICM", MissingAttributeError),
    "no file meta": (bytes(128) + b"DICM" + WHOLE, MissingAttributeError),
    "no transfer syntax": (
        bytes(128) + b"DICM" + element(0x00020002, "UI", padded(MR_IMAGE)) + WHOLE,
        MissingAttributeError,
    ),
    "a cut meta": (HEAD[:-20], MissingAttributeError),
    "a head alone": (HEAD, MissingAttributeError),
    "a directory": (DIRECTORY + WHOLE, UnsupportedObjectError),
    "deflate that is none": (
        part10_head(MR_IMAGE, UID, "1.2.840.10008.1.2.1.99") + WHOLE,
        DamagedFileError,
    ),
    **{
        f"no {name}": (HEAD + identity(**{name: None}), MissingAttributeError)
        for name in ("uid", "study", "series", "sop_class")
    },
    "a whole file": (HEAD + WHOLE, None),
    "fragments": (part10_head(MR_IMAGE, UID, JPEG) + identity() + fragments(item()), None),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_or_refused_by_its_error(tmp_path, name):
    content, error = FILES[name]
    path = tmp_path / "hostile.dcm"
    path.write_bytes(content)

    if error is None:
        assert read_header(path).sop_instance_uid == UID
    else:
        with pytest.raises(error):
            read_header(path)


def test_every_beginning_of_a_file_is_read_or_refused_by_name(tmp_path):
    whole = HEAD + WHOLE
    path = tmp_path / "cut.dcm"

    for count in range(len(whole)):
        path.write_bytes(whole[:count])
        try:
            read_header(path)
        except DicomInputError:
            continue


ACKNOWLEDGED = [
    name for name, case in CASES.items() if case.status == 0x0000 and len(case.content) <= LARGE
]


@pytest.mark.parametrize("name", ACKNOWLEDGED)
def test_what_is_acknowledged_can_be_read_from_its_file(tmp_path, name):
    case = CASES[name]
    path = tmp_path / "kept.dcm"
    path.write_bytes(part10_head(case.sop_class, case.uid, case.syntax) + case.content)

    assert read_header(path).study_instance_uid

"""Talking to peers: every failure has a sentence, every object arrives byte for byte."""

import hashlib
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from node.config import Peer
from node.peer import (
    AssociationRejectedError,
    StoredObject,
    Timeouts,
    UnreachableError,
    associate,
    batches,
    contexts_for,
    echo,
    send_files,
)
from node.standin import StandInPacs

QUICK = Timeouts(connect=2.0, association=2.0, response=2.0, network=2.0)


def peer_at(port: int, *, ae_title: str = "STANDIN", host: str = "127.0.0.1") -> Peer:
    return Peer(name="pacs", ae_title=ae_title, host=host, port=port)


def write_object(path: Path, uid: str, *, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = uid
    dataset.PatientID = "P1"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian)
    return path


@contextmanager
def scp(*, syntaxes: list[str], handlers=(), require_called: bool = False):
    entity = ApplicationEntity("STRICT")
    entity.require_called_aet = require_called
    entity.add_supported_context(SecondaryCaptureImageStorage, syntaxes)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_small_objects_do_not_wait_for_the_acknowledgment_of_what_went_before(tmp_path):
    path = write_object(tmp_path / "one.dcm", "2.25.1")
    item = StoredObject(
        path=path,
        sop_class_uid=SecondaryCaptureImageStorage,
        sop_instance_uid="2.25.1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    with (
        StandInPacs(tmp_path / "pacs") as pacs,
        associate(peer_at(pacs.port), contexts_for([item]), calling_ae="PELLUCID") as association,
    ):
        wire = association.dul.socket.socket

        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_echo_of_a_running_peer_is_ok(tmp_path):
    with StandInPacs(tmp_path) as pacs:
        result = echo(peer_at(pacs.port), calling_ae="PELLUCID", timeouts=QUICK)

    assert result.ok
    assert "answers" in result.message


def test_echo_of_a_closed_port_says_that_nobody_listens():
    result = echo(peer_at(closed_port()), calling_ae="PELLUCID", timeouts=QUICK)

    assert not result.ok
    assert "connection refused" in result.message


def test_echo_of_an_unknown_host_says_so():
    peer = peer_at(104, host="no-such-host.invalid")

    result = echo(peer, calling_ae="PELLUCID", timeouts=QUICK)

    assert not result.ok
    assert "host name" in result.message


def test_echo_of_a_silent_peer_ends_with_a_sentence():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quick = Timeouts(connect=1.0, association=0.5, response=0.5, network=0.5)
        result = echo(peer_at(silent.getsockname()[1]), calling_ae="PELLUCID", timeouts=quick)

    assert not result.ok
    assert "did not answer" in result.message


def test_wrong_called_title_is_a_permanent_rejection_in_words(tmp_path):
    path = write_object(tmp_path / "a.dcm", "1.2.3")
    with (
        scp(syntaxes=[ExplicitVRLittleEndian], require_called=True) as port,
        pytest.raises(AssociationRejectedError, match="Called AE title not recognised"),
    ):
        send_files(peer_at(port, ae_title="OTHER"), [path], calling_ae="PELLUCID", timeouts=QUICK)


def test_sent_files_arrive_byte_for_byte_and_are_counted(tmp_path):
    paths = [
        write_object(tmp_path / "a.dcm", "1.2.3"),
        write_object(tmp_path / "b.dcm", "1.2.4", syntax=ImplicitVRLittleEndian),
    ]
    seen: list[tuple[int, int]] = []
    with StandInPacs(tmp_path / "pacs") as pacs:
        sent = send_files(
            peer_at(pacs.port),
            [*paths, paths[0]],
            calling_ae="MODALITY",
            progress=lambda done, total: seen.append((done, total)),
            timeouts=QUICK,
        )

    assert [item.status for item in sent] == [0x0000] * 3
    assert pacs.received == {"1.2.3": 2, "1.2.4": 1}
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for path, uid in zip(paths, ("1.2.3", "1.2.4"), strict=True):
        assert data_set_digest(path) == data_set_digest(tmp_path / "pacs" / f"{uid}.dcm")


def test_peer_of_implicit_syntax_only_gets_the_object_encoded_anew(tmp_path):
    path = write_object(tmp_path / "a.dcm", "1.2.3")
    got: list[str] = []

    def keep(event: evt.Event) -> int:
        got.append(event.dataset.PatientID)
        return 0x0000

    with scp(syntaxes=[ImplicitVRLittleEndian], handlers=[(evt.EVT_C_STORE, keep)]) as port:
        sent = send_files(peer_at(port), [path], calling_ae="PELLUCID", timeouts=QUICK)

    assert sent[0].status == 0x0000
    assert got == ["P1"]


def test_object_that_no_context_fits_has_no_status(tmp_path):
    plain = write_object(tmp_path / "a.dcm", "1.2.3")
    compressed = write_object(tmp_path / "b.dcm", "1.2.4", syntax=JPEG2000Lossless)
    accept = (evt.EVT_C_STORE, lambda event: 0x0000)
    with scp(syntaxes=[ExplicitVRLittleEndian], handlers=[accept]) as port:
        sent = send_files(peer_at(port), [compressed, plain], calling_ae="PELLUCID", timeouts=QUICK)

    assert [item.status for item in sent] == [None, 0x0000]


def test_nobody_there_is_an_unreachable_peer(tmp_path):
    path = write_object(tmp_path / "a.dcm", "1.2.3")

    with pytest.raises(UnreachableError, match="connection refused"):
        send_files(peer_at(closed_port()), [path], calling_ae="PELLUCID", timeouts=QUICK)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_hostile_instance_uid_is_refused_by_the_stand_in(tmp_path):
    path = write_object(tmp_path / "a.dcm", "1.2.3")
    content = path.read_bytes().replace(b"1.2.3\0", b"../../")
    path.write_bytes(content)
    with StandInPacs(tmp_path / "pacs" / "inner") as pacs:
        sent = send_files(peer_at(pacs.port), [path], calling_ae="EVIL", timeouts=QUICK)

    assert sent[0].status == 0x0117
    assert list((tmp_path / "pacs").rglob("*.dcm")) == []


def test_more_kinds_than_contexts_are_cut_into_several_associations():
    objects = [
        StoredObject(
            path=Path(f"{index}.dcm"),
            sop_class_uid=f"1.2.{index}",
            sop_instance_uid=f"1.3.{index}",
            transfer_syntax_uid=str(ExplicitVRLittleEndian),
        )
        for index in range(150)
    ]

    cut = list(batches(objects))

    assert [item for batch in cut for item in batch] == objects
    assert all(len(contexts_for(batch)) <= 128 for batch in cut)
    assert len(cut) == 3


def data_set_digest(path: Path) -> str:
    """Hash of what follows the File Meta Information (PS3.10 7.1)."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + length :]).hexdigest()

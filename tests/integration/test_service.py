"""The whole node: a study goes in by C-STORE, its results are in the PACS by themselves."""

import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import SegmentationStorage

from node import service
from node.config import Peer
from node.errors import PortInUseError
from node.ledger import tasks
from node.ledger.engine import open_ledger
from node.ownership import DataFolderInUseError
from node.peer import echo, send_files
from node.standin import StandInPacs
from node.task import State
from tests.fakes import NodeProcess, alive, ball_config, ball_files, bright_bundle, descendants
from tests.wait import until

pytestmark = pytest.mark.slow

OBJECTS_PER_STUDY = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bright_bundle(tmp_path_factory.mktemp("models") / "bright")


@pytest.fixture(scope="module")
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory, bundle, closed_port):
    """A running node with a PACS, and a second destination that is not there."""
    folder = tmp_path_factory.mktemp("node")
    with (
        StandInPacs(folder / "pacs", ae_title="PACS") as pacs,
        NodeProcess(folder / "data", bundle, {"pacs": pacs.port, "late": closed_port}) as node,
    ):
        yield node, pacs, folder


@contextmanager
def ledger_of(data: Path):
    engine = open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    try:
        yield engine
    finally:
        engine.dispose()


def send(node: NodeProcess, files, *, calling_ae: str = "MODALITY") -> list[int | None]:
    peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=node.port)
    return [sent.status for sent in send_files(peer, files, calling_ae=calling_ae)]


def study_of(files) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def results_of(pacs: StandInPacs, study: str) -> dict[str, int]:
    """UID to count of everything in the PACS that belongs to a study."""
    headers = [dcmread(path, stop_before_pixels=True) for path in pacs.folder.glob("*.dcm")]
    uids = {str(one.SOPInstanceUID) for one in headers if one.StudyInstanceUID == study}
    return {uid: count for uid, count in pacs.received.items() if uid in uids}


def states(engine, study: str) -> list[State]:
    return [task.state for task in tasks.of_study(engine, study)]


def test_study_sent_by_a_modality_comes_back_as_results(place):
    node, pacs, folder = place
    files = ball_files(folder / "first", seed="first")

    statuses = send(node, files)
    node.until(lambda: len(results_of(pacs, study_of(files))) == OBJECTS_PER_STUDY)

    assert statuses == [0x0000] * len(files)
    kinds = {dcmread(path).SOPClassUID for path in pacs.folder.glob("*.dcm")}
    assert SegmentationStorage in kinds
    assert "anary" not in node.log
    assert "CANARY" not in node.log


def test_same_study_twice_leaves_no_second_set(place):
    node, pacs, folder = place
    files = ball_files(folder / "twice", seed="twice")
    study = study_of(files)
    send(node, files)
    node.until(lambda: len(results_of(pacs, study)) == OBJECTS_PER_STUDY)
    first = results_of(pacs, study)

    send(node, files)
    other = ball_files(folder / "after", seed="after")
    send(node, other)
    node.until(lambda: len(results_of(pacs, study_of(other))) == OBJECTS_PER_STUDY)

    assert results_of(pacs, study) == first
    assert set(first.values()) == {1}


def test_results_that_a_pacs_sends_back_are_taken_and_cause_no_work(place):
    node, pacs, folder = place
    files = ball_files(folder / "loop", seed="loop")
    study = study_of(files)
    send(node, files)
    node.until(lambda: len(results_of(pacs, study)) == OBJECTS_PER_STUDY)
    back = [pacs.folder / f"{uid}.dcm" for uid in results_of(pacs, study)]

    statuses = send(node, [*back, *files], calling_ae="PACS")
    other = ball_files(folder / "after loop", seed="after loop")
    send(node, other)
    node.until(lambda: len(results_of(pacs, study_of(other))) == OBJECTS_PER_STUDY)

    assert set(statuses) == {0x0000}
    assert set(results_of(pacs, study).values()) == {1}
    with ledger_of(folder / "data") as engine:
        assert len(tasks.of_study(engine, study)) == 1


def test_unknown_sender_is_not_served(place):
    node, _, _ = place
    peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=node.port)

    result = echo(peer, calling_ae="STRANGER")

    assert not result.ok
    assert "rejects STRANGER" in result.message


def test_study_that_no_model_can_read_is_rejected_and_said_why(place):
    node, pacs, folder = place
    files = ball_files(folder / "gap", seed="gap")
    study = study_of(files)

    send(node, [*files[:4], *files[5:]])

    with ledger_of(folder / "data") as engine:
        node.until(lambda: states(engine, study) == [State.REJECTED])
        (task,) = tasks.of_study(engine, study)
    assert "Error: " in task.error
    node.until(lambda: results_of(pacs, study))
    (told,) = results_of(pacs, study)
    assert "NOT ANALYZED" in dcmread(pacs.folder / f"{told}.dcm").SeriesDescription


def test_second_node_on_the_same_data_folder_refuses(place, bundle):
    _, _, folder = place

    with pytest.raises(DataFolderInUseError, match="another node"):
        service.run(ball_config(folder / "data", bundle, {}), stop=threading.Event())


def test_port_in_use_is_said_and_nothing_is_left_running(place, bundle, tmp_path):
    node, _, _ = place
    config = ball_config(tmp_path / "data", bundle, {}, port=node.port)

    with pytest.raises(PortInUseError, match=str(node.port)):
        service.run(config, stop=threading.Event())


def test_destination_that_was_dead_all_the_time_gets_everything_when_it_is_back(place, closed_port):
    node, pacs, folder = place
    with StandInPacs(folder / "late", ae_title="LATE", port=closed_port) as late:
        node.until(lambda: set(late.received) == set(pacs.received))

        assert set(late.received.values()) == {1}


def test_late_image_makes_a_report_that_takes_the_place_of_what_was_said_before(place):
    node, pacs, folder = place
    files = ball_files(folder / "late image", seed="late image")
    study = study_of(files)
    send(node, [*files[:4], *files[5:]])
    node.until(lambda: results_of(pacs, study))
    (before,) = results_of(pacs, study)

    send(node, [files[4]])
    node.until(lambda: len(results_of(pacs, study)) == 1 + OBJECTS_PER_STUDY + 1)

    objects = [dcmread(pacs.folder / f"{uid}.dcm") for uid in results_of(pacs, study)]
    (report,) = (one for one in objects if "PredecessorDocumentsSequence" in one)
    (note,) = (one for one in objects if one.Modality == "KO")
    assert referred(report.PredecessorDocumentsSequence) == {before}
    assert referred(note.CurrentRequestedProcedureEvidenceSequence) == {before}
    assert note.PatientID == report.PatientID == "CANARY-4711"


def referred(studies) -> set[str]:
    """SOP Instance UIDs in a hierarchy of references (PS3.3 C.17.2.1)."""
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in studies
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def test_asked_to_stop_it_ends_all_its_processes(place):
    node, _, _ = place
    below = descendants(node.pid)

    status = node.stop()

    assert status == 0
    assert len(below) >= 3
    until(lambda: alive(below) == [], seconds=10.0)


def test_service_in_a_thread_says_its_port_and_stops(bundle, tmp_path):
    stop = threading.Event()
    ports: list[int] = []
    config = ball_config(tmp_path / "data", bundle, {})
    thread = threading.Thread(
        target=service.run, args=(config,), kwargs={"ready": ports.append, "stop": stop}
    )
    thread.start()
    until(lambda: ports or not thread.is_alive(), seconds=180.0)
    peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=ports[0])

    answered = echo(peer, calling_ae="MODALITY")
    stop.set()
    thread.join(30.0)

    assert answered.ok
    assert not thread.is_alive()
    assert not echo(peer, calling_ae="MODALITY").ok

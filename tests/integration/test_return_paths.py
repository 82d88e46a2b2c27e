"""Results come back by every way that Orthanc offers, and are there as they were made."""

from dataclasses import replace

import pytest
from pydicom import dcmread

from node.config import Peer
from node.deliver import DeliverySettings, Destination
from node.dicomweb import echo_over_web
from node.doorman import AllowedPeer
from node.ledger import confirmations, outbox
from node.peer import Timeouts
from node.task import ConfirmationKind, ConfirmationState, DeliveryState, Resending
from tests.build_ledger import new_ledger, owe
from tests.build_wire import receive_settings, receiver
from tests.orthanc import Orthanc, orthanc
from tests.wait import until

pytestmark = pytest.mark.peers

SETTINGS = DeliverySettings(calling_ae="PELLUCID", base_seconds=0.0)


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def service(pacs: Orthanc) -> Peer:
    return Peer(name="pacs", url=f"http://127.0.0.1:{pacs.http_port}/dicom-web")


def test_orthanc_keeps_what_it_gets_by_stow_and_keeps_it_again(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)
    other = new_ledger(tmp_path / "other")
    again = owe(other, tmp_path / "other", destination="pacs", count=3)

    with orthanc(tmp_path / "orthanc", web=True) as pacs:
        Destination(engine, service(pacs), SETTINGS).deliver_due()
        Destination(other, service(pacs), SETTINGS).deliver_due()
        kept = {str(dcmread(path).SOPInstanceUID): path for path in pacs.save(tmp_path / "kept")}

    assert states(engine, task) == states(other, again) == [DeliveryState.DELIVERED] * 3
    for one in outbox.of_task(engine, task.id):
        assert dcmread(kept[one.sop_instance_uid]).to_json() == dcmread(one.path).to_json()
    other.dispose()


def test_orthanc_answers_an_echo_over_dicomweb(tmp_path):
    with orthanc(tmp_path / "orthanc", web=True) as pacs:
        answer = echo_over_web(service(pacs), timeouts=Timeouts())

    assert answer.ok, answer.message


def test_orthanc_commits_itself_over_an_association_of_its_own(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)
    allowed = AllowedPeer(name="pacs", ae_title="MAINPACS", host="127.0.0.1", commit=True)
    settings = receive_settings(tmp_path, peers=(allowed,), accept_unknown=False)

    with (
        receiver(settings) as port,
        orthanc(tmp_path / "orthanc", node_port=port) as pacs,
    ):
        destination = Destination(engine, committing(pacs), SETTINGS)
        destination.deliver_due()
        destination.confirm_due()
        until(lambda: committed(engine, task) == 3, seconds=30, why=pacs.log.read_text)

    assert states(engine, task) == [DeliveryState.DELIVERED] * 3


def test_orthanc_that_lost_an_object_gets_it_again(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=2)
    allowed = AllowedPeer(name="pacs", ae_title="MAINPACS", host="127.0.0.1", commit=True)
    settings = receive_settings(
        tmp_path,
        peers=(allowed,),
        accept_unknown=False,
        resending=Resending(pause_seconds=0.0),
    )

    with (
        receiver(settings) as port,
        orthanc(tmp_path / "orthanc", node_port=port) as pacs,
    ):
        destination = Destination(engine, committing(pacs), SETTINGS)
        destination.deliver_due()
        pacs.delete("2.25.2")
        destination.confirm_due()
        until(lambda: DeliveryState.WAITING in states(engine, task), seconds=30)
        destination.deliver_due()
        destination.confirm_due()
        until(lambda: committed(engine, task) == 2, seconds=30)
        kept = pacs.instances()

    assert sorted(kept) == ["2.25.1", "2.25.2"]


@pytest.mark.parametrize("by", ["find", "qido"])
def test_orthanc_lists_what_it_was_given(engine, tmp_path, by):
    task = owe(engine, tmp_path, destination="pacs", count=2)

    with orthanc(tmp_path / "orthanc", node_port=104, web=by == "qido") as pacs:
        peer = service(pacs) if by == "qido" else place(pacs)
        destination = Destination(engine, replace(peer, readback=True), SETTINGS)
        destination.deliver_due()
        pacs.delete("2.25.2")
        destination.confirm_due()
        known = confirmations.of_task(engine, task.id).values()

    assert [one[ConfirmationKind.READBACK] for one in known] == [
        ConfirmationState.CONFIRMED,
        ConfirmationState.DUE,
    ]


def place(pacs: Orthanc) -> Peer:
    return Peer(name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs.dicom_port)


def committing(pacs: Orthanc) -> Peer:
    return replace(place(pacs), commitment=True)


def committed(engine, task) -> int:
    known = confirmations.of_task(engine, task.id).values()
    stands = [one.get(ConfirmationKind.COMMITMENT) for one in known]
    return stands.count(ConfirmationState.CONFIRMED)


def states(engine, task) -> list[DeliveryState]:
    return [one.state for one in outbox.of_task(engine, task.id)]

"""Results come back by every way that Orthanc offers, and are there as they were made."""

import pytest
from pydicom import dcmread

from node.config import Peer
from node.deliver import DeliverySettings, Destination
from node.dicomweb import echo_over_web
from node.ledger import outbox
from node.peer import Timeouts
from node.task import DeliveryState
from tests.build_ledger import new_ledger, owe
from tests.orthanc import Orthanc, orthanc

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


def states(engine, task) -> list[DeliveryState]:
    return [one.state for one in outbox.of_task(engine, task.id)]

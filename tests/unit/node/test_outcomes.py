"""Outcomes: a task that ends without a result says so to its destinations, once."""

import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from ai.settings import ModelSettings
from dicom_io.encode.kinds import sop_classes
from dicom_io.select import Selector
from node.child import ChildSettings
from node.config import Config, Mode, NodeSettings, Peer, Route, Step, site_of
from node.ledger import accepted, outbox, tasks, untold, withdrawals
from node.outcomes import outcome_of
from node.profiles import FALLBACKS
from node.shares import UNCOMPRESSED
from node.task import DeliveryState, State
from node.worker import Worker, WorkerSettings
from tests.build_ledger import PATIENT_ID, STUDY_UID, ledger_url, new_ledger, ready_task

FAKE = (sys.executable, str(Path(__file__).parents[2] / "fake_child.py"))


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def settings(data: Path, script: str, **route_changes) -> WorkerSettings:
    """Return a worker whose one route makes the fake child follow ``script``."""
    node = NodeSettings(data=data, database=ledger_url(data))
    route = Route(
        name="head",
        steps=(Step(model="tissue"),),
        select=(Selector(name="any", conditions={"Modality": "MR"}),),
        results=(),
        send_to=("pacs",),
        contact=script,
    )
    config = Config(
        node=node,
        site=site_of(node),
        peers={"pacs": Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)},
        routes=(replace(route, **route_changes),),
        models={"tissue": ModelSettings(name="tissue", kind="phantom")},
    )
    child = ChildSettings(folder=data / "work", command=FAKE)
    return WorkerSettings(name="worker-0", config=config, child=child, software_version="0.1")


def work(engine, wanted: WorkerSettings) -> None:
    """Work off one task, then tell whoever must be told of something."""
    worker = Worker(engine, wanted, threading.Event())
    try:
        worker.work_once()
        while worker.tell_once():
            pass
    finally:
        worker.end()


def texts(document: Dataset) -> str:
    """Return every text of a document."""
    return "\n".join(
        str(element.value) for element in document.iterall() if element.keyword == "TextValue"
    )


@pytest.mark.parametrize(
    ("script", "state", "headline"),
    [
        ("unsuitable", State.REJECTED, "NOT ANALYZED: the image is outside the intended use"),
        ("error", State.REJECTED, "NOT ANALYZED"),
        ("mistake", State.FAILED, "NOT ANALYZED: tissue could not be run to its end"),
        ("no model", State.PARKED, "NOT ANALYZED YET"),
    ],
)
def test_destinations_are_owed_a_document_that_says_why(engine, tmp_path, script, state, headline):
    task_id = ready_task(engine, tmp_path)

    work(engine, settings(tmp_path, script))

    assert tasks.find(engine, task_id).state is state
    (owed,) = outbox.of_task(engine, task_id)
    document = dcmread(owed.path)
    assert (owed.destination, owed.result, owed.state) == ("pacs", "outcome", "waiting")
    assert headline in texts(document)
    assert (document.PatientID, document.StudyInstanceUID) == (PATIENT_ID, STUDY_UID)


def test_the_document_names_the_criterion_that_was_not_met(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)

    work(engine, settings(tmp_path, "unsuitable"))

    (owed,) = outbox.of_task(engine, task_id)
    said = texts(dcmread(owed.path)).splitlines()
    assert "modality MR, the model is meant for CT" in said


def test_a_mistake_of_ours_keeps_its_details_here(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "mistake"))
    task = tasks.find(engine, task_id)

    outcome = outcome_of(task, settings(tmp_path, "mistake").config.routes[0])

    assert "encode.py" in task.error
    assert "encode.py" not in outcome.reason + outcome.criterion + outcome.advice


def test_what_is_tried_again_by_itself_is_not_told(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)

    work(engine, settings(tmp_path, "out of memory"))

    assert tasks.find(engine, task_id).state is State.READY
    assert outbox.of_task(engine, task_id) == ()


def test_each_end_is_told_once(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "mistake"))
    worker = Worker(engine, settings(tmp_path, "mistake"), threading.Event())

    assert worker.tell_once() is False
    assert len(outbox.of_task(engine, task_id)) == 1


def test_nothing_of_a_shadow_leaves(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)

    work(engine, settings(tmp_path, "mistake", mode=Mode.SHADOW))

    assert outbox.of_task(engine, task_id) == ()
    assert untold.next_untold(engine) is None


def test_task_of_a_route_that_is_gone_has_nobody_to_tell(engine, tmp_path):
    task_id = ready_task(engine, tmp_path, route="removed")

    work(engine, settings(tmp_path, "ok"))

    assert tasks.find(engine, task_id).state is State.PARKED
    assert outbox.of_task(engine, task_id) == ()
    assert untold.next_untold(engine) is None


def test_later_success_withdraws_what_was_said_before_it_was_sent(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "mistake"))
    tasks.retry(engine, task_id, datetime.now(UTC))

    work(engine, settings(tmp_path, "ok"))

    states = {one.result: one.state for one in outbox.of_task(engine, task_id)}
    assert tasks.find(engine, task_id).state is State.DONE
    assert states == {"outcome": DeliveryState.WITHDRAWN, "": DeliveryState.WAITING}


def test_later_success_rejects_what_was_sent_before(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "mistake"))
    (outcome,) = outbox.of_task(engine, task_id)
    outbox.delivered(engine, outcome, 0x0000, datetime.now(UTC))
    tasks.retry(engine, task_id, datetime.now(UTC))

    work(engine, settings(tmp_path, "ok"))

    owed = {one.result: one for one in outbox.of_task(engine, task_id)}
    assert owed["rejection"].state is DeliveryState.WAITING
    note = dcmread(owed["rejection"].path)
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (rejected,) = series.ReferencedSOPSequence
    assert rejected.ReferencedSOPInstanceUID == outcome.sop_instance_uid
    assert withdrawals.next_superseded(engine) is None


def test_the_report_names_the_document_that_it_takes_the_place_of(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "mistake"))
    (outcome,) = outbox.of_task(engine, task_id)
    outbox.delivered(engine, outcome, 0x0000, datetime.now(UTC))
    tasks.retry(engine, task_id, datetime.now(UTC))

    work(engine, settings(tmp_path, "keep order"))

    told = (tmp_path / "order.json").read_text()
    assert f'"sop_instance_uid": "{outcome.sop_instance_uid}"' in told


def test_two_workers_tell_of_it_once(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "mistake"))
    now = datetime.now(UTC)
    task = tasks.find(engine, task_id)

    assert untold.told(engine, task, (), now + timedelta(seconds=1)) is False


def test_destination_that_takes_basic_text_alone_gets_that(engine, tmp_path):
    enhanced = "1.2.840.10008.5.1.4.1.1.88.22"
    found = {uid: () if uid == enhanced else UNCOMPRESSED for uid in sop_classes()}
    accepted.learn(engine, "pacs", found, datetime.now(UTC))
    task_id = ready_task(engine, tmp_path)

    work(engine, settings(tmp_path, "unsuitable"))

    (owed,) = outbox.of_task(engine, task_id)
    document = dcmread(owed.path)
    assert owed.result == "outcome_basic"
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.11"
    assert "modality MR, the model is meant for CT" in texts(document)


def test_outcome_refused_at_the_door_is_followed_by_basic_text(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    work(engine, settings(tmp_path, "unsuitable"))
    (owed,) = outbox.of_task(engine, task_id)
    now = datetime.now(UTC)

    outbox.refuse(engine, owed, status=None, reason="no context", now=now, instead=FALLBACKS)

    assert [(one.result, one.state) for one in outbox.of_task(engine, task_id)] == [
        ("outcome", DeliveryState.REFUSED),
        ("outcome_basic", DeliveryState.WAITING),
    ]

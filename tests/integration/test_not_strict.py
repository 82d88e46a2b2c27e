"""An image that does not conform, from its sender to what its destinations are told."""

import logging
import os
import subprocess
from datetime import UTC, datetime

import pytest
from pydicom import dcmread

from dicom_io.select import Selector
from node import completion
from node.commands.status import node_status, study_status
from node.config import Complete
from node.config_folder import load_config
from node.ledger import instances, nonconformance, outbox, studies, tasks
from node.ledger.engine import open_ledger
from node.receivers import receive_settings as receive_settings_of
from node.service import planner
from node.task import DeliveryState, State, StudyState
from tests.build_config import NODE, write_config
from tests.build_ledger import ledger_url
from tests.build_wire import (
    DEVICE_UID,
    encoded,
    image,
    receive_settings,
    receiver,
    sender,
    store,
    store_bytes,
)
from tests.fault.hostile_corpus import CLOSE_LEVEL, OPEN_LEVEL
from tests.peers import require
from tests.unit.node.test_outcomes import settings, texts, work

STUDY, KEPT_AS_IT_IS = "1.2.3", 0xB007


@pytest.fixture
def port(tmp_path):
    with receiver(receive_settings(tmp_path, strict=False)) as port:
        yield port


@pytest.fixture
def engine(tmp_path, port):
    engine = open_ledger(ledger_url(tmp_path))
    yield engine
    engine.dispose()


def cut(uid="1.2.3.4.1", **changes):
    """Return an image whose pixels end early."""
    made = image(uid, **changes)
    made.PixelData = made.PixelData[:1000]
    return made


def send(port, *datasets):
    with sender(port) as association:
        return [store(association, each) for each in datasets]


def analyze(engine, data, **route):
    """Complete what is there, work off every task, and tell; return how the tasks ended."""
    wanted = settings(data, "ok", complete=Complete(quiet_seconds=0.0), **route)
    now = datetime.now(UTC)
    for _ in completion.tick(engine, planner(wanted.config), now, quiet_seconds=0.0):
        work(engine, wanted)
    return [task.state for task in tasks.of_study(engine, STUDY)]


def outcomes(engine):
    return [
        one
        for task in tasks.of_study(engine, STUDY)
        for one in outbox.of_task(engine, task.id)
        if one.result == "outcome"
    ]


@pytest.mark.parametrize(("lines", "strict"), [("", True), ("[ingest]\nstrict = false", False)])
def test_the_receiver_is_as_strict_as_the_configuration_says(tmp_path, lines, strict):
    config = load_config(write_config(tmp_path, node=f"{NODE}\n{lines}"))

    assert receive_settings_of(config).strict is strict


@pytest.mark.peers
def test_a_sender_of_dcmtk_takes_it_as_sent_and_goes_on(port, engine, tmp_path):
    storescu = require("/usr/bin/storescu", "apt install dcmtk")
    folder = tmp_path / "sent"
    folder.mkdir()
    for made in (cut(), image("1.2.3.4.2")):
        made.ensure_file_meta()
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        made.save_as(folder / made.SOPInstanceUID, enforce_file_format=True)

    answer = subprocess.run(
        [storescu, "-v", "-aec", "PELLUCID", "+sd", "127.0.0.1", str(port), folder],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TCP_NODELAY": "1"},
    )

    assert answer.stderr.count("Received Store Response (Warning: DataSetDoesNotMatchSOPC") == 1
    assert answer.stderr.count("Received Store Response (Success)") == 1
    first, second = instances.of_study(engine, STUDY)
    assert "pixel data has 1000 bytes" in first.nonconformance
    assert second.nonconformance == ""


def test_no_route_runs_on_its_series_and_destinations_are_told_why(port, engine, tmp_path):
    assert send(port, cut(), image("1.2.3.4.2")) == [KEPT_AS_IT_IS, 0x0000]

    assert analyze(engine, tmp_path) == [State.REJECTED]

    (owed,) = outcomes(engine)
    document = dcmread(owed.path)
    said = texts(document)
    assert "NOT ANALYZED: images are damaged, tissue was not run" in said
    assert "1 of 2 images are damaged, the first in this way: pixel data has 1000 bytes" in said
    assert (document.PatientID, document.StudyInstanceUID) == ("CANARY-1", STUDY)


def test_without_a_single_whole_image_destinations_are_told_as_well(port, engine, tmp_path):
    header = image(StudyDate="20260102")
    del header.PixelData
    # Which a parser would follow into the depth.
    content = encoded(header) + OPEN_LEVEL * 1000 + CLOSE_LEVEL * 1000
    with sender(port) as association:
        assert store_bytes(association, content, "1.2.3.4.1") == KEPT_AS_IT_IS

    assert analyze(engine, tmp_path) == [State.REJECTED]

    (owed,) = outcomes(engine)
    document = dcmread(owed.path)
    assert (document.PatientID, document.PatientName) == ("CANARY-1", "Canary^Yellow")
    assert (document.StudyInstanceUID, document.StudyDate) == (STUDY, "20260102")


def test_other_series_of_its_study_are_analyzed(port, engine, tmp_path):
    whole = image("1.2.3.5.1", SeriesInstanceUID="1.2.3.5", SeriesDescription="T1")
    send(port, cut(SeriesDescription="T2"), whole)

    t1 = Selector(name="t1", conditions={"SeriesDescription": "T1"})

    assert analyze(engine, tmp_path, select=(t1,)) == [State.DONE]


def test_sent_again_whole_the_study_is_analyzed_and_the_first_word_withdrawn(
    port, engine, tmp_path
):
    send(port, cut())
    analyze(engine, tmp_path)

    assert send(port, image()) == [0x0000]

    assert analyze(engine, tmp_path) == [State.REJECTED, State.DONE]
    assert [one.state for one in outcomes(engine)] == [DeliveryState.WITHDRAWN]
    assert nonconformance.damaged(engine) == ()


def test_late_it_is_told_and_the_earlier_result_stays(port, engine, tmp_path):
    send(port, image())
    assert analyze(engine, tmp_path) == [State.DONE]

    send(port, cut("1.2.3.4.2"))

    assert analyze(engine, tmp_path) == [State.DONE, State.REJECTED]
    first, _ = tasks.of_study(engine, STUDY)
    assert [one.state for one in outbox.of_task(engine, first.id)] == [DeliveryState.WAITING]


def test_it_never_takes_the_place_of_what_is_whole(port, engine, tmp_path):
    send(port, image())
    analyze(engine, tmp_path)

    assert send(port, cut()) == [KEPT_AS_IT_IS]

    assert analyze(engine, tmp_path) == [State.DONE]
    assert studies.state(engine, STUDY) is StudyState.COMPLETE


def test_of_another_patient_it_quarantines(port, engine):
    assert send(port, image("1.2.3.4.2"), cut(patient_id="CANARY-2")) == [0x0000, KEPT_AS_IT_IS]

    assert studies.state(engine, STUDY) is StudyState.QUARANTINED


def test_a_damaged_result_of_ours_is_no_work(port, engine):
    assert send(port, cut(DeviceUID=DEVICE_UID)) == [KEPT_AS_IT_IS]

    assert studies.state(engine, STUDY) is None


def test_log_and_status_say_what_is_wrong_and_what_to_do(port, engine, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    send(port, cut(), cut("1.2.3.4.2"), image("1.2.3.4.3"))
    config = settings(tmp_path, "ok").config
    now = datetime.now(UTC)

    (row,) = node_status(config, now).tables["Does not conform"]

    assert (row["study"], row["series"], row["images"]) == (STUDY, f"{STUDY}.4", 2)
    assert "pixel data has 1000 bytes" in str(row["what happened"])
    assert "send it again" in str(row["what to do"])
    assert [one["images"] for one in study_status(config, STUDY, now)["does_not_conform"]] == [2]
    told = [one for one in caplog.records if one.event == "instance_nonconformant"]
    assert [(one.study, one.calling_ae) for one in told] == [(STUDY, "CT1")] * 2
    assert "CANARY" not in str([vars(one) for one in told]).upper()

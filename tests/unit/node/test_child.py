"""The worker's handle on its child: whatever the child does, the worker hears one named error."""

import errno
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_io.header import read_header
from dicom_io.origin import Origin, Site
from dicom_io.study import Instance, Series, Study
from node.child import (
    AbandonedError,
    ChildDiedError,
    ChildSettings,
    InferenceChild,
    RemoteError,
    TimeLimitError,
)
from node.config import GateSettings, Plan
from node.order import Order, order_from_message, order_to_message

FAKE = (sys.executable, str(Path(__file__).parents[2] / "fake_child.py"))


@pytest.fixture
def child(tmp_path):
    started = InferenceChild(ChildSettings(folder=tmp_path / "child", command=FAKE))
    yield started
    started.end()


def order(folder: Path, script: str) -> Order:
    instance = Instance(
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid="1.2.3.4",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=Path("/store/a.dcm"),
        patient_id="P1",
        tags={"Modality": "MR"},
    )
    return Order(
        study=Study(
            study_instance_uid="1.2",
            series=(Series(series_instance_uid="1.2.3", instances=(instance,)),),
        ),
        origin=Origin(
            study_instance_uid="1.2",
            input_sop_instance_uids=("1.2.3.4",),
            route="head",
            config_hash="ab",
            created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            site=Site(device_uid="2.25.1"),
            software_version="0.1",
            contact=script,
        ),
        plan=Plan(select=(), steps=(), gate=GateSettings(), results=("report",)),
        folder=folder / "child" / "task",
    )


def run(child: InferenceChild, ordered: Order, **changes):
    told: list[str] = []
    options = {"wanted": lambda: True, "told": lambda message: told.append(message["kind"])}
    return child.run(ordered, **{**options, **changes}), told


def test_order_survives_its_way_through_json(tmp_path):
    sent = order(tmp_path, "ok")

    received = order_from_message(json.loads(json.dumps(order_to_message(sent))))

    assert received == sent


def test_result_names_the_written_files(child, tmp_path):
    result, told = run(child, order(tmp_path, "ok"))

    assert [read_header(file).patient_id for file in result.files] == ["P1"]
    assert result.seconds == {"analyze": 0.1}
    assert told == ["stage"]
    assert child.isolated is True


def test_order_that_the_worker_breaks_off_never_answers_for_the_next(child, tmp_path):
    def cannot_note(_message):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run(child, order(tmp_path, "two"), told=cannot_note)

    result, _ = run(child, order(tmp_path, "ok"))

    assert len(result.files) == 1


def test_second_order_goes_to_the_same_process(child, tmp_path):
    run(child, order(tmp_path, "ok"))
    first = child.pid
    run(child, order(tmp_path, "ok"))

    assert child.pid == first


def test_error_in_the_child_comes_with_the_names_of_its_classes(child, tmp_path):
    with pytest.raises(RemoteError, match="gap of 3 mm") as caught:
        run(child, order(tmp_path, "error"))

    assert caught.value.names == ("GapError", "DicomInputError", "ValueError")


@pytest.mark.parametrize(
    ("script", "words"),
    [("die", "signal 9"), ("exit", "exit status 3"), ("babble", "broke the protocol")],
)
def test_lost_child_is_named_and_the_next_order_gets_a_new_one(child, tmp_path, script, words):
    with pytest.raises(ChildDiedError, match=words):
        run(child, order(tmp_path, script))

    result, _ = run(child, order(tmp_path, "ok"))

    assert len(result.files) == 1


def test_order_beyond_its_time_limit_ends_the_child(tmp_path):
    settings = ChildSettings(folder=tmp_path / "child", command=FAKE, time_limit_seconds=1.0)
    child = InferenceChild(settings)

    with pytest.raises(TimeLimitError, match="1 s"):
        run(child, order(tmp_path, "hang"))

    assert child.pid is None


def test_order_that_is_not_wanted_any_more_ends_a_child_that_does_not_listen(child, tmp_path):
    with pytest.raises(AbandonedError):
        run(child, order(tmp_path, "hang"), wanted=lambda: False)

    assert child.pid is None


def test_child_that_ends_its_order_when_it_is_called_off_stays_for_the_next(child, tmp_path):
    run(child, order(tmp_path, "ok"))
    pid = child.pid

    with pytest.raises(AbandonedError):
        run(child, order(tmp_path, "explain until called off"), wanted=lambda: False)
    result, _ = run(child, order(tmp_path, "ok"))

    assert child.pid == pid
    assert len(result.files) == 1


def test_child_that_dies_when_it_is_called_off_is_no_death_of_the_task(child, tmp_path):
    with pytest.raises(AbandonedError):
        run(child, order(tmp_path, "die"), wanted=lambda: False)

    assert child.pid is None


def test_child_that_died_between_orders_is_replaced(child, tmp_path):
    run(child, order(tmp_path, "ok"))
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    result, _ = run(child, order(tmp_path, "ok"))

    assert len(result.files) == 1


def test_environment_of_the_child_has_no_secret(child, tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_TOKEN", "secret")

    result, _ = run(child, order(tmp_path, "environment"))

    environment = json.loads(result.files[0].read_text())
    assert "PELLUCID_TOKEN" not in environment
    assert environment["HOME"] == str(tmp_path / "child")
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["THP_MEM_ALLOC_ENABLE"] == "1"


def test_folder_of_a_new_child_is_empty_and_private(child, tmp_path):
    left_over = tmp_path / "child" / "old" / "patient.dcm"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"old")

    run(child, order(tmp_path, "ok"))

    assert not left_over.exists()
    assert (tmp_path / "child").stat().st_mode & 0o077 == 0

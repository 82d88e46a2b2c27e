"""Withdrawing: what no longer counts is not sent any more, and whoever has it is told once."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import update

from dicom_io.encode.kinds import REJECTION_KIND
from node.cli import main
from node.config_folder import load_config
from node.ledger import outbox, schema, studies, tasks
from node.task import Delivery, DeliveryState, NewDelivery, PlannedTask
from node.withdraw import predecessors, withdraw_next_superseded
from tests.build_config import write_config
from tests.build_ledger import (
    LONG_AGO,
    STUDY_UID,
    arrive,
    new_ledger,
    ready_task,
    write_instance,
)

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, routes="", node='[node]\ndata = "data"\n')


@pytest.fixture
def engine(config):
    engine = new_ledger(config / "data")
    yield engine
    engine.dispose()


@pytest.fixture
def pellucid(capsys, config):
    """Run a command and return exit status, standard output and standard error."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "-c", str(config)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def at(seconds: int) -> datetime:
    return LONG_AGO + timedelta(seconds=seconds)


def made(data: Path, number: int, *, to: str | None = "pacs", **changes) -> NewDelivery:
    """Return a report of the model ``nodule`` that is owed to a destination."""
    uid = f"2.25.{number}"
    sop_class = changes.pop("sop_class_uid", ENHANCED_SR)
    values = {
        "destination": to,
        "result": "report",
        "series_instance_uid": f"{STUDY_UID}.7",
        "sop_class_uid": sop_class,
        "sop_instance_uid": uid,
        "model": "nodule",
        "model_version": "1.2",
        "path": write_instance(data / "made", uid, sop_class_uid=sop_class),
    }
    return NewDelivery(**{**values, **changes})


def done(engine, owed: list[NewDelivery], *, seconds: int = 10) -> int:
    """Have the one ready task done, and return its id."""
    task = tasks.claim(engine, "worker-0", at(seconds))
    assert tasks.finish(engine, task, owed, at(seconds + 1))
    return task.id


def deliver(engine, task_id: int, *uids: str) -> None:
    for one in outbox.of_task(engine, task_id):
        if one.sop_instance_uid in uids:
            outbox.delivered(engine, one, 0x0000, at(20))


def notes(engine, task_id: int) -> list[Delivery]:
    return [one for one in outbox.of_task(engine, task_id) if one.result == REJECTION_KIND]


def states(engine, task_id: int) -> dict[str, str]:
    return {
        one.sop_instance_uid: str(one.state)
        for one in outbox.of_task(engine, task_id)
        if one.result != REJECTION_KIND
    }


def rejected(note: Delivery) -> list[str]:
    (study,) = dcmread(note.path).CurrentRequestedProcedureEvidenceSequence
    return sorted(
        reference.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    )


def next_generation(engine, data: Path) -> int:
    """Have a late image arrive, and return the id of the task that follows."""
    arrive(engine, write_instance(data / "received", f"{STUDY_UID}.7.3"))
    planned = [PlannedTask(route="head", config_hash="ab", quiet_seconds=0.0)]
    (task_id,) = studies.complete(engine, STUDY_UID, planned, now=at(30))
    return task_id


def test_retracted_object_is_rejected_where_it_is_and_stays_where_it_is_not(
    engine, config, pellucid
):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1), made(data, 1, to="vna"), made(data, 2)])
    (first,) = (each for each in outbox.of_task(engine, task_id) if each.destination == "vna")
    outbox.delivered(engine, first, 0x0000, at(20))

    status, out, _ = pellucid("retract", STUDY_UID, "--yes")

    assert (status, "withdrawn: 2 objects" in out) == (0, True)
    assert states(engine, task_id) == {"2.25.1": "delivered", "2.25.2": "withdrawn"}
    (note,) = notes(engine, task_id)
    assert (note.destination, note.state) == ("vna", DeliveryState.WAITING)
    assert rejected(note) == ["2.25.1"]


def test_what_is_withdrawn_is_neither_due_nor_released_nor_withdrawn_again(
    engine, config, pellucid
):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1)])
    pellucid("retract", STUDY_UID, "--yes")
    (owed,) = outbox.of_task(engine, task_id)

    assert outbox.due(engine, "pacs", at(1000)) == ()
    assert outbox.release(engine, owed.id, at(1000)) is False
    status, _, err = pellucid("retract", STUDY_UID, "--yes")
    assert (status, "nothing to withdraw of study" in err) == (1, True)


def test_a_dry_run_lists_and_changes_nothing(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1), made(data, 2)])
    deliver(engine, task_id, "2.25.1")

    status, out, _ = pellucid("retract", STUDY_UID, "--dry-run", "--json")

    (row,) = json.loads(out)["objects"]
    assert (status, row["objects"], row["result"]) == (0, 2, "report")
    assert (row["delivered_to"], row["still_on_its_way_to"]) == ("pacs", "pacs")
    assert states(engine, task_id) == {"2.25.1": "delivered", "2.25.2": "waiting"}


def test_nothing_is_withdrawn_where_nobody_can_be_asked(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1)])

    status, _, err = pellucid("retract", STUDY_UID)

    assert (status, "add --yes" in err) == (2, True)
    assert states(engine, task_id) == {"2.25.1": "waiting"}


def test_a_model_is_retracted_in_one_version_alone(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    other = made(data, 2, model_version="1.3")
    task_id = done(engine, [made(data, 1), other, made(data, 3, model="brain")])

    status, _, _ = pellucid("retract", "--model", "nodule", "--version", "1.2", "--yes")

    assert status == 0
    found = states(engine, task_id)
    assert found == {"2.25.1": "withdrawn", "2.25.2": "waiting", "2.25.3": "waiting"}


@pytest.mark.parametrize("words", [[], ["--version", "1"]])
def test_it_must_be_said_what_is_retracted(engine, pellucid, words):
    status, _, err = pellucid("retract", *words, "--yes")

    assert (status, "--model NAME" in err) == (2, True)


def test_safety_is_told_by_the_title_of_the_note(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1)])
    deliver(engine, task_id, "2.25.1")

    pellucid("retract", STUDY_UID, "--reason", "safety", "--yes")

    (note,) = notes(engine, task_id)
    (title,) = dcmread(note.path).ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113037", "DCM")


def test_objects_of_before_anything_was_noted_are_known_by_their_files(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1)])
    deliver(engine, task_id, "2.25.1")
    with engine.begin() as connection:
        connection.execute(
            update(schema.artifact).values(result="", series_instance_uid="", model="")
        )

    status, _, _ = pellucid("retract", "--model", "nodule", "--yes")
    of_study, _, _ = pellucid("retract", STUDY_UID, "--yes")

    assert (status, of_study) == (1, 0)
    (note,) = notes(engine, task_id)
    assert rejected(note) == ["2.25.1"]


def test_study_that_is_quarantined_meanwhile_is_told_nothing(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1)])
    deliver(engine, task_id, "2.25.1")
    pellucid("retract", STUDY_UID, "--yes")
    with engine.begin() as connection:
        studies.quarantine(connection, STUDY_UID, reason="two", now=at(40), actor="x")

    assert notes(engine, task_id)
    assert outbox.due(engine, "pacs", at(1000)) == ()


def test_later_generation_names_what_it_replaces_and_has_it_rejected(engine, config):
    data = config / "data"
    ready_task(engine, data)
    segmentation = made(data, 2, sop_class_uid=SEGMENTATION, result="segmentation")
    first = done(engine, [made(data, 1), segmentation, made(data, 3)])
    deliver(engine, first, "2.25.1", "2.25.2")
    second = next_generation(engine, data)

    named = predecessors(engine, tasks.find(engine, second))
    done(engine, [made(data, 4)], seconds=40)
    turn_of_the_worker(engine, config)

    assert [one.sop_instance_uid for one in named] == ["2.25.1", "2.25.3"]
    assert states(engine, first) == {
        "2.25.1": "delivered",
        "2.25.2": "delivered",
        "2.25.3": "withdrawn",
    }
    (note,) = notes(engine, second)
    assert rejected(note) == ["2.25.1", "2.25.2"]
    assert states(engine, second) == {"2.25.4": "waiting"}


def test_the_note_goes_out_after_what_takes_the_place(engine, config):
    data = config / "data"
    ready_task(engine, data)
    first = done(engine, [made(data, 1)])
    deliver(engine, first, "2.25.1")
    next_generation(engine, data)
    done(engine, [made(data, 4)], seconds=40)
    turn_of_the_worker(engine, config)

    due = outbox.due(engine, "pacs", at(1000) + timedelta(days=3650))

    assert [one.sop_class_uid for one in due] == [ENHANCED_SR, "1.2.840.10008.5.1.4.1.1.88.59"]


def test_result_that_comes_after_its_successor_is_never_sent(engine, config):
    data = config / "data"
    ready_task(engine, data)
    slow = tasks.claim(engine, "worker-0", at(10))
    next_generation(engine, data)
    done(engine, [made(data, 4)], seconds=40)

    tasks.finish(engine, slow, [made(data, 1)], at(60))
    turn_of_the_worker(engine, config)

    assert states(engine, slow.id) == {"2.25.1": "withdrawn"}


def test_study_status_tells_what_was_withdrawn(engine, config, pellucid):
    data = config / "data"
    ready_task(engine, data)
    task_id = done(engine, [made(data, 1), made(data, 2)])
    deliver(engine, task_id, "2.25.1")
    pellucid("retract", STUDY_UID, "--yes")

    status, out, _ = pellucid("status", STUDY_UID, "--json")

    told = {row["object"]: row["state"] for row in json.loads(out)["deliveries"]}
    assert status == 0
    assert told["2.25.1"] == "delivered, then withdrawn"
    assert told["2.25.2"] == "withdrawn"


def turn_of_the_worker(engine, config) -> None:
    """Withdraw what must be, as an idle worker does."""
    settings = load_config(config)
    while withdraw_next_superseded(engine, settings, software_version="0.1"):
        pass

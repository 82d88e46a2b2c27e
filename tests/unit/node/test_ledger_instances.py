"""What an arrival means: new, repeated, replaced, in conflict, ours."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_io.study import Instance
from node.ledger import files, instances, outbox, schema, status, studies, tasks
from node.ledger.engine import reading
from node.ledger.instances import Added, Arrived
from node.task import PlannedTask, Reception, State, StudyState
from tests.build_ledger import LONG_AGO, is_ours, owe, record_arrival

STUDY = "1.2.3"


@pytest.fixture
def engine(ledger):
    return ledger


def make_instance(uid="1.2.3.4.1", **changes):
    made = Instance(
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.4",
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=Path("/data") / uid,
        patient_id="P1",
        tags={"Modality": "MR"},
    )
    return replace(made, **changes)


def receive(engine, instance, content="a", *, pixels="", seconds=0, calling_ae="CT1"):
    reception = Reception(
        called_ae="PELLUCID",
        calling_ae=calling_ae,
        address="10.0.0.1",
        at=LONG_AGO + timedelta(seconds=seconds),
    )
    digest = f"{instance.sop_instance_uid}-{content}".rjust(64, "0")
    if pixels:
        instance = replace(instance, path=Path(f"{instance.path}@{pixels}"))
    return record_arrival(
        engine,
        instance,
        reception,
        digest=digest,
        pixels_sha256=lambda path, _: path.name.partition("@")[2],
    )


def complete(engine, *, route="head", selected=frozenset(), study=STUDY):
    planned = [PlannedTask(route=route, config_hash="ab", selected=selected)]
    return studies.complete(engine, study, planned, now=LONG_AGO + timedelta(minutes=1))


def rows(engine, table):
    with reading(engine) as connection:
        return connection.execute(select(table).order_by(*table.primary_key.columns)).all()


def test_a_first_arrival_is_new_and_readable_again(engine):
    assert receive(engine, make_instance()) is Added.NEW
    assert instances.of_study(engine, STUDY) == (make_instance(),)
    assert studies.state(engine, STUDY) is StudyState.RECEIVING


def test_the_same_bytes_again_add_nothing_but_a_reception(engine):
    receive(engine, make_instance())

    again = receive(engine, make_instance(), seconds=5, calling_ae="PACS")

    assert again is Added.DUPLICATE
    assert len(rows(engine, schema.instance)) == 1
    assert [row.meaning for row in rows(engine, schema.reception)] == ["new", "duplicate"]
    assert [r.calling_ae for r in studies.receptions(engine, STUDY)] == ["PACS", "CT1"]


def test_other_bytes_of_the_same_patient_and_study_replace(engine):
    receive(engine, make_instance())
    corrected = make_instance(path=Path("/data/corrected"))

    assert receive(engine, corrected, "b") is Added.REPLACED
    assert instances.of_study(engine, STUDY) == (corrected,)


def test_each_generation_stays_readable_as_it_was(engine):
    receive(engine, make_instance())
    complete(engine)
    corrected = make_instance(path=Path("/data/corrected"))
    receive(engine, corrected, "b")
    late = make_instance("1.2.3.4.2")
    receive(engine, late)
    complete(engine)

    assert instances.of_study(engine, STUDY, 1) == (make_instance(),)
    assert instances.of_study(engine, STUDY, 2) == (corrected, late)


@pytest.mark.parametrize(
    ("content", "meaning", "state"),
    [
        (b"the same", Added.DUPLICATE, StudyState.COMPLETE),
        (b"changed", Added.REPLACED, StudyState.RECEIVING),
    ],
)
def test_what_was_known_by_its_sha256_is_known_again(engine, tmp_path, content, meaning, state):
    before = make_instance(path=Path("/data/objects/sha256/ab/old.dcm"))
    reception = Reception(called_ae="PELLUCID", calling_ae="CT1", address="", at=LONG_AGO)
    known_as = hashlib.sha256(b"the same").hexdigest()
    record_arrival(engine, before, reception, digest=known_as)
    complete(engine)
    file = tmp_path / "new.dcm"
    file.write_bytes(content)

    again = record_arrival(engine, replace(before, path=file), reception, digest="cd" * 32)

    assert (again, studies.state(engine, STUDY)) == (meaning, state)
    current = [row for row in rows(engine, schema.instance) if row.replaced_in is None]
    assert [(row.digest, row.path) for row in current] == [("cd" * 32, str(file))]


def test_changed_pixels_open_a_study_again_and_same_pixels_do_not(engine):
    receive(engine, make_instance(), pixels="x")
    complete(engine)

    receive(engine, make_instance(path=Path("/data/recoded")), "b", pixels="x")
    unchanged = studies.state(engine, STUDY)
    receive(engine, make_instance(path=Path("/data/changed")), "c", pixels="y")

    assert unchanged is StudyState.COMPLETE
    assert instances.of_study(engine, STUDY, 1)[0].path == Path("/data/recoded@x")
    assert studies.state(engine, STUDY) is StudyState.RECEIVING


def test_a_version_that_cannot_be_read_any_more_is_not_the_same(engine):
    receive(engine, make_instance(), pixels="x")
    complete(engine)

    def unreadable(path, _):
        raise OSError("the disk fails")

    again = record_arrival(
        engine,
        make_instance(path=Path("/data/again")),
        Reception(called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=LONG_AGO),
        digest="b" * 64,
        pixels_sha256=unreadable,
    )

    assert again is Added.REPLACED
    assert studies.state(engine, STUDY) is StudyState.RECEIVING


def test_changed_tags_open_a_study_again(engine):
    receive(engine, make_instance(), pixels="x")
    complete(engine)

    receive(engine, make_instance(tags={"Modality": "CT"}), "b", pixels="x")

    assert studies.state(engine, STUDY) is StudyState.RECEIVING


def test_one_sop_instance_of_two_patients_quarantines_and_keeps_both_files(engine):
    receive(engine, make_instance())
    other = make_instance(patient_id="P2", path=Path("/data/other"))

    assert receive(engine, other, "b") is Added.CONFLICT

    assert studies.state(engine, STUDY) is StudyState.QUARANTINED
    known = files.known_files(engine, [make_instance().path, other.path, Path("/no")])
    assert known == {make_instance().path, other.path}


def test_one_study_of_two_patients_is_never_inferred_and_says_so_without_a_name(engine):
    receive(engine, make_instance())

    assert receive(engine, make_instance("1.2.3.4.2", patient_id="P2")) is Added.CONFLICT

    (complaint,) = status.summary(engine).complaints
    assert complete(engine) == ()
    assert complaint.kind == "study"
    assert "two different Patient IDs" in complaint.text
    assert "P1" not in complaint.text
    assert "P2" not in complaint.text


def test_one_sop_instance_in_two_studies_quarantines_both(engine):
    receive(engine, make_instance())

    receive(engine, make_instance(study_instance_uid="1.2.9"), "b")

    assert studies.state(engine, STUDY) is StudyState.QUARANTINED
    assert studies.state(engine, "1.2.9") is StudyState.QUARANTINED


def test_a_quarantine_cancels_the_tasks_and_fences_the_running_one(engine):
    receive(engine, make_instance())
    complete(engine)
    held = tasks.claim(engine, "w", LONG_AGO + timedelta(minutes=2))

    receive(engine, make_instance("1.2.3.4.2", patient_id="P2"))

    assert not tasks.finish(engine, held, [], LONG_AGO + timedelta(minutes=3))
    assert tasks.find(engine, held.id).state is State.CANCELLED


def test_nothing_of_a_quarantined_study_is_due_for_delivery(engine, tmp_path):
    owe(engine, tmp_path, destination="pacs")
    now = LONG_AGO + timedelta(hours=1)
    (study,) = {row.study_instance_uid for row in rows(engine, schema.study)}
    assert outbox.due(engine, "pacs", now)

    receive(engine, make_instance("9.9", study_instance_uid=study, patient_id="P2"))

    assert outbox.due(engine, "pacs", now) == ()


def test_our_own_result_is_recorded_and_never_work(engine, tmp_path):
    owe(engine, tmp_path, destination="pacs")
    came_back = make_instance("2.25.1", study_instance_uid="1.2.77")

    assert is_ours(engine, "2.25.1")
    assert receive(engine, came_back) is Added.OURS
    assert studies.state(engine, "1.2.77") is None
    assert rows(engine, schema.reception)[-1].meaning == "ours"
    assert studies.receptions(engine, "1.2.77") == ()


def test_what_carries_our_device_uid_is_recorded_and_never_work(engine):
    reception = Reception(called_ae="P", calling_ae="PACS", address="10.0.0.1", at=LONG_AGO)

    ours = Arrived(instance=make_instance(), reception=reception, digest="0" * 64, is_ours=True)
    with engine.connect() as connection:
        assert instances.add_all(connection, [ours]) == [Added.OURS]

    assert studies.state(engine, STUDY) is None
    assert files.known_files(engine, [make_instance().path]) == {make_instance().path}


SENDER = """
import sys, tests.unit.node.test_ledger_instances as t
from node.ledger.engine import open_ledger
engine = open_ledger(sys.argv[1])
print(*(t.receive(engine, t.make_instance(f"1.2.3.4.{n}")) for n in range(40)))
"""


def test_two_receivers_of_the_same_study_count_every_instance_once(engine):
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, engine.url.render_as_string()],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [sender.communicate(timeout=60)[0].split() for sender in senders]

    assert [len(answer) for answer in answers] == [40, 40]
    assert sum(answer.count("new") for answer in answers) == 40
    assert len(instances.of_study(engine, STUDY)) == 40

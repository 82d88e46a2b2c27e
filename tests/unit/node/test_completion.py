"""The tick that turns silence into tasks."""

from datetime import timedelta

import pytest

from node import completion
from node.ledger import studies, tasks
from node.task import PlannedTask, StudyState
from tests.build_ledger import LONG_AGO, new_ledger
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def after(seconds):
    return LONG_AGO + timedelta(seconds=seconds)


def wants(*plans):
    return lambda _study, _receptions: plans


def head(quiet_seconds=30.0):
    return PlannedTask(route="head", config_hash="ab", quiet_seconds=quiet_seconds)


def test_a_study_still_arriving_is_left_alone(engine):
    receive(engine, make_instance())

    assert completion.tick(engine, wants(head()), after(29)) == ()


def test_a_silent_study_gets_its_tasks_exactly_once(engine):
    receive(engine, make_instance())

    (added,) = completion.tick(engine, wants(head()), after(30))

    assert tasks.find(engine, added).study_instance_uid == STUDY
    assert completion.tick(engine, wants(head()), after(60)) == ()


def test_the_most_patient_route_decides_for_all(engine):
    receive(engine, make_instance())
    patient = PlannedTask(route="chest", config_hash="cd", quiet_seconds=300.0)

    early = completion.tick(engine, wants(head(), patient), after(31))
    late = completion.tick(engine, wants(head(), patient), after(300))

    assert early == ()
    assert len(late) == 2


def test_the_planner_sees_the_whole_study_and_who_sent_it(engine):
    receive(engine, make_instance(), calling_ae="CT1")
    receive(engine, make_instance("1.2.3.4.2"), calling_ae="PACS")
    seen = []

    def planned(study, receptions):
        seen.append((len(study.instances), {one.calling_ae for one in receptions}))
        return ()

    completion.tick(engine, planned, after(30))

    assert seen == [(2, {"CT1", "PACS"})]
    assert studies.state(engine, STUDY) is StudyState.COMPLETE


def test_a_quarantined_study_is_never_planned(engine):
    receive(engine, make_instance())
    receive(engine, make_instance("1.2.3.4.2", patient_id="P2"))

    assert completion.tick(engine, wants(head()), after(3600)) == ()


def test_a_study_that_cannot_be_planned_does_not_keep_the_others_waiting(engine, caplog):
    receive(engine, make_instance())
    receive(engine, make_instance("1.2.9.4.1", study_instance_uid="1.2.9"), seconds=1)

    def planned(study, _receptions):
        if study.study_instance_uid == STUDY:
            raise LookupError("a route that fails")
        return (head(),)

    (added,) = completion.tick(engine, planned, after(40))

    assert tasks.find(engine, added).study_instance_uid == "1.2.9"
    assert studies.state(engine, STUDY) is StudyState.RECEIVING
    assert "study cannot be completed" in caplog.text

"""When studies become complete, and what late images open."""

from datetime import timedelta

import pytest

from node.ledger import instances, studies, tasks
from node.task import PlannedTask, State, StudyState
from tests.build_ledger import LONG_AGO
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive

NOW = LONG_AGO + timedelta(minutes=1)


@pytest.fixture
def engine(ledger):
    return ledger


def plan(route, *selected):
    return PlannedTask(route=route, config_hash="ab", selected=frozenset(selected))


def complete(engine, *planned, revision=None):
    return studies.complete(engine, STUDY, planned, now=NOW, revision=revision)


def test_a_study_is_due_when_it_has_been_silent(engine):
    receive(engine, make_instance(), seconds=10)

    assert studies.due(engine, LONG_AGO + timedelta(seconds=9)) == ()
    (silent,) = studies.due(engine, LONG_AGO + timedelta(seconds=10))
    assert (silent.study_instance_uid, silent.generation) == (STUDY, 0)


def test_a_sender_that_repeats_itself_is_not_silent(engine):
    receive(engine, make_instance())
    receive(engine, make_instance(), seconds=20)

    assert studies.due(engine, LONG_AGO + timedelta(seconds=19)) == ()


def test_completing_adds_the_tasks_once(engine):
    receive(engine, make_instance())

    added = complete(engine, plan("head"), plan("chest"))

    assert len(added) == 2
    assert complete(engine, plan("head"), plan("chest")) == ()
    assert [t.state for t in tasks.of_study(engine, STUDY)] == [State.READY] * 2
    assert {t.created for t in tasks.of_study(engine, STUDY)} == {NOW}
    assert studies.state(engine, STUDY) is StudyState.COMPLETE


def test_an_arrival_between_looking_and_completing_wins(engine):
    receive(engine, make_instance())
    (seen,) = studies.due(engine, NOW)
    receive(engine, make_instance("1.2.3.4.2"))

    assert complete(engine, plan("head"), revision=seen.revision) == ()
    assert studies.state(engine, STUDY) is StudyState.RECEIVING


def test_a_late_image_opens_a_generation_only_for_the_routes_that_select_it(engine):
    receive(engine, make_instance())
    complete(engine, plan("head", "1.2.3.4.1"), plan("chest", "1.2.3.4.2"))
    receive(engine, make_instance("1.2.3.4.2"))

    (added,) = complete(engine, plan("head", "1.2.3.4.1"), plan("chest", "1.2.3.4.2"))

    assert tasks.find(engine, added).route == "chest"
    assert tasks.find(engine, added).generation == 2


def test_a_late_image_that_no_route_selects_joins_the_present_generation(engine):
    receive(engine, make_instance())
    complete(engine, plan("head", "1.2.3.4.1"))
    receive(engine, make_instance("1.2.3.4.2"))

    assert complete(engine, plan("head", "1.2.3.4.1")) == ()

    assert studies.state(engine, STUDY) is StudyState.COMPLETE
    assert len(instances.of_study(engine, STUDY, 1)) == 2


def test_an_unwanted_replacement_joins_the_present_generation(engine):
    receive(engine, make_instance())
    receive(engine, make_instance("1.2.3.4.2"))
    complete(engine, plan("head", "1.2.3.4.1"))
    newer = make_instance("1.2.3.4.2", tags={"Modality": "SR"})
    receive(engine, newer, "b")

    complete(engine, plan("head", "1.2.3.4.1"))

    assert instances.of_study(engine, STUDY, 1) == (make_instance(), newer)


def test_a_new_generation_cancels_what_still_waits_on_the_same_route(engine):
    receive(engine, make_instance())
    (first, other) = complete(engine, plan("head"), plan("chest", "1.2.3.4.1"))
    receive(engine, make_instance("1.2.3.4.2"))

    (second,) = complete(engine, plan("head"), plan("chest", "1.2.3.4.1"))

    assert tasks.find(engine, first).state is State.CANCELLED
    assert tasks.find(engine, first).error == "superseded by generation 2"
    assert tasks.find(engine, other).state is State.READY
    assert tasks.find(engine, second).state is State.READY


def test_a_study_that_no_route_wants_is_complete_without_tasks(engine):
    receive(engine, make_instance())

    assert complete(engine) == ()
    assert studies.state(engine, STUDY) is StudyState.COMPLETE


def test_a_study_that_never_arrived_has_no_state(engine):
    assert studies.state(engine, "1.2.404") is None
    assert complete(engine, plan("head")) == ()

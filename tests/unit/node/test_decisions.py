"""What a person decides: cancelled, given up, let go on; each with its reason in the audit."""
# ruff: noqa: F811 (a fixture that a test takes has the name under which it was imported)

from datetime import timedelta

import pytest
from sqlalchemy import select

from node.errors import TransitionError
from node.ledger import decisions, outbox, retention, schema, studies, tasks
from node.ledger import untold as untold_tasks
from node.ledger.engine import reading
from node.task import DeliveryState, PlannedTask, State, StudyState
from tests.build_ledger import LONG_AGO, STUDY_UID, owe, ready_task
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive
from tests.unit.node.test_retract import config, pellucid  # noqa: F401 (fixtures)
from tests.unit.node.test_retract import engine as small_ledger  # noqa: F401


def at(seconds):
    return LONG_AGO + timedelta(seconds=seconds)


def plan(engine, *routes):
    planned = [PlannedTask(route=route, config_hash="ab") for route in routes]
    return studies.complete(engine, STUDY, planned, now=at(0))


def decided(engine):
    table = schema.audit.c
    query = select(table.event, table.detail).where(table.actor == "operator").order_by(table.id)
    with reading(engine) as connection:
        return [
            (row.event, row.detail["reason"])
            for row in connection.execute(query)
            if row.event.startswith("operator_")
        ]


def ended(engine, state):
    """Have a task end without a result, and its destinations told; return its id."""
    receive(engine, make_instance())
    (task_id,) = plan(engine, "head")
    held = tasks.claim(engine, "w", at(1))
    tasks.give_up(engine, held, state=state, error="e", now=at(2))
    return task_id


def test_a_cancelled_study_has_nothing_left_to_do_and_a_late_result_is_dropped(ledger):
    receive(ledger, make_instance())
    running, ready = plan(ledger, "head", "chest")
    held = tasks.claim(ledger, "w", at(1))

    count = decisions.cancel_study(ledger, STUDY, reason="wrong patient", now=at(2))

    assert count == 2
    assert not tasks.renew(ledger, held, at(3))
    assert not tasks.finish(ledger, held, [], at(3))
    states = {tasks.find(ledger, each).state for each in (running, ready)}
    assert states == {State.CANCELLED}
    assert decided(ledger) == [("operator_cancelled", "wrong patient")] * 2


def test_only_work_is_cancelled(ledger):
    task_id = ended(ledger, State.PARKED)

    with pytest.raises(TransitionError, match="is parked, not ready or running"):
        decisions.cancel_task(ledger, task_id, reason="", now=at(3))


@pytest.mark.parametrize("state", [State.PARKED, State.FAILED, State.QUARANTINED])
def test_a_dismissed_task_waits_for_nobody_and_lets_its_study_go(ledger, state):
    task_id = ended(ledger, state)
    with pytest.raises(TransitionError, match="still to be told"):
        decisions.dismiss_task(ledger, task_id, reason="phantom", now=at(3))
    untold_tasks.told(ledger, tasks.find(ledger, task_id), [], at(4))
    kept = retention.settled(ledger, before=at(99))

    decisions.dismiss_task(ledger, task_id, reason="phantom", now=at(5))

    assert tasks.find(ledger, task_id).state is State.CANCELLED
    assert kept == ()
    assert len(retention.settled(ledger, before=at(99))) == 1
    assert decided(ledger) == [("operator_dismissed", "phantom")]


def test_a_dismissed_delivery_is_never_sent_and_one_that_is_on_its_way_is_not_dismissed(
    ledger, tmp_path
):
    task = owe(ledger, tmp_path, destination="pacs", count=3)
    parked, refused, waiting = outbox.of_task(ledger, task.id)
    outbox.park(ledger, parked, status=None, reason="r", now=at(5))
    outbox.refuse(ledger, refused, status=0x0122, reason="r", now=at(5))

    one = decisions.dismiss_deliveries(ledger, delivery_id=waiting.id, reason="x", now=at(6))
    all_of_it = decisions.dismiss_deliveries(ledger, destination="pacs", reason="x", now=at(6))

    states = [each.state for each in outbox.of_task(ledger, task.id)]
    assert (one, all_of_it) == (0, 2)
    assert states == [DeliveryState.WITHDRAWN, DeliveryState.WITHDRAWN, DeliveryState.WAITING]
    assert not outbox.release(ledger, parked.id, at(7))


def test_a_task_released_from_quarantine_is_tried_afresh(ledger):
    task_id = ended(ledger, State.QUARANTINED)

    decisions.release_task(ledger, task_id, reason="driver replaced", now=at(3))

    again = tasks.claim(ledger, "w", at(4))
    assert (again.id, again.attempt) == (task_id, 1)
    assert decided(ledger) == [("operator_released", "driver replaced")]
    with pytest.raises(TransitionError, match="running, not quarantined"):
        decisions.release_task(ledger, task_id, reason="again", now=at(5))


def test_a_study_released_before_it_was_whole_is_received_on(ledger):
    receive(ledger, make_instance())
    receive(ledger, make_instance("1.2.3.4.2", patient_id="P2"))

    again = decisions.release_study(ledger, STUDY, reason="ID mended", now=at(50))

    assert again == ()
    assert studies.state(ledger, STUDY) is StudyState.RECEIVING
    assert [each.since for each in studies.due(ledger, at(99))] == [at(50)]


def test_a_released_study_begins_anew_what_its_quarantine_had_stopped_and_sends_what_it_owes(
    ledger,
):
    receive(ledger, make_instance())
    done, stopped = plan(ledger, "head", "chest")
    held = tasks.claim(ledger, "w", at(1))
    tasks.finish(ledger, held, [], at(2))
    receive(ledger, make_instance("1.2.3.4.2", patient_id="P2"))
    (aside,) = decisions.set_aside(ledger)

    (again,) = decisions.release_study(ledger, STUDY, reason="ID mended", now=at(50))

    new = tasks.find(ledger, again)
    assert (aside.kind, aside.id, aside.apart) == ("study", STUDY, 1)
    assert (held.id, tasks.find(ledger, stopped).state) == (done, State.CANCELLED)
    assert (new.route, new.generation, new.state) == ("chest", 2, State.READY)
    assert studies.state(ledger, STUDY) is StudyState.COMPLETE
    assert decisions.set_aside(ledger) == ()
    assert decided(ledger) == [("operator_released", "ID mended")]


def test_what_a_person_cancelled_does_not_come_back_with_a_release(ledger):
    receive(ledger, make_instance())
    (cancelled,) = plan(ledger, "head")
    decisions.cancel_task(ledger, cancelled, reason="no", now=at(1))
    receive(ledger, make_instance("1.2.3.4.2", patient_id="P2"))

    assert decisions.release_study(ledger, STUDY, reason="ID mended", now=at(50)) == ()


def test_a_study_that_is_not_quarantined_is_not_released(ledger):
    receive(ledger, make_instance())

    for study in (STUDY, "1.2.99"):
        with pytest.raises(TransitionError, match="is not quarantined"):
            decisions.release_study(ledger, study, reason="x", now=at(1))


def test_commands_cancel_a_task_and_a_study_and_say_what_they_did(
    small_ledger,
    config,
    pellucid,
):
    task_id = ready_task(small_ledger, config / "data")

    assert pellucid("cancel", task_id)[:2] == (0, f"task {task_id} is cancelled\n")
    code, _, complaint = pellucid("cancel", STUDY_UID)
    assert (code, "no task that is ready or running" in complaint) == (2, True)
    assert pellucid("cancel", "1.2.99")[0] == 2


def test_commands_list_and_release_what_is_quarantined(small_ledger, pellucid):
    assert pellucid("quarantine", "list")[:2] == (0, "nothing is quarantined\n")
    receive(small_ledger, make_instance())
    receive(small_ledger, make_instance("1.2.3.4.2", patient_id="P2"))

    code, listed, _ = pellucid("quarantine", "list", "--json")
    without = pellucid("quarantine", "release", STUDY, "--reason", " ")
    _, said, _ = pellucid("quarantine", "release", STUDY, "--reason", "ID mended")

    assert (code, '"kept_apart": 1' in listed, without[0]) == (1, True, 2)
    assert "P1" not in listed
    assert "1 instance of another patient or study stay apart" in said


def test_commands_dismiss_all_that_a_destination_will_never_get(
    small_ledger,
    config,
    pellucid,
):
    task = owe(small_ledger, config / "data", destination="pacs", count=2)
    for each in outbox.of_task(small_ledger, task.id):
        outbox.park(small_ledger, each, status=None, reason="r", now=at(5))

    code, said, _ = pellucid("dismiss", "destination", "pacs", "--reason", "it is gone")

    assert (code, said) == (0, "2 objects owed to pacs: given up\n")
    assert pellucid("dismiss", "destination", "pacs", "--reason", "it is gone")[0] == 2

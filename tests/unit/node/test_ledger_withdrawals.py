"""What stands in, what is untold and what is withdrawn, as the ledger keeps it."""

from datetime import datetime, timedelta

import pytest

from node.ledger import outbox, studies, tasks, untold, withdrawals
from node.ledger.withdrawals import Made, Withdrawal
from node.task import DeliveryState, NewDelivery, PlannedTask, State
from tests.build_ledger import LONG_AGO, STUDY_UID, arrive, ready_task, write_instance

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture
def engine(ledger):
    return ledger


def at(seconds: int) -> datetime:
    return LONG_AGO + timedelta(seconds=seconds)


def made(folder, number: int, *, to: str | None = "pacs", result: str = "report") -> NewDelivery:
    uid = f"2.25.{number}"
    return NewDelivery(
        destination=to,
        result=result,
        series_instance_uid=f"{STUDY_UID}.7",
        sop_class_uid=ENHANCED_SR,
        sop_instance_uid=uid,
        path=write_instance(folder / "made", uid, sop_class_uid=ENHANCED_SR),
    )


def done(engine, owed, *, seconds: int = 10):
    task = tasks.claim(engine, "worker-0", at(seconds))
    assert tasks.finish(engine, task, owed, at(seconds + 1))
    return task


def withdrawal(objects: tuple[Made, ...], task_id: int) -> Withdrawal:
    return Withdrawal(objects=objects, note=(), task_id=task_id, reason="wrong", actor="operator")


def states(engine, task) -> dict[str, str]:
    return {one.result: str(one.state) for one in outbox.of_task(engine, task.id)}


def test_stand_in_is_owed_with_everything_that_a_delivery_has(engine, tmp_path):
    ready_task(engine, tmp_path)
    task = done(engine, [made(tmp_path, 1), made(tmp_path, 2, to=None, result="report_basic")])
    (owed,) = outbox.due(engine, "pacs", at(20))

    chains = {"report": ("nothing", "report_basic")}
    outbox.refuse(engine, owed, status=0xC000, reason="no", now=at(20), instead=chains)

    (due,) = outbox.due(engine, "pacs", at(20))
    assert (due.task_id, due.destination, due.sop_instance_uid) == (task.id, "pacs", "2.25.2")
    assert (due.state, due.attempt, due.status) == (DeliveryState.WAITING, 0, None)
    assert due.path.is_file()


def test_stand_in_that_is_on_its_way_anyway_is_owed_once(engine, tmp_path):
    ready_task(engine, tmp_path)
    task = done(engine, [made(tmp_path, 1), made(tmp_path, 2, result="overlay")])
    owed, _ = outbox.due(engine, "pacs", at(20))

    chains = {"report": ("overlay",)}
    outbox.refuse(engine, owed, status=0xC000, reason="no", now=at(20), instead=chains)

    assert states(engine, task) == {"report": "refused", "overlay": "waiting"}


def test_withdrawn_object_is_never_due(engine, tmp_path):
    ready_task(engine, tmp_path)
    task = done(engine, [made(tmp_path, 1)])

    objects = withdrawals.made_of_study(engine, STUDY_UID)
    assert withdrawals.withdraw(engine, withdrawal(objects, task.id), at(20))

    assert outbox.due(engine, "pacs", at(1000)) == ()
    assert withdrawals.made_of_study(engine, STUDY_UID) == ()


def test_nothing_is_withdrawn_on_the_ground_of_an_old_look(engine, tmp_path):
    ready_task(engine, tmp_path)
    task = done(engine, [made(tmp_path, 1)])
    objects = withdrawals.made_of_study(engine, STUDY_UID)
    (owed,) = outbox.due(engine, "pacs", at(20))
    outbox.delivered(engine, owed, 0x0000, at(20))

    assert not withdrawals.withdraw(engine, withdrawal(objects, task.id), at(30))

    (still,) = withdrawals.made_of_study(engine, STUDY_UID)
    assert still.delivered_to == ("pacs",)


def test_object_that_arrives_while_it_is_withdrawn_counts_again(engine, tmp_path):
    ready_task(engine, tmp_path)
    task = done(engine, [made(tmp_path, 1)])
    (being_sent,) = outbox.due(engine, "pacs", at(20))
    objects = withdrawals.made_of_study(engine, STUDY_UID)
    withdrawals.withdraw(engine, withdrawal(objects, task.id), at(20))

    outbox.delivered(engine, being_sent, 0x0000, at(21))

    (counts,) = withdrawals.made_of_study(engine, STUDY_UID)
    assert counts.delivered_to == ("pacs",)
    assert states(engine, task) == {"report": "delivered"}


def test_model_finds_its_objects_and_those_of_no_known_model(engine, tmp_path):
    ready_task(engine, tmp_path)
    done(engine, [made(tmp_path, 1)])

    (found,) = withdrawals.made_of_model(engine, "nodule")

    assert (found.model, found.waiting_for) == ("", ("pacs",))


def test_later_generation_supersedes_the_earlier_one_when_it_is_done(engine, tmp_path):
    ready_task(engine, tmp_path)
    first = done(engine, [made(tmp_path, 1)])
    arrive(engine, write_instance(tmp_path / "received", f"{STUDY_UID}.7.3"))
    planned = [PlannedTask(route="head", config_hash="ab", quiet_seconds=0.0)]
    studies.complete(engine, STUDY_UID, planned, now=at(30))
    before = withdrawals.next_superseded(engine)

    second = done(engine, [made(tmp_path, 2)], seconds=40)

    found = withdrawals.next_superseded(engine)
    assert (before, found.id) == (None, first.id)
    assert withdrawals.successor_of(engine, found).id == second.id
    withdrawals.settle(engine, found)
    assert withdrawals.next_superseded(engine) is None


@pytest.mark.parametrize("state", [State.REJECTED, State.PARKED, State.FAILED])
def test_end_without_a_result_is_untold_until_it_is_told(engine, tmp_path, state):
    ready_task(engine, tmp_path)
    task = tasks.claim(engine, "worker-0", at(10))
    tasks.give_up(engine, task, state=state, error="why", now=at(11))

    ended = untold.next_untold(engine)

    assert (ended.id, ended.state) == (task.id, state)
    assert untold.told(engine, ended, [made(tmp_path, 1, result="outcome")], at(12))
    assert untold.next_untold(engine) is None
    assert not untold.told(engine, ended, [made(tmp_path, 1, result="outcome")], at(13))
    assert states(engine, task) == {"outcome": "waiting"}


def test_task_that_is_tried_again_has_nothing_to_tell(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    task = tasks.claim(engine, "worker-0", at(10))
    tasks.give_up(engine, task, state=State.PARKED, error="why", now=at(11))
    ended = untold.next_untold(engine)

    tasks.retry(engine, task_id, at(12))

    assert untold.next_untold(engine) is None
    assert not untold.told(engine, ended, [made(tmp_path, 1, result="outcome")], at(13))


def test_quarantined_study_is_told_nothing_of(engine, tmp_path):
    ready_task(engine, tmp_path)
    task = tasks.claim(engine, "worker-0", at(10))
    tasks.give_up(engine, task, state=State.FAILED, error="why", now=at(11))

    with engine.begin() as connection:
        studies.quarantine(connection, STUDY_UID, reason="two", now=at(12), actor="x")

    assert untold.next_untold(engine) is None

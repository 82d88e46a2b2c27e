"""A clock that is set back keeps nothing waiting."""

from datetime import timedelta

import pytest

from node import completion
from node.ledger import outbox, studies, tasks
from node.ledger.future import forget_future
from node.task import PlannedTask, State
from tests.build_ledger import LONG_AGO, STUDY_UID, owe, ready_task
from tests.unit.node.test_ledger_instances import make_instance, receive

#: The clock as it was set right, after a start in the wrong year.
RIGHT = LONG_AGO - timedelta(days=3650)


@pytest.fixture
def engine(ledger):
    return ledger


def test_a_study_that_arrived_in_the_wrong_year_is_completed_after_its_silence(engine):
    receive(engine, make_instance())
    plan = PlannedTask(route="head", config_hash="ab", quiet_seconds=30.0)

    assert forget_future(engine, RIGHT)

    early = completion.tick(engine, lambda *_: [plan], RIGHT + timedelta(seconds=29))
    assert early == ()
    assert len(completion.tick(engine, lambda *_: [plan], RIGHT + timedelta(seconds=30))) == 1


def test_a_task_that_was_planned_in_the_wrong_year_is_claimed(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    before = tasks.claim(engine, "w", RIGHT)

    forget_future(engine, RIGHT)

    claimed = tasks.claim(engine, "w", RIGHT)
    assert before is None
    assert claimed.id == task_id


def test_what_was_owed_in_the_wrong_year_is_due(engine, tmp_path):
    owe(engine, tmp_path, destination="pacs")
    before = outbox.due(engine, "pacs", RIGHT)

    forget_future(engine, RIGHT)

    assert before == ()
    assert len(outbox.due(engine, "pacs", RIGHT)) == 1


def test_a_pause_under_a_clock_that_goes_right_is_kept(engine, tmp_path):
    ready_task(engine, tmp_path)
    now = LONG_AGO + timedelta(seconds=3)
    held = tasks.claim(engine, "w", now)
    pause = now + timedelta(minutes=15)
    tasks.give_up(engine, held, state=State.READY, error="", now=now, not_before=pause)

    assert not forget_future(engine, now)

    assert tasks.find(engine, held.id).not_before == pause
    assert studies.state(engine, STUDY_UID) == "complete"

"""The queue: one winner, leases that end, a fence, and no way around the table."""

import ast
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

import node
from node.errors import ATTEMPTS, TransitionError
from node.ledger import decisions, outbox, schema, studies, tasks
from node.ledger.engine import reading
from node.task import TRANSITIONS, NewDelivery, PlannedTask, Priority, State
from tests.build_ledger import LONG_AGO, is_ours, new_ledger
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive


def at(seconds):
    return LONG_AGO + timedelta(seconds=seconds)


@pytest.fixture
def engine(ledger):
    receive(ledger, make_instance())
    return ledger


def plan(engine, *priorities):
    planned = [
        PlannedTask(route=f"route-{n}", config_hash="ab", priority=priority)
        for n, priority in enumerate(priorities or (Priority.ROUTINE,))
    ]
    return studies.complete(engine, STUDY, planned, now=at(0))


def cancel(engine, task_id, now):
    decisions.cancel_task(engine, task_id, reason="", now=now)


def owed(uid="2.25.1", destination="pacs"):
    return NewDelivery(
        destination=destination, sop_class_uid="1.2.3", sop_instance_uid=uid, path=Path("/a.dcm")
    )


def history(engine, task_id):
    table = schema.task_event.c
    query = select(table.before, table.after).where(table.task_id == task_id).order_by(table.id)
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_a_claimed_task_is_running_and_nobody_elses(engine):
    (task_id,) = plan(engine)

    claimed = tasks.claim(engine, "w1", at(1))

    assert (claimed.id, claimed.state, claimed.attempt) == (task_id, State.RUNNING, 1)
    assert tasks.claim(engine, "w2", at(1)) is None


def test_the_most_urgent_goes_first_then_the_oldest(engine):
    routine, stat, second = plan(engine, Priority.ROUTINE, Priority.STAT, Priority.ROUTINE)

    assert [tasks.claim(engine, "w", at(1)).id for _ in range(3)] == [stat, routine, second]


def plan_at(engine, seconds, route, priority):
    planned = [PlannedTask(route=route, config_hash="ab", priority=priority)]
    with engine.begin() as connection:
        (task_id,) = tasks.add(connection, STUDY, 1, planned=planned, now=at(seconds))
    return task_id


def test_a_task_that_has_waited_long_goes_before_newer_ones_that_are_more_urgent(engine):
    four_hours, day = 4 * 3600, 24 * 3600
    off_peak = plan_at(engine, 0, "off-peak", Priority.OFF_PEAK)
    old = plan_at(engine, day - four_hours - 3, "old", Priority.ROUTINE)
    late = plan_at(engine, day - 1, "late", Priority.ROUTINE)
    urgent = plan_at(engine, day - 2, "urgent", Priority.URGENT)
    newer = plan_at(engine, day + 1, "newer", Priority.URGENT)

    claimed = [tasks.claim(engine, "w", at(day + 2)).id for _ in range(5)]

    assert claimed == [old, urgent, off_peak, newer, late]


def test_stat_goes_first_however_long_others_have_waited(engine):
    year = 365 * 24 * 3600
    old = plan_at(engine, 0, "old", Priority.URGENT)
    stat = plan_at(engine, year, "stat", Priority.STAT)
    second = plan_at(engine, year + 1, "second", Priority.STAT)

    claimed = [tasks.claim(engine, "w", at(year + 2)).id for _ in range(3)]

    assert claimed == [stat, second, old]


def test_a_postponed_task_waits_for_its_moment(engine):
    plan(engine)
    held = tasks.claim(engine, "w", at(1))
    tasks.give_up(engine, held, state=State.READY, error="no memory", now=at(2), not_before=at(60))

    assert tasks.claim(engine, "w", at(59)) is None
    again = tasks.claim(engine, "w", at(60))
    assert (again.attempt, again.error) == (2, "no memory")


def test_finishing_records_results_and_what_is_owed_in_one_step(engine):
    plan(engine)
    held = tasks.claim(engine, "w", at(1))

    assert tasks.finish(engine, held, [owed(), owed("2.25.2", None)], at(2))

    assert tasks.find(engine, held.id).state is State.DONE
    assert [d.sop_instance_uid for d in outbox.of_task(engine, held.id)] == ["2.25.1"]
    assert is_ours(engine, "2.25.1")
    assert is_ours(engine, "2.25.2")


def test_what_became_of_the_explanations_stands_beside_the_task(engine):
    plan(engine)
    held = tasks.claim(engine, "w", at(1))
    told = ("lesion by LayerCAM: explanation grade A", "lesion by CAM: NOT EXPLAINED, no layer")

    tasks.finish(engine, held, [], at(2), explained=told)

    assert held.explained == ()
    assert tasks.find(engine, held.id).explained == told


def test_a_zombie_cannot_finish_what_another_has_claimed(engine):
    plan(engine)
    zombie = tasks.claim(engine, "slow", at(1), lease_seconds=60)
    tasks.reclaim_expired(engine, at(62))
    winner = tasks.claim(engine, "quick", at(63))

    assert not tasks.renew(engine, zombie, at(64))
    assert not tasks.finish(engine, zombie, [owed()], at(64))
    assert not tasks.give_up(engine, zombie, state=State.FAILED, error="late", now=at(64))
    assert outbox.of_task(engine, zombie.id) == ()
    assert tasks.finish(engine, winner, [owed()], at(65))
    assert not tasks.finish(engine, zombie, [owed("2.25.9")], at(66))
    assert [d.sop_instance_uid for d in outbox.of_task(engine, winner.id)] == ["2.25.1"]


def test_a_renewed_lease_is_not_over(engine):
    plan(engine)
    held = tasks.claim(engine, "w", at(0), lease_seconds=60)

    assert tasks.renew(engine, held, at(50), lease_seconds=60)
    assert tasks.reclaim_expired(engine, at(100)) == ()
    assert tasks.reclaim_expired(engine, at(111)) == (held.id,)


def test_a_task_that_kills_two_workers_is_quarantined(engine):
    (task_id,) = plan(engine)
    tasks.claim(engine, "w1", at(0))
    tasks.reclaim_from(engine, ["w1"], at(61))
    first = tasks.find(engine, task_id).state
    held = tasks.claim(engine, "w2", at(62))

    assert first is State.READY
    assert tasks.died(engine, held, error="killed by signal 9", now=at(63)) is State.QUARANTINED
    assert tasks.claim(engine, "w3", at(64)) is None


@pytest.mark.parametrize(
    "interrupt",
    [
        lambda engine, now: tasks.release_from(engine, ["w"], now),
        tasks.reclaim_expired,
    ],
)
def test_a_task_is_not_to_blame_for_power_cuts_and_pauses_of_the_machine(engine, interrupt):
    (task_id,) = plan(engine)

    states = []
    for cut in range(ATTEMPTS):
        tasks.claim(engine, "w", at(cut * 100))
        interrupt(engine, at(cut * 100 + 61))
        states.append(tasks.find(engine, task_id).state)

    assert states == [State.READY] * (ATTEMPTS - 1) + [State.PARKED]
    assert "5 times" in tasks.find(engine, task_id).error


def test_a_task_handed_back_has_not_been_tried(engine):
    (task_id,) = plan(engine)

    for restart in range(ATTEMPTS):
        held = tasks.claim(engine, "w", at(restart))
        assert tasks.hand_back(engine, held, at(restart))

    assert tasks.find(engine, task_id).attempt == 0


def test_nothing_of_a_quarantined_study_is_tried_again(engine):
    (task_id,) = plan(engine)
    held = tasks.claim(engine, "w", at(1))
    tasks.give_up(engine, held, state=State.PARKED, error="", now=at(2))
    receive(engine, make_instance("1.2.3.99", patient_id="SOMEONE ELSE"))

    with pytest.raises(TransitionError, match="its study is quarantined"):
        tasks.retry(engine, task_id, at(3))

    assert tasks.find(engine, task_id).state is State.PARKED


def test_an_operator_gives_fresh_attempts(engine):
    (task_id,) = plan(engine)
    held = tasks.claim(engine, "w", at(1))
    tasks.give_up(engine, held, state=State.PARKED, error="model missing", now=at(2))

    tasks.retry(engine, task_id, at(3))

    again = tasks.claim(engine, "w", at(3))
    assert (again.attempt, again.error) == (1, "")
    assert again.token > held.token


def test_a_cancelled_running_task_throws_its_result_away(engine):
    (task_id,) = plan(engine)
    held = tasks.claim(engine, "w", at(1))

    cancel(engine, task_id, at(2))

    assert not tasks.finish(engine, held, [owed()], at(3))


@pytest.mark.parametrize("action", [tasks.retry, cancel])
def test_what_the_table_does_not_hold_is_refused(engine, action):
    plan(engine)
    held = tasks.claim(engine, "w", at(1))
    tasks.finish(engine, held, [], at(2))

    with pytest.raises(TransitionError):
        action(engine, held.id, at(3))
    with pytest.raises(TransitionError, match="no task 99"):
        action(engine, 99, at(3))


def test_only_finishing_leads_to_done(engine):
    plan(engine)
    held = tasks.claim(engine, "w", at(1))

    with pytest.raises(TransitionError):
        tasks.give_up(engine, held, state=State.DONE, error="", now=at(2))


def test_every_change_has_its_event_and_its_audit_row(engine):
    (task_id,) = plan(engine)
    held = tasks.claim(engine, "w", at(1))
    tasks.finish(engine, held, [], at(2))

    assert history(engine, task_id) == [
        (None, "ready"),
        ("ready", "running"),
        ("running", "done"),
    ]
    with reading(engine) as connection:
        audited = connection.execute(
            select(schema.audit.c.event, schema.audit.c.actor).order_by(schema.audit.c.id)
        ).all()
    assert [tuple(row) for row in audited] == [
        ("task_ready", "completion"),
        ("task_running", "w"),
        ("task_done", "w"),
    ]


PLAIN_MOVES = ["claim", "finish", "died", "expire", "cut", "hand_back", "retry", "cancel"]
ENDINGS = st.sampled_from([state for state in State if state is not State.RUNNING])
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("give_up"), ENDINGS),
        st.tuples(st.sampled_from(PLAIN_MOVES)),
    ),
    max_size=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=MOVES)
def test_whatever_happens_a_task_moves_along_the_table(tmp_path_factory, moves):
    engine = new_ledger(tmp_path_factory.mktemp("ledger"))
    receive(engine, make_instance())
    (task_id,) = plan(engine)
    held = tasks.find(engine, task_id)

    for clock, (move, *ending) in enumerate(moves):
        claimed = _apply(engine, held, move, *ending, now=at(clock * 100))
        held = claimed or held
    events = history(engine, task_id)
    final = tasks.find(engine, task_id).state
    engine.dispose()

    assert {(State(before), State(after)) for before, after in events[1:]} <= TRANSITIONS
    assert [before for before, _ in events[1:]] == [after for _, after in events[:-1]]
    assert events[-1][1] == final


def _apply(engine, held, move, ending=None, *, now):
    actions = {
        "claim": lambda: tasks.claim(engine, "w", now),
        "finish": lambda: tasks.finish(engine, held, [owed()], now),
        "died": lambda: tasks.died(engine, held, error="gone", now=now),
        "expire": lambda: tasks.reclaim_expired(engine, now),
        "cut": lambda: tasks.release_from(engine, ["w"], now),
        "hand_back": lambda: tasks.hand_back(engine, held, now),
        "give_up": lambda: tasks.give_up(engine, held, state=ending, error="e", now=now),
        "retry": lambda: tasks.retry(engine, held.id, now),
        "cancel": lambda: cancel(engine, held.id, now),
    }
    try:
        answer = actions[move]()
    except TransitionError:
        return None
    return answer if move == "claim" else None


def test_one_function_alone_writes_a_tasks_state():
    written = [
        (path.name, function.name)
        for path in Path(node.__file__).parent.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        if any(_updates_task_state(inner) for inner in ast.walk(function))
    ]

    assert written == [("tasks.py", "move")]


def _updates_task_state(part):
    return (
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr == "values"
        and "update(task)" in ast.unparse(part)
        and any(keyword.arg == "state" for keyword in part.keywords)
    )


CLAIMER = """
import sys, datetime
from node.ledger import tasks
from node.ledger.engine import open_ledger
engine = open_ledger(sys.argv[1])
sys.stdin.readline()
now = datetime.datetime.fromisoformat(sys.argv[2])
while (task := tasks.claim(engine, sys.argv[3], now)) is not None:
    print(task.id)
"""


def test_of_two_processes_that_claim_at_once_one_wins_each_task(engine):
    planned = plan(engine, *([Priority.ROUTINE] * 60))
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, engine.url.render_as_string(), str(at(1)), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("w1", "w2")
    ]
    claimed = []
    for claimer in claimers:
        claimer.stdin.write("\n")
        claimer.stdin.flush()
    for claimer in claimers:
        claimed += map(int, claimer.communicate(timeout=60)[0].split())

    assert sorted(claimed) == sorted(planned)

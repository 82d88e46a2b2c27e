"""The queue: tasks with lease, fence and history, changed in one function along TRANSITIONS."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, insert, select, update

from node.errors import ATTEMPTS, TransitionError
from node.ledger import audit, outbox
from node.ledger.engine import reading
from node.ledger.rows import task_of
from node.ledger.schema import study, task, task_event
from node.ledger.superseding import mark_superseded
from node.task import (
    TRANSITIONS,
    TURNS,
    NewDelivery,
    PlannedTask,
    Priority,
    RefusedResult,
    State,
    StudyState,
    Task,
)

#: Processes that a task may kill while the node lives, before it is put aside.
_DEATHS = 2
_OPERATOR = "operator"
_NEW = {"state": State.READY, "attempt": 0, "deaths": 0, "token": 0, "worker": "", "error": ""}
#: How a task ends without a result: its destinations must be told.
_WITHOUT_RESULT = (State.REJECTED, State.PARKED, State.FAILED, State.QUARANTINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step along TRANSITIONS, of every task that a condition names."""

    before: State
    after: State
    now: datetime
    #: None leaves what is written there.
    error: str | None = None
    #: Who decides; empty for the worker that holds or held the task.
    actor: str = ""


def add(
    connection: Connection,
    study_instance_uid: str,
    generation: int,
    *,
    planned: Sequence[PlannedTask],
    now: datetime,
) -> tuple[int, ...]:
    """Add READY tasks inside the caller's transaction; return the ids of those that are new.

    The caller holds the study's row. The key ``infer:{study}:{generation}:{route}:{config_hash}``
    exists once, so repeating adds nothing.
    """
    keys = [
        f"infer:{study_instance_uid}:{generation}:{plan.route}:{plan.config_hash}"
        for plan in planned
    ]
    known = set(connection.scalars(select(task.c.key).where(task.c.key.in_(keys))))
    added = []
    for key, plan in zip(keys, planned, strict=True):
        if key in known:
            continue
        known.add(key)
        row = connection.execute(
            insert(task)
            .values(
                key=key,
                study_instance_uid=study_instance_uid,
                generation=generation,
                route=plan.route,
                config_hash=plan.config_hash,
                priority=int(plan.priority),
                turn=now + TURNS[Priority(plan.priority)],
                **_NEW,
                not_before=now,
                created=now,
                changed=now,
            )
            .returning(*task.c)
        ).one()
        _remember(connection, row, before=None, now=now, actor="completion")
        added.append(int(row.id))
    return tuple(added)


def claim(engine: Engine, worker: str, now: datetime, lease_seconds: float = 60.0) -> Task | None:
    """Return the READY task whose turn it is, now RUNNING for ``worker``; one winner only.

    STAT goes first; else the earliest turn, which ages: see ``node.task.TURNS``. None if no task
    may be claimed now.
    """
    # The one form that is right on both: SQLAlchemy drops FOR UPDATE SKIP LOCKED on SQLite, where
    # BEGIN IMMEDIATE already admits a single writer.
    candidate = (
        select(task.c.id)
        .where(task.c.state == State.READY, task.c.not_before <= now)
        .order_by(task.c.turn, task.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    with engine.begin() as connection:
        claimed = move(
            connection,
            Change(before=State.READY, after=State.RUNNING, now=now),
            task.c.id == candidate,
            token=task.c.token + 1,
            attempt=task.c.attempt + 1,
            worker=worker,
            lease_until=now + timedelta(seconds=lease_seconds),
        )
        if claimed:
            sys.audit("pellucid.ledger.task_claimed")
    return task_of(claimed[0]) if claimed else None


def renew(engine: Engine, held: Task, now: datetime, lease_seconds: float = 60.0) -> bool:
    """Lengthen the lease; False means that the task is no longer this worker's: stop the work."""
    with engine.begin() as connection:
        renewed = connection.execute(
            update(task)
            .where(_held(held), task.c.state == State.RUNNING)
            .values(lease_until=now + timedelta(seconds=lease_seconds))
            .returning(task.c.id)
        ).all()
    return bool(renewed)


def finish(
    engine: Engine,
    held: Task,
    deliveries: Sequence[NewDelivery],
    now: datetime,
    *,
    explained: Sequence[str] = (),
    refused: Sequence[RefusedResult] = (),
) -> bool:
    """Record the results: DONE, artifacts and outbox rows in one fenced transaction.

    False means that the task was another's by now: nothing was recorded, throw the result away.
    The SOP Instance UIDs are ours from here on.

    Parameters
    ----------
    explained
        One sentence for each explanation that was asked for.
    refused
        What destinations were not offered; it goes into the audit.
    """
    with engine.begin() as connection:
        change = Change(before=State.RUNNING, after=State.DONE, now=now, error="")
        values = {"lease_until": None, "explained": list(explained)}
        done = move(connection, change, _held(held), **values)
        if done:
            outbox.owe(connection, held.id, deliveries, now)
            outbox.note_refused(connection, held, refused, now)
            mark_superseded(connection, held)
            sys.audit("pellucid.ledger.task_finished")
    return bool(done)


def give_up(
    engine: Engine,
    held: Task,
    *,
    state: State,
    error: str,
    now: datetime,
    not_before: datetime | None = None,
) -> bool:
    """End a running attempt in ``state`` (READY to try again, not before ``not_before``); fenced.

    Parameters
    ----------
    error
        For a person: what happened, with UIDs and numbers, never a patient's name or ID.

    Raises
    ------
    TransitionError
        An attempt cannot be given up into that state.
    """
    if state is State.DONE:
        raise TransitionError(f"task {held.id}: only finish leads to done")
    with engine.begin() as connection:
        moved = move(
            connection,
            Change(before=State.RUNNING, after=state, now=now, error=error),
            _held(held),
            lease_until=None,
            not_before=not_before or now,
        )
    return bool(moved)


def died(engine: Engine, held: Task, *, error: str, now: datetime) -> State | None:
    """Record that the task killed the process that ran it; fenced.

    Returns READY, or QUARANTINED at the second death, or None if it was another's by now.
    """
    with engine.begin() as connection:
        moved = _bury(connection, _held(held), error, now)
    return State(moved[0].state) if moved else None


def hand_back(engine: Engine, held: Task, now: datetime) -> bool:
    """End a running attempt as if it had never begun: READY at once; fenced."""
    change = Change(before=State.RUNNING, after=State.READY, now=now)
    values = {"lease_until": None, "not_before": now, "attempt": task.c.attempt - 1}
    with engine.begin() as connection:
        return bool(move(connection, change, _held(held), **values))


def reclaim_from(engine: Engine, workers: Collection[str], now: datetime) -> tuple[int, ...]:
    """Take back the tasks of workers that have died while the node lived.

    Returns the ids of all that were taken back: READY, or QUARANTINED at the second death.
    """
    with engine.begin() as connection:
        moved = _bury(connection, task.c.worker.in_(workers), "its worker died", now)
    return tuple(int(row.id) for row in moved)


def release_from(engine: Engine, workers: Collection[str], now: datetime) -> tuple[int, ...]:
    """Take back the tasks of workers that have ended with the whole node: no task is to blame.

    Returns the ids of all that were taken back: READY, or PARKED when the attempts are used up.
    """
    with engine.begin() as connection:
        return _interrupt(connection, task.c.worker.in_(workers), "the node ended", now)


def reclaim_expired(engine: Engine, now: datetime) -> tuple[int, ...]:
    """Take back tasks whose lease is over: the machine stood still, or its clock was set.

    Returns the ids of all that were taken back: READY, or PARKED when the attempts are used up.
    """
    with engine.begin() as connection:
        return _interrupt(connection, task.c.lease_until < now, "its worker fell silent", now)


def retry(engine: Engine, task_id: int, now: datetime) -> None:
    """Make a parked, failed or quarantined task READY again, with fresh attempts.

    Raises
    ------
    TransitionError
        It is in another state, does not exist, or its study is quarantined.
    """
    with engine.begin() as connection:
        retry_in(connection, task_id, now)


def retry_in(connection: Connection, task_id: int, now: datetime) -> None:
    """Do what ``retry`` does inside the caller's transaction."""
    before = _state(connection, task_id)
    if before not in (State.PARKED, State.FAILED, State.QUARANTINED):
        raise TransitionError(f"task {task_id} is {before}: it waits for no person")
    _require_open(connection, task_id)
    change = Change(before=before, after=State.READY, now=now, error="", actor=_OPERATOR)
    move(connection, change, task.c.id == task_id, attempt=0, deaths=0, not_before=now)


def cancel_all(
    connection: Connection,
    condition: ColumnElement[bool],
    *,
    before: Sequence[State],
    reason: str,
    now: datetime,
) -> None:
    """Cancel every task in those states that meets the condition, in the caller's transaction."""
    for state in before:
        change = Change(before=state, after=State.CANCELLED, now=now, error=reason, actor="ledger")
        move(connection, change, condition, lease_until=None)


def move(
    connection: Connection, change: Change, condition: ColumnElement[bool], **values: Any
) -> Sequence[Row[Any]]:
    """Change the state of all tasks that meet the condition: the only statement that does."""
    if (change.before, change.after) not in TRANSITIONS:
        raise TransitionError(f"a task never goes from {change.before} to {change.after}")
    if change.error is not None:
        values["error"] = change.error
    values["untold"] = change.after in _WITHOUT_RESULT
    rows = connection.execute(
        update(task)
        .where(condition, task.c.state == change.before)
        .values(state=change.after, changed=change.now, **values)
        .returning(*task.c)
    ).all()
    for row in rows:
        actor = change.actor or row.worker
        _remember(connection, row, before=change.before, now=change.now, actor=actor)
    return rows


def find(engine: Engine, task_id: int) -> Task | None:
    """Return a task as it stands, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(task).where(task.c.id == task_id)).one_or_none()
    return None if row is None else task_of(row)


def of_study(engine: Engine, study_instance_uid: str) -> tuple[Task, ...]:
    """Return the tasks of a study, oldest first."""
    query = select(task).where(task.c.study_instance_uid == study_instance_uid).order_by(task.c.id)
    with reading(engine) as connection:
        return tuple(task_of(row) for row in connection.execute(query))


def _remember(
    connection: Connection, row: Row[Any], *, before: State | None, now: datetime, actor: str
) -> None:
    connection.execute(
        insert(task_event).values(
            task_id=row.id,
            at=now,
            before=before,
            after=row.state,
            attempt=row.attempt,
            worker=actor,
            error=row.error,
        )
    )
    audit.record(
        connection,
        f"task_{row.state}",
        now=now,
        actor=actor,
        study_instance_uid=row.study_instance_uid,
        detail={"task": int(row.id), "route": row.route, "attempt": int(row.attempt)},
    )


def _bury(
    connection: Connection, condition: ColumnElement[bool], error: str, now: datetime
) -> list[Row[Any]]:
    last = Change(before=State.RUNNING, after=State.QUARANTINED, now=now, error=error)
    again = Change(before=State.RUNNING, after=State.READY, now=now, error=error)
    values = {"lease_until": None, "not_before": now, "deaths": task.c.deaths + 1}
    quarantined = move(connection, last, condition & (task.c.deaths >= _DEATHS - 1), **values)
    return [*quarantined, *move(connection, again, condition, **values)]


def _interrupt(
    connection: Connection, condition: ColumnElement[bool], error: str, now: datetime
) -> tuple[int, ...]:
    words = f"{error} while it ran; it has been tried {ATTEMPTS} times"
    last = Change(before=State.RUNNING, after=State.PARKED, now=now, error=words)
    again = Change(before=State.RUNNING, after=State.READY, now=now, error=error)
    values = {"lease_until": None, "not_before": now}
    parked = move(connection, last, condition & (task.c.attempt >= ATTEMPTS), **values)
    return tuple(int(row.id) for row in (*parked, *move(connection, again, condition, **values)))


def _held(held: Task) -> ColumnElement[bool]:
    return (task.c.id == held.id) & (task.c.token == held.token)


def _state(connection: Connection, task_id: int) -> State:
    state = connection.scalar(select(task.c.state).where(task.c.id == task_id).with_for_update())
    if state is None:
        raise TransitionError(f"there is no task {task_id}")
    return State(state)


def _require_open(connection: Connection, task_id: int) -> None:
    state = select(study.c.state).join(task).where(task.c.id == task_id)
    if connection.scalar(state) == StudyState.QUARANTINED:
        raise TransitionError(f"task {task_id} stays as it is: its study is quarantined")

"""What a person decides about work and what is owed: with a reason, which the audit keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, exists, func, select, update

from node.errors import TransitionError
from node.ledger import audit, schema, tasks
from node.ledger.engine import reading
from node.task import DeliveryState, PlannedTask, State, StudyState

_OPERATOR = "operator"
_AT_WORK = (State.READY, State.RUNNING)
_WAITS = (State.PARKED, State.FAILED, State.QUARANTINED)
_OWED_IN_VAIN = (DeliveryState.PARKED, DeliveryState.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A study of two patients, or a task that ended its process twice."""

    #: ``study`` or ``task``.
    kind: str
    #: Study Instance UID, or the task's number.
    id: str
    study_instance_uid: str
    #: Of a task.
    route: str
    reason: str
    since: datetime
    #: Instances of a study that are kept apart and count for nothing.
    apart: int


def cancel_task(engine: Engine, task_id: int, *, reason: str, now: datetime) -> None:
    """Cancel a ready or running task; the result of a running one will be thrown away.

    Raises
    ------
    TransitionError
        It is in another state, or does not exist.
    """
    _end_task(engine, task_id, among=_AT_WORK, event="operator_cancelled", reason=reason, now=now)


def cancel_study(engine: Engine, study_instance_uid: str, *, reason: str, now: datetime) -> int:
    """Cancel all ready and running tasks of a study; return how many those were."""
    table = schema.task.c
    query = select(table.id).where(
        table.study_instance_uid == study_instance_uid, table.state.in_(_AT_WORK)
    )
    with reading(engine) as connection:
        found = connection.scalars(query.order_by(table.id)).all()
    cancelled = 0
    for task_id in found:
        try:
            cancel_task(engine, task_id, reason=reason, now=now)
        except TransitionError:
            continue  # done meanwhile
        cancelled += 1
    return cancelled


def dismiss_task(engine: Engine, task_id: int, *, reason: str, now: datetime) -> None:
    """Give up a task that waits for a person: it will not be tried again.

    Raises
    ------
    TransitionError
        It waits for no person, or its destinations were not told of it yet.
    """
    _end_task(engine, task_id, among=_WAITS, event="operator_dismissed", reason=reason, now=now)


def dismiss_deliveries(
    engine: Engine,
    *,
    delivery_id: int | None = None,
    destination: str | None = None,
    reason: str,
    now: datetime,
) -> int:
    """Give up one delivery that waits for a person, or all of a destination; return how many."""
    table = schema.delivery
    mine = table.c.id == delivery_id if destination is None else table.c.destination == destination
    with engine.begin() as connection:
        rows = connection.execute(
            update(table)
            .where(mine, table.c.state.in_(_OWED_IN_VAIN))
            .values(state=DeliveryState.WITHDRAWN, reason=f"dismissed: {reason}", changed=now)
            .returning(table.c.id, table.c.task_id, table.c.destination, table.c.sop_instance_uid)
        ).all()
        for row in rows:
            _record_delivery(connection, row, reason, now)
    return len(rows)


def set_aside(engine: Engine) -> tuple[SetAside, ...]:
    """Return all that is quarantined: studies, then tasks, the oldest first."""
    study, task, conflict = schema.study.c, schema.task.c, schema.instance_conflict.c
    apart = (
        select(func.count())
        .where(conflict.study_instance_uid == study.study_instance_uid)
        .scalar_subquery()
    )
    studies = select(schema.study, apart.label("apart")).where(
        study.state == StudyState.QUARANTINED
    )
    killers = select(schema.task).where(task.state == State.QUARANTINED).order_by(task.id)
    with reading(engine) as connection:
        return (
            *(
                _study_aside(row)
                for row in connection.execute(studies.order_by(study.last_arrival))
            ),
            *(_task_aside(row) for row in connection.execute(killers)),
        )


def release_task(engine: Engine, task_id: int, *, reason: str, now: datetime) -> None:
    """Have a task tried again that ended its process twice.

    Raises
    ------
    TransitionError
        It is not quarantined, or its study is.
    """
    with engine.begin() as connection:
        row = _locked(connection, task_id)
        if row.state != State.QUARANTINED:
            raise TransitionError(f"task {task_id} is {row.state}, not quarantined")
        tasks.retry_in(connection, task_id, now)
        detail = {"task": task_id, "reason": reason}
        _record(connection, "operator_released", row.study_instance_uid, detail, now)


def release_study(
    engine: Engine, study_instance_uid: str, *, reason: str, now: datetime
) -> tuple[int, ...]:
    """End the quarantine of a study: what came first counts, what contradicted it stays apart.

    What the quarantine had cancelled is begun anew, as the next generation; what was still owed is
    sent. Late images are looked at as ever.

    Returns
    -------
    Ids of the tasks that are begun anew.

    Raises
    ------
    TransitionError
        The study is not quarantined.
    """
    table = schema.study
    with engine.begin() as connection:
        query = select(table).where(table.c.study_instance_uid == study_instance_uid)
        row = connection.execute(query.with_for_update()).one_or_none()
        if row is None or row.state != StudyState.QUARANTINED:
            raise TransitionError(f"study {study_instance_uid} is not quarantined")
        again = _cancelled_by(connection, row)
        state = _state_after(connection, row)
        generation = row.generation + (1 if again else 0)
        values = {"state": state, "generation": generation, "quarantine_reason": ""}
        if state is StudyState.RECEIVING:
            values["last_arrival"] = now
        connection.execute(
            update(table).where(table.c.study_instance_uid == study_instance_uid).values(values)
        )
        detail = {"reason": reason, "quarantined_because": row.quarantine_reason}
        _record(connection, "operator_released", study_instance_uid, detail, now)
        return tasks.add(connection, study_instance_uid, generation, planned=again, now=now)


def _end_task(
    engine: Engine,
    task_id: int,
    *,
    among: Sequence[State],
    event: str,
    reason: str,
    now: datetime,
) -> None:
    with engine.begin() as connection:
        row = _locked(connection, task_id)
        if row.state not in among:
            expected = " or ".join(among)
            raise TransitionError(f"task {task_id} is {row.state}, not {expected}")
        if row.untold:
            raise TransitionError(
                f"task {task_id}: its destinations are still to be told how it ended; the running "
                "node does so, try again then"
            )
        before = State(row.state)
        change = tasks.Change(
            before=before, after=State.CANCELLED, now=now, error=reason or None, actor=_OPERATOR
        )
        tasks.move(connection, change, schema.task.c.id == task_id, lease_until=None)
        detail = {"task": task_id, "was": str(before), "reason": reason}
        _record(connection, event, row.study_instance_uid, detail, now)


def _locked(connection: Connection, task_id: int) -> Row[Any]:
    query = select(schema.task).where(schema.task.c.id == task_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise TransitionError(f"there is no task {task_id}")
    return row


def _cancelled_by(connection: Connection, quarantined: Row[Any]) -> tuple[PlannedTask, ...]:
    """Return what the quarantine of a study had cancelled, once for each route."""
    table = schema.task.c
    query = (
        select(schema.task)
        .where(
            table.study_instance_uid == quarantined.study_instance_uid,
            table.state == State.CANCELLED,
            table.error == quarantined.quarantine_reason,
        )
        .order_by(table.generation, table.id)
    )
    newest = {row.route: row for row in connection.execute(query)}
    return tuple(
        PlannedTask(route=row.route, config_hash=row.config_hash, priority=row.priority)
        for row in newest.values()
    )


def _state_after(connection: Connection, quarantined: Row[Any]) -> StudyState:
    """Return where a study goes on: it may have been quarantined while it was arriving."""
    if quarantined.expired is not None:
        return StudyState.EXPIRED
    table = schema.instance.c
    late = exists().where(
        table.study_instance_uid == quarantined.study_instance_uid,
        table.generation.is_(None),
        table.replaced_in.is_(None),
    )
    receiving = quarantined.generation == 0 or connection.scalar(select(late))
    return StudyState.RECEIVING if receiving else StudyState.COMPLETE


def _study_aside(row: Row[Any]) -> SetAside:
    return SetAside(
        kind="study",
        id=row.study_instance_uid,
        study_instance_uid=row.study_instance_uid,
        route="",
        reason=row.quarantine_reason,
        since=row.last_arrival,
        apart=row.apart,
    )


def _task_aside(row: Row[Any]) -> SetAside:
    return SetAside(
        kind="task",
        id=str(row.id),
        study_instance_uid=row.study_instance_uid,
        route=row.route,
        reason=row.error,
        since=row.changed,
        apart=0,
    )


def _record_delivery(connection: Connection, row: Row[Any], reason: str, now: datetime) -> None:
    query = select(schema.task.c.study_instance_uid).where(schema.task.c.id == row.task_id)
    detail = {
        "delivery": row.id,
        "destination": row.destination,
        "sop_instance_uid": row.sop_instance_uid,
        "reason": reason,
    }
    _record(connection, "operator_dismissed", connection.scalar(query), detail, now)


def _record(
    connection: Connection,
    event: str,
    study_instance_uid: str | None,
    detail: dict[str, Any],
    now: datetime,
) -> None:
    audit.record(
        connection,
        event,
        now=now,
        actor=_OPERATOR,
        study_instance_uid=study_instance_uid,
        detail=detail,
    )

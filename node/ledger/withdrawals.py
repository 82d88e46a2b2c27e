"""Objects that were sent and no longer count: which they are, who has them, and their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Engine, Row, select, update

from dicom_io.encode.kinds import OUTCOME_KINDS, REJECTION_KIND
from node.ledger import audit, outbox, tasks
from node.ledger.engine import reading
from node.ledger.schema import artifact, delivery, task
from node.task import DeliveryState, NewDelivery, State, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One object of ours that counts, and where it is."""

    task_id: int
    study_instance_uid: str
    #: Name of its result; this and the next three are empty in rows of before revision 0003.
    result: str
    series_instance_uid: str
    model: str
    model_version: str
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    #: Destinations that have it.
    delivered_to: tuple[str, ...] = ()
    #: Destinations that it is still on its way to.
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """Which objects no longer count, and who is told how."""

    #: All of one study; at least one.
    objects: tuple[Made, ...]
    #: What those that have them are owed; empty where nobody does.
    note: tuple[NewDelivery, ...]
    #: Task under which the note is owed: it goes out after what that task owes.
    task_id: int
    reason: str
    #: Who decided.
    actor: str


def made_of_study(engine: Engine, study_instance_uid: str) -> tuple[Made, ...]:
    """Return every object of a study that has not been withdrawn; no rejection notes."""
    return _made(engine, task.c.study_instance_uid == study_instance_uid)


def made_of_model(engine: Engine, model: str) -> tuple[Made, ...]:
    """Return every object of a model that has not been withdrawn, and those of no known model."""
    return _made(engine, artifact.c.model.in_((model, "")))


def made_before(engine: Engine, held: Task) -> tuple[Made, ...]:
    """Return what a task will take the place of: objects of earlier generations on its route.

    With them comes what was said of the task itself while it had failed.
    """
    same = (task.c.study_instance_uid == held.study_instance_uid) & (task.c.route == held.route)
    itself = (task.c.id == held.id) & artifact.c.result.in_(OUTCOME_KINDS)
    return _made(engine, same & ((task.c.generation < held.generation) | itself))


def next_superseded(engine: Engine) -> Task | None:
    """Return the oldest task whose objects no longer count and have not been withdrawn."""
    query = select(task.c.id).where(task.c.superseded).order_by(task.c.id).limit(1)
    with reading(engine) as connection:
        found = connection.scalar(query)
    return None if found is None else tasks.find(engine, found)


def successor_of(engine: Engine, superseded: Task) -> Task | None:
    """Return the newest finished task on the same study and route, or None."""
    query = (
        select(task.c.id)
        .where(
            task.c.study_instance_uid == superseded.study_instance_uid,
            task.c.route == superseded.route,
            task.c.state == State.DONE,
        )
        .order_by(task.c.generation.desc(), task.c.id.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        found = connection.scalar(query)
    return None if found is None else tasks.find(engine, found)


def superseded_objects(engine: Engine, superseded: Task, successor: Task) -> tuple[Made, ...]:
    """Return those objects of a task that its successor takes the place of."""
    found = _made(engine, task.c.id == superseded.id)
    if superseded.id != successor.id:
        return found
    return tuple(each for each in found if each.result in OUTCOME_KINDS)


def withdraw(engine: Engine, withdrawal: Withdrawal, now: datetime) -> bool:
    """End the life of objects in one transaction: no longer sent, and their note is owed.

    False means that one of them was delivered or withdrawn meanwhile: nothing happened, look again.
    """
    objects = withdrawal.objects
    uids = [each.sop_instance_uid for each in objects]
    with engine.begin() as connection:
        if _counting(connection, uids) != set(uids) or _delivered(connection, uids) != {
            (each.sop_instance_uid, name) for each in objects for name in each.delivered_to
        }:
            return False
        mine = artifact.c.sop_instance_uid.in_(uids)
        connection.execute(update(artifact).where(mine).values(withdrawn=now))
        _stop_sending(connection, uids, withdrawal.reason, now)
        outbox.owe(connection, withdrawal.task_id, withdrawal.note, now)
        _record(connection, withdrawal, now)
    return True


def settle(engine: Engine, superseded: Task) -> None:
    """Note that a task has nothing left that must be withdrawn."""
    with engine.begin() as connection:
        mine = task.c.id == superseded.id
        connection.execute(update(task).where(mine).values(superseded=False))


def _made(engine: Engine, condition: ColumnElement[bool]) -> tuple[Made, ...]:
    query = (
        select(artifact, task.c.study_instance_uid)
        .join(task, task.c.id == artifact.c.task_id)
        .where(condition, artifact.c.withdrawn.is_(None), artifact.c.result != REJECTION_KIND)
        .order_by(artifact.c.task_id, artifact.c.created, artifact.c.sop_instance_uid)
    )
    sent = (
        select(delivery.c.sop_instance_uid, delivery.c.destination, delivery.c.state)
        .join(artifact, artifact.c.sop_instance_uid == delivery.c.sop_instance_uid)
        .join(task, task.c.id == artifact.c.task_id)
        .where(condition, artifact.c.withdrawn.is_(None))
        .order_by(delivery.c.destination)
    )
    where: dict[tuple[str, str], list[str]] = {}
    with reading(engine) as connection:
        rows = connection.execute(query).all()
        for one in connection.execute(sent):
            where.setdefault((one.sop_instance_uid, one.state), []).append(one.destination)
    return tuple(_made_object(row, where) for row in rows)


def _made_object(row: Row[tuple[object, ...]], where: Mapping[tuple[str, str], list[str]]) -> Made:
    uid = row.sop_instance_uid
    return Made(
        task_id=row.task_id,
        study_instance_uid=row.study_instance_uid,
        result=row.result,
        series_instance_uid=row.series_instance_uid,
        model=row.model,
        model_version=row.model_version,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=uid,
        path=Path(row.path),
        delivered_to=tuple(where.get((uid, DeliveryState.DELIVERED), ())),
        waiting_for=tuple(where.get((uid, DeliveryState.WAITING), ())),
    )


def _counting(connection: Connection, uids: Sequence[str]) -> set[str]:
    query = select(artifact.c.sop_instance_uid).where(
        artifact.c.sop_instance_uid.in_(uids), artifact.c.withdrawn.is_(None)
    )
    return set(connection.scalars(query))


def _delivered(connection: Connection, uids: Sequence[str]) -> set[tuple[str, str]]:
    query = select(delivery.c.sop_instance_uid, delivery.c.destination).where(
        delivery.c.sop_instance_uid.in_(uids), delivery.c.state == DeliveryState.DELIVERED
    )
    return {(row.sop_instance_uid, row.destination) for row in connection.execute(query)}


def _stop_sending(connection: Connection, uids: Sequence[str], reason: str, now: datetime) -> None:
    connection.execute(
        update(delivery)
        .where(delivery.c.sop_instance_uid.in_(uids), delivery.c.state != DeliveryState.DELIVERED)
        .values(state=DeliveryState.WITHDRAWN, reason=reason, changed=now)
    )


def _record(connection: Connection, withdrawal: Withdrawal, now: datetime) -> None:
    told = sorted({one.destination for one in withdrawal.note if one.destination is not None})
    numbers = sorted({each.task_id for each in withdrawal.objects})
    audit.record(
        connection,
        "objects_withdrawn",
        now=now,
        actor=withdrawal.actor,
        study_instance_uid=withdrawal.objects[0].study_instance_uid,
        detail={
            "tasks": ", ".join(map(str, numbers)),
            "objects": len(withdrawal.objects),
            "told": ", ".join(told),
            "reason": withdrawal.reason,
        },
    )

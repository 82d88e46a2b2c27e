"""What is owed to whom: objects that wait for a destination."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, update

from node.ledger import accepted, audit, confirmations, schema
from node.ledger.engine import insert_missing, reading
from node.ledger.instead import owe_instead
from node.ledger.superseding import restore_withdrawn
from node.task import (
    ConfirmationKind,
    Delivery,
    DeliveryState,
    NewDelivery,
    RefusedResult,
    StudyState,
    Task,
)


def owe(connection: Connection, task_id: int, made: Sequence[NewDelivery], now: datetime) -> None:
    """Record inside the caller's transaction what a task has made, and to whom it owes it.

    The SOP Instance UIDs are ours from here on.
    """
    artifacts = [
        {
            "sop_instance_uid": one.sop_instance_uid,
            "task_id": task_id,
            "sop_class_uid": one.sop_class_uid,
            "path": str(one.path),
            "created": now,
            "result": one.result,
            "series_instance_uid": one.series_instance_uid,
            "model": one.model,
            "model_version": one.model_version,
        }
        for one in made
    ]
    owed = [
        {
            "task_id": task_id,
            "destination": one.destination,
            "sop_instance_uid": one.sop_instance_uid,
            "sop_class_uid": one.sop_class_uid,
            "path": str(one.path),
            "state": DeliveryState.WAITING,
            "attempt": 0,
            "not_before": now,
            "status": None,
            "reason": "",
            "changed": now,
        }
        for one in made
        if one.destination is not None
    ]
    insert_missing(connection, schema.artifact, artifacts)
    insert_missing(connection, schema.delivery, owed)


def note_refused(
    connection: Connection, task: Task, refused: Sequence[RefusedResult], now: datetime
) -> None:
    """Record in the audit what a task's destinations were not offered, and what they got for it."""
    for each in refused:
        audit.record(
            connection,
            "result_not_taken",
            now=now,
            actor=each.destination,
            study_instance_uid=task.study_instance_uid,
            detail={"task": task.id, "result": each.result, "instead": each.instead},
        )


def due(engine: Engine, destination: str, now: datetime, limit: int = 100) -> tuple[Delivery, ...]:
    """Return what is owed to a destination and may be tried now, oldest task first.

    Nothing of a quarantined study is due.
    """
    table = schema.delivery
    query = (
        select(table)
        .join(schema.task, schema.task.c.id == table.c.task_id)
        .join(schema.study, schema.study.c.study_instance_uid == schema.task.c.study_instance_uid)
        .where(
            table.c.destination == destination,
            table.c.state == DeliveryState.WAITING,
            table.c.not_before <= now,
            schema.study.c.state != StudyState.QUARANTINED,
        )
        .order_by(table.c.task_id, table.c.id)
        .limit(limit)
    )
    with reading(engine) as connection:
        return tuple(_delivery(row) for row in connection.execute(query))


def delivered(
    engine: Engine,
    delivery: Delivery,
    status: int,
    now: datetime,
    *,
    confirm: Sequence[ConfirmationKind] = (),
) -> bool:
    """Record that the destination has the object; False if it was settled otherwise meanwhile.

    An object that was withdrawn while it was being sent counts again: whoever withdraws superseded
    objects finds it, and so does a person who retracts.

    Parameters
    ----------
    confirm
        What the destination is asked of it from now on.
    """
    state = DeliveryState.DELIVERED
    with engine.begin() as connection:
        restore_withdrawn(connection, delivery)
        done = _settle_in(connection, delivery, state=state, status=status, reason="", changed=now)
        if done and confirm:
            confirmations.want(connection, delivery.id, confirm, now)
        sys.audit("pellucid.ledger.delivery_written")
    return done


def postpone(
    engine: Engine,
    delivery: Delivery,
    *,
    status: int | None,
    reason: str,
    not_before: datetime,
    now: datetime,
) -> bool:
    """Count one failed try, to be repeated not before ``not_before``."""
    return _settle(
        engine,
        delivery,
        state=DeliveryState.WAITING,
        status=status,
        reason=reason,
        changed=now,
        not_before=not_before,
        attempt=delivery.attempt + 1,
    )


def park(
    engine: Engine, delivery: Delivery, *, status: int | None, reason: str, now: datetime
) -> bool:
    """Stop trying by itself; a person can release it."""
    return _settle(
        engine, delivery, state=DeliveryState.PARKED, status=status, reason=reason, changed=now
    )


def refuse(
    engine: Engine,
    delivery: Delivery,
    *,
    status: int | None,
    reason: str,
    now: datetime,
    instead: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> bool:
    """Record that the destination said no for good; without a status, in its negotiation.

    Parameters
    ----------
    instead
        Name of a result to those that say the same: see ``owe_instead``.
    """
    values = {"state": DeliveryState.REFUSED, "status": status, "reason": reason}
    with engine.begin() as connection:
        if not _settle_in(connection, delivery, changed=now, **values):
            return False
        if status is None:
            accepted.contradict(connection, delivery.destination, delivery.sop_class_uid)
        owe_instead(connection, delivery, instead, now)
    return True


def release(engine: Engine, delivery_id: int, now: datetime) -> bool:
    """Have a delivery tried at once and with fresh attempts, unless it is there or withdrawn."""
    table = schema.delivery
    settled = (DeliveryState.DELIVERED, DeliveryState.WITHDRAWN)
    with engine.begin() as connection:
        row = connection.execute(
            update(table)
            .where(table.c.id == delivery_id, table.c.state.not_in(settled))
            .values(state=DeliveryState.WAITING, attempt=0, not_before=now, changed=now)
            .returning(*table.c)
        ).one_or_none()
        if row is not None:
            confirmations.forget(connection, delivery_id)
            # Whoever releases what was refused has mended something there.
            accepted.doubt(connection, row.destination)
            _audit(connection, "delivery_released", row, actor="operator", now=now)
    return row is not None


def release_parked(engine: Engine, destination: str, now: datetime) -> int:
    """Have all that is parked for a destination tried again; return how many deliveries that was.

    What it refused stays refused: that was said of each object.
    """
    table = schema.delivery.c
    query = (
        select(table.id)
        .where(table.destination == destination, table.state == DeliveryState.PARKED)
        .order_by(table.id)
    )
    with reading(engine) as connection:
        parked = connection.scalars(query).all()
    return sum(release(engine, each, now) for each in parked)


def hasten(engine: Engine, now: datetime) -> int:
    """Make everything that waits for a later try due at once; return how much that was."""
    table = schema.delivery
    waits = (table.c.state == DeliveryState.WAITING) & (table.c.not_before > now)
    with engine.begin() as connection:
        return connection.execute(update(table).where(waits).values(not_before=now)).rowcount


def of_task(engine: Engine, task_id: int) -> tuple[Delivery, ...]:
    """Return everything that a task owes or has delivered, with what each object is."""
    table, made = schema.delivery, schema.artifact
    query = (
        select(table, made.c.result, made.c.withdrawn)
        .join(made, made.c.sop_instance_uid == table.c.sop_instance_uid)
        .where(table.c.task_id == task_id)
        .order_by(table.c.id)
    )
    with reading(engine) as connection:
        return tuple(
            replace(_delivery(row), result=row.result, withdrawn=row.withdrawn is not None)
            for row in connection.execute(query)
        )


def still_owed(engine: Engine, delivery: Delivery) -> bool:
    """Return whether a delivery that was due is so still: what it is may be withdrawn meanwhile."""
    table = schema.delivery.c
    with reading(engine) as connection:
        state = connection.scalar(select(table.state).where(table.id == delivery.id))
    return state == DeliveryState.WAITING


def stranded(engine: Engine, destinations: Collection[str]) -> dict[str, int]:
    """Return how many objects wait for each destination that is none of ``destinations``."""
    table = schema.delivery.c
    query = (
        select(table.destination, func.count())
        .where(table.state == DeliveryState.WAITING, table.destination.not_in(destinations))
        .group_by(table.destination)
        .order_by(table.destination)
    )
    with reading(engine) as connection:
        return {row[0]: int(row[1]) for row in connection.execute(query)}


def _settle(engine: Engine, delivery: Delivery, *, changed: datetime, **values: Any) -> bool:
    with engine.begin() as connection:
        return _settle_in(connection, delivery, changed=changed, **values)


def _settle_in(
    connection: Connection, delivery: Delivery, *, changed: datetime, **values: Any
) -> bool:
    table = schema.delivery
    row = connection.execute(
        update(table)
        .where(table.c.id == delivery.id, table.c.state == DeliveryState.WAITING)
        .values(changed=changed, **values)
        .returning(*table.c)
    ).one_or_none()
    if row is not None and row.state != DeliveryState.WAITING:
        event = f"delivery_{row.state}"
        _audit(connection, event, row, actor=delivery.destination, now=changed)
    return row is not None


def _audit(connection: Connection, event: str, row: Row[Any], *, actor: str, now: datetime) -> None:
    query = select(schema.task.c.study_instance_uid).where(schema.task.c.id == row.task_id)
    detail: dict[str, str | int] = {
        "task": row.task_id,
        "sop_instance_uid": row.sop_instance_uid,
        "destination": row.destination,
        "reason": row.reason,
    }
    if row.status is not None:
        detail["status"] = f"0x{row.status:04X}"
    audit.record(
        connection,
        event,
        now=now,
        actor=actor,
        study_instance_uid=connection.scalar(query),
        detail=detail,
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        task_id=row.task_id,
        destination=row.destination,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        path=Path(row.path),
        state=DeliveryState(row.state),
        attempt=row.attempt,
        not_before=row.not_before,
        status=row.status,
    )

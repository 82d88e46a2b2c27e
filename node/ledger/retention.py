"""Which studies owe nothing to anyone any more, and rows that need no file from then on.

No row is deleted: who sent what, what was made of it and who got it stays known, and what we made
stays ours.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, exists, func, select, update

from node.ledger import audit, files, studies
from node.ledger.engine import reading
from node.ledger.instead import is_replaced
from node.ledger.schema import (
    artifact,
    confirmation,
    delivery,
    instance,
    instance_conflict,
    reception,
    study,
    task,
)
from node.task import ConfirmationState, DeliveryState, State, StudyState

#: Work that is still to be done, or that waits for a person.
_OPEN_TASKS = (State.READY, State.RUNNING, State.PARKED, State.FAILED, State.QUARANTINED)
_OPEN_DELIVERIES = (DeliveryState.WAITING, DeliveryState.PARKED, DeliveryState.REFUSED)
_ENDED = (StudyState.COMPLETE, StudyState.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A study whose files nobody needs any more."""

    study_instance_uid: str
    #: When the last image of it arrived.
    since: datetime


def settled(engine: Engine, *, before: datetime, limit: int = 1) -> tuple[Settled, ...]:
    """Return the studies that owe nothing and of which nothing has arrived since, oldest first.

    A study whose files are gone is among them when it got others since: it was sent once more, or
    a rejection note was made of it.
    """
    with reading(engine) as connection:
        rows = connection.execute(_settled(before).limit(limit)).all()
    return tuple(
        Settled(study_instance_uid=row.study_instance_uid, since=row.last_arrival) for row in rows
    )


def count_settled(engine: Engine, *, before: datetime) -> int:
    """Return how many studies ``settled`` would name without a limit."""
    counted = select(func.count()).select_from(_settled(before).order_by(None).subquery())
    with reading(engine) as connection:
        return int(connection.scalar(counted) or 0)


def delivered_files(engine: Engine, study_instance_uid: str) -> tuple[Path, ...]:
    """Return the files of those objects of a study that somebody has and that still count."""
    query = (
        select(artifact.c.path)
        .join(task, task.c.id == artifact.c.task_id)
        .where(
            task.c.study_instance_uid == study_instance_uid,
            artifact.c.withdrawn.is_(None),
            artifact.c.expired.is_(None),
            exists().where(
                delivery.c.sop_instance_uid == artifact.c.sop_instance_uid,
                delivery.c.task_id == artifact.c.task_id,
                delivery.c.state == DeliveryState.DELIVERED,
            ),
        )
        .order_by(artifact.c.task_id, artifact.c.sop_instance_uid)
    )
    with reading(engine) as connection:
        return tuple(map(Path, connection.scalars(query)))


def expire(
    engine: Engine,
    study_instance_uid: str,
    *,
    before: datetime,
    header: bytes | None,
    reason: str,
    now: datetime,
) -> tuple[Path, ...]:
    """Have the rows of a study need their files no more; return the files that no row needs now.

    Nothing happens, and nothing is returned, if the study owes something by now, or got something
    since ``before``. The files are to be deleted afterwards: what is left of them by a crash has
    no row that needs it, and the sweep of orphans finds it.

    Parameters
    ----------
    header
        What must be known to withdraw its results later; None keeps what is known.
    """
    values: dict[str, Any] = {"state": StudyState.EXPIRED, "expired": now}
    if header is not None:
        values["header"] = header
    mine = study.c.study_instance_uid == study_instance_uid
    with engine.begin() as connection:
        closed = connection.execute(
            update(study)
            .where(mine, study.c.state.in_(_ENDED), ~_recent(before), ~_owes())
            .values(values)
            .returning(study.c.study_instance_uid)
        ).all()
        if not closed:
            return ()
        paths = _release(connection, study_instance_uid, before, now)
        audit.record(
            connection,
            "study_expired",
            now=now,
            actor="retention",
            study_instance_uid=study_instance_uid,
            detail={"files": len(paths), "reason": reason},
        )
        gone = tuple(sorted(paths - files.needed(connection, paths)))
        sys.audit("pellucid.ledger.study_expiring")
    return gone


def expire_strays(engine: Engine, *, before: datetime, now: datetime) -> tuple[Path, ...]:
    """Do so for results of ours that came back and belong to no study that is known here."""
    strays = (
        (reception.c.meaning == "ours")
        & (reception.c.at <= before)
        & ~exists().where(study.c.study_instance_uid == reception.c.study_instance_uid)
    )
    with engine.begin() as connection:
        paths = _mark(connection, reception, strays, now)
        return tuple(sorted(paths - files.needed(connection, paths)))


def header_of(engine: Engine, study_instance_uid: str) -> bytes | None:
    """Return what was kept of patient and study when the files went, or None."""
    query = select(study.c.header).where(study.c.study_instance_uid == study_instance_uid)
    with reading(engine) as connection:
        return connection.scalar(query)


def reopen(engine: Engine, now: datetime) -> tuple[str, ...]:
    """Have studies received again that got late images and, sent once more, all the others too.

    Of a part of a study nothing is made: whatever its routes select may be missing.
    """
    whole = select(study.c.study_instance_uid).where(studies.late_after_expiry(), ~_lacks_files())
    with reading(engine) as connection:
        found = connection.scalars(whole).all()
    return tuple(uid for uid in found if _reopen(engine, uid, now))


def _settled(before: datetime) -> Any:
    return (
        select(study.c.study_instance_uid, study.c.last_arrival)
        .where(
            study.c.last_arrival <= before,
            (study.c.state == StudyState.COMPLETE)
            | ((study.c.state == StudyState.EXPIRED) & _has_files_again(before)),
            ~_recent(before),
            ~_owes(),
        )
        .order_by(study.c.last_arrival, study.c.study_instance_uid)
    )


def _owes() -> ColumnElement[bool]:
    """Return the condition that a study owes something, or that something waits for a person."""
    mine = task.c.study_instance_uid == study.c.study_instance_uid
    unfinished = task.c.state.in_(_OPEN_TASKS) | task.c.untold | task.c.superseded
    unconfirmed = exists().where(
        confirmation.c.delivery_id == delivery.c.id,
        confirmation.c.state != ConfirmationState.CONFIRMED,
    )
    undelivered = (delivery.c.state.in_(_OPEN_DELIVERIES) & ~is_replaced()) | (
        (delivery.c.state == DeliveryState.DELIVERED) & unconfirmed
    )
    return exists().where(mine, unfinished) | exists().where(
        mine, delivery.c.task_id == task.c.id, undelivered
    )


def _recent(before: datetime) -> ColumnElement[bool]:
    """Return the condition that something of a study has arrived since, be it a duplicate."""
    return exists().where(
        reception.c.study_instance_uid == study.c.study_instance_uid, reception.c.at > before
    )


def _has_files_again(before: datetime) -> ColumnElement[bool]:
    sent_again = select(reception.c.study_instance_uid).where(
        reception.c.expired.is_(None), reception.c.at <= before
    )
    made_since = (
        select(task.c.study_instance_uid)
        .join(artifact, artifact.c.task_id == task.c.id)
        .where(artifact.c.expired.is_(None), artifact.c.created <= before, _may_go())
    )
    uid = study.c.study_instance_uid
    return uid.in_(sent_again) | uid.in_(made_since)


def _may_go() -> ColumnElement[bool]:
    """Return the condition that an object's file is needed for nothing.

    Who wants to refer to one of before revision 0003 must read it.
    """
    owed = exists().where(
        delivery.c.task_id == artifact.c.task_id,
        delivery.c.sop_instance_uid == artifact.c.sop_instance_uid,
        delivery.c.state.in_(_OPEN_DELIVERIES),
    )
    return (artifact.c.series_instance_uid != "") & ~owed


def _release(
    connection: Connection, study_instance_uid: str, before: datetime, now: datetime
) -> set[Path]:
    """Have every row of a study need its file no more; return the files."""
    of_study = {
        table: table.c.study_instance_uid == study_instance_uid
        for table in (instance, instance_conflict, reception)
    }
    arrived = {instance: instance.c.arrived, reception: reception.c.at}
    arrived[instance_conflict] = instance_conflict.c.at
    paths: set[Path] = set()
    for table, mine in of_study.items():
        paths |= _mark(connection, table, mine & (arrived[table] <= before), now)
    tasks = select(task.c.id).where(task.c.study_instance_uid == study_instance_uid)
    made = artifact.c.task_id.in_(tasks) & _may_go()
    return paths | _mark(connection, artifact, made, now)


def _mark(
    connection: Connection, table: Table, where: ColumnElement[bool], now: datetime
) -> set[Path]:
    rows = connection.execute(
        update(table)
        .where(where, table.c.expired.is_(None))
        .values(expired=now)
        .returning(table.c.path)
    )
    return {Path(row.path) for row in rows}


def _sent_again() -> ColumnElement[bool]:
    """Return the condition that the bytes of an instance came once more since they were deleted."""
    return exists().where(
        reception.c.study_instance_uid == instance.c.study_instance_uid,
        reception.c.sop_instance_uid == instance.c.sop_instance_uid,
        reception.c.digest == instance.c.digest,
        reception.c.expired.is_(None),
    )


def _lacks_files() -> ColumnElement[bool]:
    return exists().where(
        instance.c.study_instance_uid == study.c.study_instance_uid,
        instance.c.replaced_in.is_(None),
        instance.c.expired.is_not(None),
        ~_sent_again(),
    )


def _reopen(engine: Engine, study_instance_uid: str, now: datetime) -> bool:
    mine = study.c.study_instance_uid == study_instance_uid
    with engine.begin() as connection:
        opened: Sequence[Any] = connection.execute(
            update(study)
            .where(mine, studies.late_after_expiry(), ~_lacks_files())
            .values(state=StudyState.RECEIVING, expired=None, last_arrival=now)
            .returning(study.c.study_instance_uid)
        ).all()
        if not opened:
            return False
        again = (instance.c.study_instance_uid == study_instance_uid) & _sent_again()
        connection.execute(
            update(instance).where(again, instance.c.expired.is_not(None)).values(expired=None)
        )
        audit.record(
            connection,
            "study_reopened",
            now=now,
            actor="retention",
            study_instance_uid=study_instance_uid,
        )
    return True

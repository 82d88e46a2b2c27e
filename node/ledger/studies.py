"""Which studies are still arriving, which are whole, which must not be touched."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, exists, func, select, update

from node.ledger import audit, tasks
from node.ledger.engine import reading
from node.ledger.schema import instance, reception, study, task
from node.task import PlannedTask, Reception, State, StudyState


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A study that is still receiving, and since when nothing has arrived for it."""

    study_instance_uid: str
    since: datetime
    #: Number of the newest complete generation; 0 before the first.
    generation: int
    #: Counts the arrivals; completing does nothing if it has moved on.
    revision: int


def due(engine: Engine, silent_since: datetime) -> tuple[Silent, ...]:
    """Return the receiving studies for which nothing has arrived after ``silent_since``."""
    query = (
        select(study)
        .where(study.c.state == StudyState.RECEIVING, study.c.last_arrival <= silent_since)
        .order_by(study.c.last_arrival)
    )
    with reading(engine) as connection:
        return tuple(
            Silent(
                study_instance_uid=row.study_instance_uid,
                since=row.last_arrival,
                generation=row.generation,
                revision=row.revision,
            )
            for row in connection.execute(query)
        )


def complete(
    engine: Engine,
    study_instance_uid: str,
    planned: Sequence[PlannedTask],
    *,
    now: datetime,
    revision: int | None = None,
) -> tuple[int, ...]:
    """Mark a study complete and add its tasks, READY, in one transaction; idempotent.

    Late images open the next generation only for the routes that select one of them; if no route
    does, they join the present generation and nothing is added. Ready tasks of an earlier
    generation on the same route are cancelled: the later one reads what they would, and more.

    Parameters
    ----------
    revision
        What ``due`` saw; if something has arrived since, nothing happens.

    Returns
    -------
    Ids of the added tasks.
    """
    with engine.begin() as connection:
        row = _locked(connection, study_instance_uid)
        if row is None or row.state != StudyState.RECEIVING:
            return ()
        if revision is not None and row.revision != revision:
            return ()
        wanted = _wanted(connection, row, planned)
        generation = max(row.generation + (1 if wanted else 0), 1)
        _close(connection, row, generation, now)
        _supersede(connection, row, generation, wanted=wanted, now=now)
        sys.audit("pellucid.ledger.study_closed")
        added = tasks.add(connection, study_instance_uid, generation, planned=wanted, now=now)
        sys.audit("pellucid.ledger.tasks_added")
        return added


def quarantine(
    connection: Connection, study_instance_uid: str, *, reason: str, now: datetime, actor: str
) -> None:
    """Stop everything about a study, inside the caller's transaction; its deliveries rest too.

    Parameters
    ----------
    reason
        For a person; without the patients' names and IDs.
    """
    stopped = connection.execute(
        update(study)
        .where(
            study.c.study_instance_uid == study_instance_uid,
            study.c.state != StudyState.QUARANTINED,
        )
        .values(state=StudyState.QUARANTINED, quarantine_reason=reason)
        .returning(study.c.study_instance_uid)
    ).all()
    if not stopped:
        return
    same = task.c.study_instance_uid == study_instance_uid
    tasks.cancel_all(connection, same, before=(State.READY, State.RUNNING), reason=reason, now=now)
    audit.record(
        connection,
        "study_quarantined",
        now=now,
        actor=actor,
        study_instance_uid=study_instance_uid,
        detail={"reason": reason},
    )


def receptions(engine: Engine, study_instance_uid: str) -> tuple[Reception, ...]:
    """Return who sent instances of the study, one entry per sender and called name, newest first.

    ``at`` is the latest arrival of each. Our own results that came back do not count: whoever
    sent them is not asking for anything.
    """
    sender = (reception.c.called_ae, reception.c.calling_ae, reception.c.address)
    latest = func.max(reception.c.at)
    query = (
        select(*sender, latest.label("latest"))
        .where(
            reception.c.study_instance_uid == study_instance_uid,
            reception.c.meaning.in_(("new", "duplicate", "replaced")),
        )
        .group_by(*sender)
        .order_by(latest.desc(), *sender)
    )
    with reading(engine) as connection:
        return tuple(
            Reception(
                called_ae=row.called_ae,
                calling_ae=row.calling_ae,
                address=row.address,
                at=row.latest,
            )
            for row in connection.execute(query)
        )


def state(engine: Engine, study_instance_uid: str) -> StudyState | None:
    """Return where the study stands, or None if nothing of it ever arrived."""
    query = select(study.c.state).where(study.c.study_instance_uid == study_instance_uid)
    with reading(engine) as connection:
        found = connection.scalar(query)
    return None if found is None else StudyState(found)


def late_after_expiry() -> ColumnElement[bool]:
    """Return the condition that images came to a study after its files were deleted."""
    return (
        (study.c.state == StudyState.EXPIRED)
        & (study.c.last_arrival > study.c.expired)
        & exists().where(
            instance.c.study_instance_uid == study.c.study_instance_uid,
            instance.c.generation.is_(None),
            instance.c.replaced_in.is_(None),
            instance.c.expired.is_(None),
        )
    )


def _locked(connection: Connection, study_instance_uid: str) -> Row[Any] | None:
    query = select(study).where(study.c.study_instance_uid == study_instance_uid)
    return connection.execute(query.with_for_update()).one_or_none()


def _wanted(
    connection: Connection, row: Row[Any], planned: Sequence[PlannedTask]
) -> tuple[PlannedTask, ...]:
    if row.generation == 0:
        return tuple(planned)
    late = set(
        connection.scalars(
            select(instance.c.sop_instance_uid).where(
                instance.c.study_instance_uid == row.study_instance_uid,
                instance.c.generation.is_(None),
                instance.c.replaced_in.is_(None),
            )
        )
    )
    return tuple(plan for plan in planned if not plan.selected or plan.selected & late)


def _close(connection: Connection, row: Row[Any], generation: int, now: datetime) -> None:
    mine = instance.c.study_instance_uid == row.study_instance_uid
    connection.execute(
        update(instance)
        .where(mine, instance.c.generation.is_(None), instance.c.replaced_in.is_(None))
        .values(generation=generation)
    )
    # Replacements that no route takes join the present generation, and what they replace leaves it.
    connection.execute(
        update(instance)
        .where(mine, instance.c.replaced_in > generation)
        .values(replaced_in=generation)
    )
    connection.execute(
        update(study)
        .where(study.c.study_instance_uid == row.study_instance_uid)
        .values(state=StudyState.COMPLETE, generation=generation, completed=now)
    )


def _supersede(
    connection: Connection,
    row: Row[Any],
    generation: int,
    *,
    wanted: Sequence[PlannedTask],
    now: datetime,
) -> None:
    earlier = (
        (task.c.study_instance_uid == row.study_instance_uid)
        & (task.c.generation < generation)
        & task.c.route.in_([plan.route for plan in wanted])
    )
    reason = f"superseded by generation {generation}"
    tasks.cancel_all(connection, earlier, before=(State.READY,), reason=reason, now=now)

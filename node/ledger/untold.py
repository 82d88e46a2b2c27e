"""Tasks that ended without a result, until their destinations have been told."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, select, update

from node.ledger import audit, outbox, tasks
from node.ledger.engine import reading
from node.ledger.schema import study, task
from node.task import NewDelivery, StudyState, Task


def next_untold(engine: Engine) -> Task | None:
    """Return the oldest task that nobody was told of; none of a quarantined study."""
    query = (
        select(task.c.id)
        .join(study, study.c.study_instance_uid == task.c.study_instance_uid)
        .where(task.c.untold, study.c.state != StudyState.QUARANTINED)
        .order_by(task.c.id)
        .limit(1)
    )
    with reading(engine) as connection:
        found = connection.scalar(query)
    return None if found is None else tasks.find(engine, found)


def told(engine: Engine, ended: Task, owed: Sequence[NewDelivery], now: datetime) -> bool:
    """Owe what says how a task ended, and count it as told, in one transaction.

    False means that the task stands elsewhere by now, or was told of already: nothing is owed.
    """
    with engine.begin() as connection:
        rows = connection.execute(
            update(task)
            .where(task.c.id == ended.id, task.c.untold, task.c.state == ended.state)
            .values(untold=False)
            .returning(task.c.id)
        ).all()
        if not rows:
            return False
        outbox.owe(connection, ended.id, owed, now)
        destinations = sorted({one.destination for one in owed if one.destination is not None})
        audit.record(
            connection,
            "outcome_owed",
            now=now,
            actor="worker",
            study_instance_uid=ended.study_instance_uid,
            detail={"task": ended.id, "to": ", ".join(destinations), "state": ended.state},
        )
    return True

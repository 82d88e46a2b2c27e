"""Who did what with which study, in the transaction of what is told; append-only."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, insert, select

from node.ledger.engine import reading
from node.ledger.schema import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event, as it was recorded."""

    at: datetime
    event: str
    actor: str
    detail: Mapping[str, str | int]


def of_study(engine: Engine, study_instance_uid: str, events: Collection[str]) -> tuple[Entry, ...]:
    """Return what was recorded of a study under these names, oldest first."""
    query = (
        select(audit.c.at, audit.c.event, audit.c.actor, audit.c.detail)
        .where(audit.c.study_instance_uid == study_instance_uid, audit.c.event.in_(events))
        .order_by(audit.c.id)
    )
    with reading(engine) as connection:
        return tuple(Entry(**row) for row in connection.execute(query).mappings())


def record(
    connection: Connection,
    event: str,
    *,
    now: datetime,
    actor: str,
    study_instance_uid: str | None = None,
    detail: Mapping[str, str | int] | None = None,
) -> None:
    """Append one event inside the caller's transaction.

    What came in is not repeated here: the reception rows are that part of the trail.

    Parameters
    ----------
    event
        What happened: ``task_running``, ``task_done``, ``delivered``, ``study_quarantined`` ...
    actor
        Who did it: a worker, a destination, a calling AE title with its address, ``operator``.
    detail
        UIDs, numbers and states; the patient is found through the study.
    """
    connection.execute(
        insert(audit).values(
            at=now,
            event=event,
            actor=actor,
            study_instance_uid=study_instance_uid,
            detail=dict(detail or {}),
        )
    )

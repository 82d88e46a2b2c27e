"""Who did what with which study, in the transaction of what is told; append-only."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert

from node.ledger.schema import audit


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

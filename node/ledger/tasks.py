"""The queue: tasks with lease, fence and history, changed in one function along TRANSITIONS."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from node.task import NewDelivery, PlannedTask, State, Task


def complete_study(
    engine: Engine,
    study_instance_uid: str,
    planned: Sequence[PlannedTask],
    *,
    now: datetime,
    revision: int | None = None,
) -> tuple[int, ...]:
    """Mark a study complete and add its tasks, READY, in one transaction; idempotent.

    Late images open the next generation only for the routes that select one of them; if no route
    does, they join the present generation and nothing is added.

    Parameters
    ----------
    revision
        What ``studies.due`` saw; if something has arrived since, nothing happens.

    Returns
    -------
    Ids of the added tasks. The key ``infer:{study}:{generation}:{route}:{config_hash}`` exists
    once, so a repeated call adds nothing.
    """
    raise NotImplementedError


def claim(engine: Engine, worker: str, now: datetime, lease_seconds: float = 60.0) -> Task | None:
    """Return the most urgent READY task, now RUNNING for ``worker``, or None; one winner only."""
    raise NotImplementedError


def renew(engine: Engine, task: Task, now: datetime, lease_seconds: float = 60.0) -> bool:
    """Lengthen the lease; False means that the task is no longer this worker's: stop the work."""
    raise NotImplementedError


def finish(engine: Engine, task: Task, deliveries: Sequence[NewDelivery], now: datetime) -> bool:
    """Record the results: DONE, artifacts and outbox rows in one fenced transaction.

    False means that the task was another's by now: nothing was recorded, throw the result away.
    The SOP Instance UIDs are ours from here on.
    """
    raise NotImplementedError


def give_up(
    engine: Engine,
    task: Task,
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
    """
    raise NotImplementedError


def reclaim_expired(engine: Engine, now: datetime) -> tuple[int, ...]:
    """Take back tasks whose lease is over: READY again, or QUARANTINED at the second death.

    Returns the ids of all that were taken back.
    """
    raise NotImplementedError


def retry(engine: Engine, task_id: int, now: datetime) -> None:
    """Make a parked, failed or quarantined task READY again, with fresh attempts.

    Raises
    ------
    TransitionError
        The task is in another state, or does not exist.
    """
    raise NotImplementedError


def cancel(engine: Engine, task_id: int, now: datetime) -> None:
    """Cancel a ready or running task; the result of a running one will be thrown away.

    Raises
    ------
    TransitionError
        The task is in another state, or does not exist.
    """
    raise NotImplementedError


def find(engine: Engine, task_id: int) -> Task | None:
    """Return a task as it stands, or None."""
    raise NotImplementedError


def of_study(engine: Engine, study_instance_uid: str) -> tuple[Task, ...]:
    """Return the tasks of a study, oldest first."""
    raise NotImplementedError

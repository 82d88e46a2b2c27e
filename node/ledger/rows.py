"""Rows of the ledger as the values that travel."""

from typing import Any

from sqlalchemy import Row

from node.task import State, Task


def task_of(row: Row[Any]) -> Task:
    """Return a row of the queue as a task."""
    return Task(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        generation=row.generation,
        route=row.route,
        config_hash=row.config_hash,
        priority=row.priority,
        state=State(row.state),
        attempt=row.attempt,
        token=row.token,
        not_before=row.not_before,
        error=row.error,
        explained=tuple(row.explained),
        created=row.created,
    )

"""What is owed to whom: objects that wait for a destination."""

from datetime import datetime

from sqlalchemy import Engine

from node.task import Delivery


def due(engine: Engine, destination: str, now: datetime, limit: int = 100) -> tuple[Delivery, ...]:
    """Return what is owed to a destination and may be tried now, oldest task first.

    Nothing of a quarantined study is due.
    """
    raise NotImplementedError


def delivered(engine: Engine, delivery: Delivery, status: int, now: datetime) -> bool:
    """Record that the destination has the object; False if it was settled otherwise meanwhile."""
    raise NotImplementedError


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
    raise NotImplementedError


def park(
    engine: Engine, delivery: Delivery, *, status: int | None, reason: str, now: datetime
) -> bool:
    """Stop trying by itself; a person can release it."""
    raise NotImplementedError


def refuse(engine: Engine, delivery: Delivery, *, status: int, reason: str, now: datetime) -> bool:
    """Record that the destination said no for good."""
    raise NotImplementedError


def release(engine: Engine, delivery_id: int, now: datetime) -> bool:
    """Put a parked or refused delivery back into the queue, with fresh attempts."""
    raise NotImplementedError


def of_task(engine: Engine, task_id: int) -> tuple[Delivery, ...]:
    """Return everything that a task owes or has delivered."""
    raise NotImplementedError

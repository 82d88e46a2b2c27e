"""What no longer counts: marked in the transaction that makes it so, withdrawn by whoever comes."""

from sqlalchemy import ColumnElement, Connection, exists, update

from dicom_io.encode.kinds import OUTCOME_KINDS, REJECTION_KIND
from node.ledger.schema import artifact, delivery, task
from node.task import Delivery, DeliveryState, State, Task


def mark_superseded(connection: Connection, done: Task) -> None:
    """Mark inside the caller's transaction whose objects no longer count, now that a task is done.

    That are earlier generations on the same route, and what was said of the task itself while it
    had failed. A task that is done after a later generation has itself come too late.
    """
    same = (task.c.study_instance_uid == done.study_instance_uid) & (task.c.route == done.route)
    earlier = same & (task.c.generation < done.generation)
    earlier &= _has(artifact.c.result != REJECTION_KIND)
    itself = (task.c.id == done.id) & _has(artifact.c.result.in_(OUTCOME_KINDS))
    _mark(connection, earlier | itself)
    other = task.alias()
    later = exists().where(
        other.c.study_instance_uid == done.study_instance_uid,
        other.c.route == done.route,
        other.c.generation > done.generation,
        other.c.state == State.DONE,
    )
    _mark(connection, (task.c.id == done.id) & later)


def restore_withdrawn(connection: Connection, sent: Delivery) -> None:
    """Have an object count again that reached its destination while it was being withdrawn."""
    rows = connection.execute(
        update(delivery)
        .where(delivery.c.id == sent.id, delivery.c.state == DeliveryState.WITHDRAWN)
        .values(state=DeliveryState.WAITING)
        .returning(delivery.c.id)
    ).all()
    if not rows:
        return
    connection.execute(
        update(artifact)
        .where(artifact.c.sop_instance_uid == sent.sop_instance_uid)
        .values(withdrawn=None)
    )
    _mark(connection, task.c.id == sent.task_id)


def _mark(connection: Connection, condition: ColumnElement[bool]) -> None:
    connection.execute(update(task).where(condition).values(superseded=True))


def _has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(
        artifact.c.task_id == task.c.id, artifact.c.withdrawn.is_(None), condition
    )

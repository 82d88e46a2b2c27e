"""Moments that lie in the future although they were now: the clock was set back since."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Engine, Table, exists, select, update

from node.ledger.engine import reading
from node.ledger.schema import confirmation, delivery, study, task
from node.task import ConfirmationState, DeliveryState, State, StudyState

#: Beyond what two processes of one machine can differ by.
_MARGIN = timedelta(minutes=1)


def forget_future(engine: Engine, now: datetime) -> bool:
    """Begin every pause anew that was begun in the future; return whether there was one.

    Otherwise a study, a task or a delivery would wait until the clock has caught up: for years, if
    a machine without a battery for its clock started in the wrong year.
    """
    late = now + _MARGIN
    receiving = (study.c.state == StudyState.RECEIVING) & (study.c.last_arrival > late)
    ready = (task.c.state == State.READY) & (task.c.changed > late)
    waiting = (delivery.c.state == DeliveryState.WAITING) & (delivery.c.changed > late)
    unsettled = (ConfirmationState.DUE, ConfirmationState.ASKED)
    confirming = confirmation.c.state.in_(unsettled) & (confirmation.c.changed > late)
    found: tuple[tuple[Table, ColumnElement[bool], dict[str, datetime]], ...] = (
        (study, receiving, {"last_arrival": now}),
        (task, ready, {"not_before": now, "changed": now}),
        (delivery, waiting, {"not_before": now, "changed": now}),
        (confirmation, confirming, {"not_before": now, "changed": now}),
    )
    with reading(engine) as connection:
        if not any(connection.scalar(select(exists().where(where))) for _, where, _ in found):
            return False
    with engine.begin() as connection:
        for table, where, values in found:
            connection.execute(update(table).where(where).values(**values))
    return True

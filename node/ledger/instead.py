"""What is owed in the place of an object that a destination has refused."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    exists,
    insert,
    literal,
    null,
    select,
    tuple_,
    update,
)

from node.ledger import audit, schema
from node.profiles import FALLBACKS
from node.task import Delivery, DeliveryState

#: A stand-in in one of these states is on its way, or there.
_CARRIED = frozenset({DeliveryState.WAITING, DeliveryState.DELIVERED})


def owe_instead(
    connection: Connection,
    refused: Delivery,
    instead: Mapping[str, Sequence[str]],
    now: datetime,
) -> None:
    """Owe what stands in for a refused object, inside the caller's transaction.

    Parameters
    ----------
    instead
        Name of a result to those that say the same, best first. The first that the task has made
        and that the destination has not refused too becomes owed, unless one is already.
    """
    made = schema.artifact.c
    query = select(made.result).where(made.sop_instance_uid == refused.sop_instance_uid)
    result = connection.scalar(query) or ""
    for name in instead.get(result, ()):
        states = set(connection.scalars(_states(refused, name)))
        if states & _CARRIED:
            return
        if not states and _owe(connection, refused, name, now):
            table = schema.delivery
            words = table.c.reason + f"; {name} is sent instead"
            mine = table.c.id == refused.id
            connection.execute(update(table).where(mine).values(reason=words))
            audit.record(
                connection,
                "result_sent_instead",
                now=now,
                actor=refused.destination,
                study_instance_uid=_study(connection, refused),
                detail={"task": refused.task_id, "result": result, "instead": name},
            )
            return


def is_replaced() -> ColumnElement[bool]:
    """Return the condition that a destination has refused an object, and has what stands in for it.

    Nobody is owed that object any more, and nobody has to decide about it.
    """
    refused, other = schema.delivery, schema.delivery.alias()
    mine, others = schema.artifact.alias(), schema.artifact.alias()
    says_the_same = [(result, each) for result, named in FALLBACKS.items() for each in named]
    return (refused.c.state == DeliveryState.REFUSED) & exists().where(
        other.c.task_id == refused.c.task_id,
        other.c.destination == refused.c.destination,
        other.c.state == DeliveryState.DELIVERED,
        mine.c.sop_instance_uid == refused.c.sop_instance_uid,
        others.c.sop_instance_uid == other.c.sop_instance_uid,
        tuple_(mine.c.result, others.c.result).in_(says_the_same),
    )


def _states(refused: Delivery, result: str) -> Select[tuple[str]]:
    """Select the states of what the destination is owed of a result of the same task."""
    table, made = schema.delivery, schema.artifact
    return (
        select(table.c.state)
        .join(made, made.c.sop_instance_uid == table.c.sop_instance_uid)
        .where(
            table.c.task_id == refused.task_id,
            table.c.destination == refused.destination,
            made.c.result == result,
        )
    )


def _owe(connection: Connection, refused: Delivery, result: str, now: datetime) -> bool:
    """Owe every object of a result to the destination; return whether there is one."""
    table, made = schema.delivery.c, schema.artifact.c
    values = {
        table.task_id: made.task_id,
        table.destination: literal(refused.destination),
        table.sop_instance_uid: made.sop_instance_uid,
        table.sop_class_uid: made.sop_class_uid,
        table.path: made.path,
        table.state: literal(DeliveryState.WAITING.value),
        table.attempt: literal(0),
        table.not_before: literal(now, table.not_before.type),
        table.status: null(),
        table.reason: literal(""),
        table.changed: literal(now, table.changed.type),
    }
    objects = select(*values.values()).where(
        made.task_id == refused.task_id, made.result == result, made.withdrawn.is_(None)
    )
    owe = insert(schema.delivery).from_select(list(values), objects).returning(table.id)
    return bool(connection.execute(owe).all())


def _study(connection: Connection, refused: Delivery) -> str | None:
    task = schema.task.c
    return connection.scalar(select(task.study_instance_uid).where(task.id == refused.task_id))

"""What a destination says of an object that it has taken: that it keeps it, that it lists it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, delete, insert, select, update

from node.ledger import audit, schema
from node.ledger.engine import insert_missing, reading
from node.task import (
    CommitmentReport,
    Confirmation,
    ConfirmationKind,
    ConfirmationState,
    DeliveryState,
    Resending,
)

_OPEN = (ConfirmationState.DUE, ConfirmationState.ASKED)
_NEVER = Resending(times=0)


def want(
    connection: Connection, delivery_id: int, kinds: Iterable[ConfirmationKind], now: datetime
) -> None:
    """Have it asked, inside the transaction that records the delivery; anew if it was before."""
    table = schema.confirmation
    rows = [
        {
            "delivery_id": delivery_id,
            "kind": kind,
            "state": ConfirmationState.DUE,
            "attempt": 0,
            "resent": 0,
            "not_before": now,
            "reason": "",
            "changed": now,
        }
        for kind in kinds
    ]
    connection.execute(
        update(table)
        .where(table.c.delivery_id == delivery_id, table.c.kind.in_([row["kind"] for row in rows]))
        .values(state=ConfirmationState.DUE, attempt=0, not_before=now, reason="", changed=now)
    )
    insert_missing(connection, table, rows)


def forget(connection: Connection, delivery_id: int) -> None:
    """Drop what is known of a delivery that a person has begun anew."""
    table = schema.confirmation
    connection.execute(delete(table).where(table.c.delivery_id == delivery_id))


def due(
    engine: Engine, destination: str, kind: ConfirmationKind, now: datetime, *, limit: int = 100
) -> tuple[Confirmation, ...]:
    """Return what a destination is to be asked now, of what it has taken; oldest first."""
    return _selected(engine, destination, kind, ConfirmationState.DUE, now=now, limit=limit)


def unanswered(engine: Engine, destination: str, now: datetime) -> tuple[Confirmation, ...]:
    """Return what a destination was asked to keep, and has not answered in time."""
    kind, state = ConfirmationKind.COMMITMENT, ConfirmationState.ASKED
    return _selected(engine, destination, kind, state, now=now, limit=1000)


def asked(
    engine: Engine,
    asked_for: Sequence[Confirmation],
    transaction_uid: str,
    *,
    until: datetime,
    now: datetime,
) -> None:
    """Record a question, before it is put: its answer may come over another association at once.

    Parameters
    ----------
    until
        When it counts as unanswered.
    """
    table = schema.confirmation
    with engine.begin() as connection:
        connection.execute(
            insert(schema.commitment_request).values(
                transaction_uid=transaction_uid,
                destination=asked_for[0].destination,
                asked=now,
            )
        )
        for each in asked_for:
            connection.execute(
                update(table)
                .where(_is(each), table.c.state == ConfirmationState.DUE)
                .values(
                    state=ConfirmationState.ASKED,
                    transaction_uid=transaction_uid,
                    not_before=until,
                    changed=now,
                )
            )


def postpone(
    engine: Engine, each: Confirmation, *, reason: str, not_before: datetime, now: datetime
) -> None:
    """Count one question without a good answer, to be put again not before ``not_before``."""
    table = schema.confirmation
    with engine.begin() as connection:
        connection.execute(
            update(table)
            .where(_is(each), table.c.state.in_(_OPEN))
            .values(
                state=ConfirmationState.DUE,
                attempt=table.c.attempt + 1,
                not_before=not_before,
                reason=reason,
                changed=now,
            )
        )


def confirm(engine: Engine, each: Confirmation, now: datetime) -> None:
    """Record that the destination has the object."""
    with engine.begin() as connection:
        _confirm(connection, _is(each), now)


def lacking(
    engine: Engine, each: Confirmation, *, reason: str, resending: Resending, now: datetime
) -> None:
    """Have an object that the destination lost sent again; park it after the last time."""
    with engine.begin() as connection:
        _lacking(connection, _is(each), reason=reason, resending=resending, now=now)


def give_up(engine: Engine, each: Confirmation, *, reason: str, now: datetime) -> None:
    """Park a delivery of which nobody can tell whether the destination has it."""
    with engine.begin() as connection:
        _lacking(connection, _is(each), reason=reason, resending=_NEVER, now=now)


def answered(
    engine: Engine,
    destination: str,
    report: CommitmentReport,
    *,
    resending: Resending,
    now: datetime,
) -> bool:
    """Record a report of storage commitment; False if ``destination`` was asked no such thing.

    Success counts whenever it comes. Failure counts only as the answer to the newest question:
    since an older one the object may have been sent again.

    Parameters
    ----------
    resending
        How an object is sent again that the destination does not keep.
    """
    table, request = schema.confirmation, schema.commitment_request
    known = select(request.c.destination).where(request.c.transaction_uid == report.transaction_uid)
    with engine.begin() as connection:
        if connection.scalar(known) != destination:
            return False
        for uid in report.committed:
            _confirm(connection, _of_object(destination, uid), now)
        for uid, reason in report.failed.items():
            newest = table.c.transaction_uid == report.transaction_uid
            where = and_(
                _of_object(destination, uid), newest, table.c.state == ConfirmationState.ASKED
            )
            told, tries = failure_words(reason)
            words = f"{destination} does not keep it: {told}"
            allowed = resending if tries else _NEVER
            _lacking(connection, where, reason=words, resending=allowed, now=now)
    return True


def failure_words(reason: int | None) -> tuple[str, bool]:
    """Return a failure reason in words, and whether sending again may help (PS3.3 C.14.1.1)."""
    known = {
        0x0110: ("processing failed there", True),
        0x0112: ("it has no such object", True),
        0x0119: ("it has another kind of object under this identifier", False),
        0x0122: ("it does not commit itself to this kind of object", False),
        0x0131: ("it had a request of this number already", True),
        0x0213: ("no resources there", True),
    }
    if reason is None:
        return "no reason is told", True
    words, helps = known.get(reason, ("reason unknown", True))
    return f"{words} (0x{reason:04X})", helps


def hasten(engine: Engine, now: datetime) -> None:
    """Make every question that waits for a later try due at once."""
    table = schema.confirmation
    waits = (table.c.state == ConfirmationState.DUE) & (table.c.not_before > now)
    with engine.begin() as connection:
        connection.execute(update(table).where(waits).values(not_before=now))


def of_task(
    engine: Engine, task_id: int
) -> Mapping[int, Mapping[ConfirmationKind, ConfirmationState]]:
    """Return for each delivery of a task that asks for any where its confirmations stand."""
    table = schema.confirmation
    query = (
        select(table)
        .join(schema.delivery, schema.delivery.c.id == table.c.delivery_id)
        .where(schema.delivery.c.task_id == task_id)
        .order_by(table.c.kind)
    )
    found: dict[int, dict[ConfirmationKind, ConfirmationState]] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            stands = found.setdefault(row.delivery_id, {})
            stands[ConfirmationKind(row.kind)] = ConfirmationState(row.state)
    return found


def _is(each: Confirmation) -> ColumnElement[bool]:
    """Return the condition that it is this row, and nothing came of it since it was read."""
    table = schema.confirmation.c
    same = (table.delivery_id == each.delivery_id) & (table.kind == each.kind)
    if each.transaction_uid is None:
        return same
    return same & (table.transaction_uid == each.transaction_uid)


def _of_object(destination: str, sop_instance_uid: str) -> ColumnElement[bool]:
    table, delivery = schema.confirmation.c, schema.delivery.c
    owed = select(delivery.id).where(
        delivery.destination == destination, delivery.sop_instance_uid == sop_instance_uid
    )
    return (table.kind == ConfirmationKind.COMMITMENT) & table.delivery_id.in_(owed)


def _confirm(connection: Connection, where: ColumnElement[bool], now: datetime) -> None:
    table = schema.confirmation
    rows = connection.execute(
        update(table)
        .where(where, table.c.state.in_(_OPEN))
        .values(state=ConfirmationState.CONFIRMED, reason="", changed=now)
        .returning(*table.c)
    ).all()
    for row in rows:
        event = "committed" if row.kind == ConfirmationKind.COMMITMENT else "read_back"
        _audit(connection, event, row.delivery_id, reason="", now=now)


def _lacking(
    connection: Connection,
    where: ColumnElement[bool],
    *,
    reason: str,
    resending: Resending,
    now: datetime,
) -> None:
    table = schema.confirmation
    rows = connection.execute(select(table).where(where, table.c.state.in_(_OPEN))).all()
    for row in rows:
        if row.resent < resending.times:
            pause = timedelta(seconds=resending.pause_seconds * 2**row.resent)
            _send_again(connection, row, reason, not_before=now + pause, now=now)
        else:
            _park(connection, row, reason, now)


def _send_again(
    connection: Connection, row: Row[Any], reason: str, *, not_before: datetime, now: datetime
) -> None:
    table, delivery = schema.confirmation, schema.delivery
    moved = connection.execute(
        update(delivery)
        .where(delivery.c.id == row.delivery_id, delivery.c.state == DeliveryState.DELIVERED)
        .values(
            state=DeliveryState.WAITING,
            attempt=0,
            not_before=not_before,
            reason=reason,
            changed=now,
        )
    ).rowcount
    if moved:
        connection.execute(
            update(table)
            .where(table.c.delivery_id == row.delivery_id, table.c.kind == row.kind)
            .values(state=ConfirmationState.DUE, resent=row.resent + 1, reason=reason, changed=now)
        )
        _audit(connection, "delivery_repeated", row.delivery_id, reason=reason, now=now)


def _park(connection: Connection, row: Row[Any], reason: str, now: datetime) -> None:
    table, delivery = schema.confirmation, schema.delivery
    words = f"delivered, but {reason}"
    if row.resent:
        words += f"; sent again {'once' if row.resent == 1 else f'{row.resent} times'}"
    connection.execute(
        update(delivery)
        .where(delivery.c.id == row.delivery_id, delivery.c.state == DeliveryState.DELIVERED)
        .values(state=DeliveryState.PARKED, reason=words, changed=now)
    )
    connection.execute(
        update(table)
        .where(table.c.delivery_id == row.delivery_id, table.c.kind == row.kind)
        .values(state=ConfirmationState.FAILED, reason=reason, changed=now)
    )
    _audit(connection, "delivery_parked", row.delivery_id, reason=words, now=now)


def _audit(
    connection: Connection, event: str, delivery_id: int, *, reason: str, now: datetime
) -> None:
    delivery, task = schema.delivery.c, schema.task.c
    row = connection.execute(
        select(
            delivery.task_id,
            delivery.destination,
            delivery.sop_instance_uid,
            task.study_instance_uid,
        )
        .join_from(schema.delivery, schema.task, task.id == delivery.task_id)
        .where(delivery.id == delivery_id)
    ).one()
    audit.record(
        connection,
        event,
        now=now,
        actor=row.destination,
        study_instance_uid=row.study_instance_uid,
        detail={
            "task": row.task_id,
            "sop_instance_uid": row.sop_instance_uid,
            "destination": row.destination,
            "reason": reason,
        },
    )


def _selected(
    engine: Engine,
    destination: str,
    kind: ConfirmationKind,
    state: ConfirmationState,
    *,
    now: datetime,
    limit: int,
) -> tuple[Confirmation, ...]:
    table, delivery, task = schema.confirmation, schema.delivery.c, schema.task.c
    query = (
        select(
            table,
            delivery.destination,
            delivery.sop_class_uid,
            delivery.sop_instance_uid,
            delivery.path,
            task.study_instance_uid,
        )
        .join(schema.delivery, delivery.id == table.c.delivery_id)
        .join(schema.task, task.id == delivery.task_id)
        .where(
            delivery.destination == destination,
            delivery.state == DeliveryState.DELIVERED,
            table.c.kind == kind,
            table.c.state == state,
            table.c.not_before <= now,
        )
        .order_by(table.c.delivery_id)
        .limit(limit)
    )
    with reading(engine) as connection:
        return tuple(_confirmation(row) for row in connection.execute(query))


def _confirmation(row: Row[Any]) -> Confirmation:
    return Confirmation(
        delivery_id=row.delivery_id,
        kind=ConfirmationKind(row.kind),
        destination=row.destination,
        study_instance_uid=row.study_instance_uid,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        path=Path(row.path),
        transaction_uid=row.transaction_uid,
        attempt=row.attempt,
    )

"""What stands where: counts and complaints for the status command, the page and the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection, Engine, Table, case, func, select

from node.ledger import schema, studies
from node.ledger.engine import reading
from node.ledger.instead import is_replaced
from node.task import ConfirmationKind, ConfirmationState, DeliveryState, State, StudyState

#: What is asked of a delivered object, and where that stands, in words.
_CONFIRMATION_WORDS: Mapping[tuple[ConfirmationKind, ConfirmationState], str] = MappingProxyType(
    {
        (ConfirmationKind.COMMITMENT, ConfirmationState.DUE): "to be asked to keep",
        (ConfirmationKind.COMMITMENT, ConfirmationState.ASKED): "asked to keep",
        (ConfirmationKind.COMMITMENT, ConfirmationState.CONFIRMED): "committed",
        (ConfirmationKind.COMMITMENT, ConfirmationState.FAILED): "not committed",
        (ConfirmationKind.READBACK, ConfirmationState.DUE): "to be read back",
        (ConfirmationKind.READBACK, ConfirmationState.ASKED): "being read back",
        (ConfirmationKind.READBACK, ConfirmationState.CONFIRMED): "found there",
        (ConfirmationKind.READBACK, ConfirmationState.FAILED): "not found there",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One thing that waits for a person."""

    #: ``task``, ``delivery`` or ``study``.
    kind: str
    #: Id of the task or delivery, or the Study Instance UID.
    id: str
    study_instance_uid: str
    #: Route of the task, destination of the delivery; empty for a study.
    name: str
    state: str
    #: What happened, in words.
    text: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts by state, and what needs a person."""

    instances: int
    #: Study state to count.
    studies: Mapping[str, int]
    #: Task state to count.
    tasks: Mapping[str, int]
    #: Destination to delivery state to count.
    deliveries: Mapping[str, Mapping[str, int]]
    #: Destination to what it was asked of what it has taken, in words, to count.
    confirmations: Mapping[str, Mapping[str, int]]
    complaints: tuple[Complaint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits for one destination after failed tries."""

    destination: str
    objects: int
    #: When the oldest of the objects was made.
    since: datetime
    #: Why the last try failed, in words.
    reason: str
    #: When the first of them is due.
    next_try: datetime


def confirmation_words(kind: ConfirmationKind, state: ConfirmationState) -> str:
    """Return in words where a question about a delivered object stands."""
    return _CONFIRMATION_WORDS[kind, state]


def summary(engine: Engine, *, limit: int = 50) -> Summary:
    """Return the counts and the newest ``limit`` complaints of each kind."""
    with reading(engine) as connection:
        instances = schema.instance.c
        counted = select(func.count()).where(instances.replaced_in.is_(None))
        return Summary(
            instances=connection.scalar(counted.select_from(schema.instance)) or 0,
            studies=_counts(connection, schema.study),
            tasks=_counts(connection, schema.task),
            deliveries=_deliveries(connection),
            confirmations=_confirmations(connection),
            complaints=(
                *_studies(connection, limit),
                *_tasks(connection, limit),
                *_refusals(connection, limit),
            ),
        )


def backlogs(engine: Engine, study_instance_uid: str | None = None) -> tuple[Backlog, ...]:
    """Return what waits after failed tries, of all studies or of one, by destination.

    A quarantined study has none: nothing of it is tried.
    """
    table, made = schema.delivery.c, schema.artifact.c
    chosen = [
        table.state == DeliveryState.WAITING,
        table.reason != "",
        schema.study.c.state != StudyState.QUARANTINED,
    ]
    if study_instance_uid is not None:
        chosen.append(schema.study.c.study_instance_uid == study_instance_uid)
    newest = func.row_number().over(
        partition_by=table.destination, order_by=(table.changed.desc(), table.id.desc())
    )
    waiting = (
        select(
            *(table.destination, table.reason, table.not_before, made.created),
            newest.label("newest"),
        )
        .join_from(schema.delivery, schema.task, schema.task.c.id == table.task_id)
        .join(schema.study, schema.study.c.study_instance_uid == schema.task.c.study_instance_uid)
        .join(schema.artifact, made.sop_instance_uid == table.sop_instance_uid)
        .where(*chosen)
        .subquery()
    )
    columns = waiting.c
    query = (
        select(
            columns.destination,
            func.count().label("objects"),
            func.min(columns.created).label("since"),
            func.max(case((columns.newest == 1, columns.reason))).label("reason"),
            func.min(columns.not_before).label("next_try"),
        )
        .group_by(columns.destination)
        .order_by(columns.destination)
    )
    with reading(engine) as connection:
        return tuple(Backlog(**row) for row in connection.execute(query).mappings())


def leased_tasks(engine: Engine, now: datetime) -> frozenset[int]:
    """Return the ids of the tasks that a worker is known to be alive with."""
    table = schema.task.c
    query = select(table.id).where(table.state == State.RUNNING, table.lease_until >= now)
    with reading(engine) as connection:
        return frozenset(connection.scalars(query))


def _counts(connection: Connection, table: Table) -> dict[str, int]:
    query = select(table.c.state, func.count()).group_by(table.c.state).order_by(table.c.state)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _deliveries(connection: Connection) -> dict[str, dict[str, int]]:
    table = schema.delivery.c
    key = (table.destination, table.state)
    found: dict[str, dict[str, int]] = {}
    for destination, state, count in connection.execute(
        select(*key, func.count()).group_by(*key).order_by(*key)
    ):
        found.setdefault(destination, {})[state] = count
    return found


def _confirmations(connection: Connection) -> dict[str, dict[str, int]]:
    table, owed = schema.confirmation.c, schema.delivery.c
    key = (owed.destination, table.kind, table.state)
    query = (
        select(*key, func.count())
        .join_from(schema.confirmation, schema.delivery, owed.id == table.delivery_id)
        .group_by(*key)
        .order_by(*key)
    )
    found: dict[str, dict[str, int]] = {}
    for destination, kind, state, count in connection.execute(query):
        words = confirmation_words(ConfirmationKind(kind), ConfirmationState(state))
        found.setdefault(destination, {})[words] = count
    return found


def _studies(connection: Connection, limit: int) -> list[Complaint]:
    table = schema.study
    query = (
        select(table)
        .where((table.c.state == StudyState.QUARANTINED) | studies.late_after_expiry())
        .order_by(table.c.last_arrival.desc())
        .limit(limit)
    )
    return [
        Complaint(
            kind="study",
            id=row.study_instance_uid,
            study_instance_uid=row.study_instance_uid,
            name="",
            state=row.state,
            text=row.quarantine_reason or "images came after the others of it were deleted",
            since=row.last_arrival,
        )
        for row in connection.execute(query)
    ]


def _tasks(connection: Connection, limit: int) -> list[Complaint]:
    table = schema.task
    stuck = (State.PARKED, State.FAILED, State.QUARANTINED, State.REJECTED)
    query = select(table).where(table.c.state.in_(stuck)).order_by(table.c.changed.desc())
    return [
        Complaint(
            kind="task",
            id=str(row.id),
            study_instance_uid=row.study_instance_uid,
            name=row.route,
            state=row.state,
            text=row.error,
            since=row.changed,
        )
        for row in connection.execute(query.limit(limit))
    ]


def _refusals(connection: Connection, limit: int) -> list[Complaint]:
    table, tasks = schema.delivery, schema.task
    query = (
        select(table, tasks.c.study_instance_uid)
        .join(tasks, tasks.c.id == table.c.task_id)
        .where(table.c.state.in_((DeliveryState.PARKED, DeliveryState.REFUSED)), ~is_replaced())
        .order_by(table.c.changed.desc())
    )
    return [
        Complaint(
            kind="delivery",
            id=str(row.id),
            study_instance_uid=row.study_instance_uid,
            name=row.destination,
            state=row.state,
            text=row.reason,
            since=row.changed,
        )
        for row in connection.execute(query.limit(limit))
    ]

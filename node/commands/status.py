"""``pellucid status``: what stands where, and what a person has to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from node.commands import damaged, not_taken, storage
from node.commands.output import FindingError, counted
from node.config import Config
from node.ledger import confirmations, outbox, tasks
from node.ledger.engine import Engine, open_ledger
from node.ledger.status import (
    Backlog,
    Complaint,
    Summary,
    backlogs,
    confirmation_words,
    leased_tasks,
    summary,
)
from node.ledger.studies import receptions, state
from node.ownership import node_runs
from node.progress import read_progress
from node.retention import outlook
from node.task import Delivery, DeliveryState, State

Row = dict[str, object]

#: Kind of thing and its state to what a person has to do about it.
_ADVICE: Mapping[tuple[str, str], str] = {
    ("task", State.PARKED): "remove the cause, then: pellucid retry task {id}",
    ("task", State.FAILED): "report it, it is a mistake of ours; try again: "
    "pellucid retry task {id}",
    ("task", State.QUARANTINED): "it ended its process twice: look into the log, then: "
    "pellucid quarantine release {id} --reason ...",
    ("task", State.REJECTED): "send the study again when it is mended; if the route is not meant "
    "for such a study, narrow its select or when",
    ("delivery", DeliveryState.PARKED): "remove the cause, then: pellucid retry delivery {id}",
    ("delivery", DeliveryState.REFUSED): "mend it at the destination, then: "
    "pellucid retry delivery {id}",
    ("delivery", DeliveryState.WAITING): "add the peer to node.toml again, and restart the node",
    ("study", "expired"): "it is analyzed when all of it is here: send the whole study again",
    ("study", "quarantined"): "correct it at its source and send it under a new Study Instance "
    "UID, or, if what came first is right: pellucid quarantine release {id} --reason ...",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a command tells, and how it ends."""

    #: Whether the node runs, in words.
    node: str
    #: Title to rows of the same keys.
    tables: Mapping[str, list[Row]]
    #: Whether something waits for a person.
    waits: bool


def node_status(config: Config, now: datetime) -> Status:
    """Return where everything stands.

    Raises
    ------
    LedgerError
        There is no ledger, or it is at another revision.
    """
    engine = open_ledger(config.node.database)
    runs = node_runs(config.node.data)
    found = summary(engine)
    told = [_complaint_row(complaint) for complaint in found.complaints]
    rejected = [row for row in told if row["state"] == State.REJECTED]
    stands = outlook(engine, config.node.data, config.storage, now)
    waiting = [row for row in told if row not in rejected] + _stranded_rows(engine, config)
    waiting += storage.complaints(stands, config.storage)
    tables = {
        "Counts": _count_rows(found),
        "Storage": [storage.row(stands, config.storage)],
        "At work": _running_rows(config, leased_tasks(engine, now)) if runs else [],
        "Waits for a destination": _backlog_rows(config, backlogs(engine), now, runs=runs),
        "Not taken": not_taken.of_node(engine, config),
        "Does not conform": damaged.of_node(engine),
        "Waits for a person": waiting,
        "Rejected": rejected,
    }
    return Status(node=_node_words(runs=runs), tables=tables, waits=bool(waiting))


def study_status(config: Config, study_instance_uid: str, now: datetime) -> dict[str, Any]:
    """Return where one study stands: its arrivals, tasks and deliveries.

    Raises
    ------
    FindingError
        The ledger knows no such study.
    """
    engine = open_ledger(config.node.database)
    stands = state(engine, study_instance_uid)
    if stands is None:
        raise FindingError(f"study {study_instance_uid} was never received")
    arrivals = receptions(engine, study_instance_uid)
    of_study = tasks.of_study(engine, study_instance_uid)
    runs = node_runs(config.node.data)
    owed = backlogs(engine, study_instance_uid)
    return {
        "node": _node_words(runs=runs),
        "study": study_instance_uid,
        "state": str(stands),
        "what_to_do": _advice("study", str(stands), study_instance_uid),
        "received_from": sorted({f"{each.calling_ae} at {each.address}" for each in arrivals}),
        "sent_to": sorted({each.called_ae for each in arrivals}),
        "tasks": [
            {
                "id": task.id,
                "route": task.route,
                "generation": task.generation,
                "state": str(task.state),
                "attempt": task.attempt,
                "error": task.error,
                "explained": "\n".join(task.explained),
                "what_to_do": _advice("task", task.state, str(task.id)),
            }
            for task in of_study
        ],
        "deliveries": [
            {
                "id": delivery.id,
                "task": delivery.task_id,
                "to": delivery.destination,
                "result": delivery.result,
                "object": delivery.sop_instance_uid,
                "state": _state_words(delivery),
                "attempt": delivery.attempt,
                "status": "" if delivery.status is None else f"0x{delivery.status:04X}",
                "confirmed": ", ".join(
                    confirmation_words(*each) for each in confirmed.get(delivery.id, {}).items()
                ),
                "what_to_do": _delivery_advice(delivery.state, str(delivery.id)),
            }
            for task in of_study
            for confirmed in [confirmations.of_task(engine, task.id)]
            for delivery in outbox.of_task(engine, task.id)
        ],
        "not_taken": not_taken.of_study(engine, study_instance_uid),
        "does_not_conform": damaged.of_study(engine, study_instance_uid),
        "waiting": _backlog_rows(config, owed, now, runs=runs),
    }


def waits_for_a_person(content: Mapping[str, Any]) -> bool:
    """Return whether anything of what ``study_status`` told does."""
    rows = (content, *content["tasks"], *content["deliveries"])
    return any(row["what_to_do"] and row["state"] != State.REJECTED for row in rows)


def _node_words(*, runs: bool) -> str:
    return "running" if runs else "not running: start it with pellucid run"


def _count_rows(found: Summary) -> list[Row]:
    counts: list[tuple[str, Mapping[str, int]]] = [
        ("instances", {"received": found.instances}),
        ("studies", found.studies),
        ("tasks", found.tasks),
        *((f"deliveries to {name}", states) for name, states in found.deliveries.items()),
        *((f"delivered to {name}", states) for name, states in found.confirmations.items()),
    ]
    return [
        {"what": what, "state": name, "count": count}
        for what, states in counts
        for name, count in states.items()
    ]


def _running_rows(config: Config, leased: frozenset[int]) -> list[Row]:
    """Return one row for each worker that is at work: a dead one leaves its last words behind."""
    return [
        {
            "worker": each.worker,
            "task": each.task,
            "route": each.route,
            "study": each.study_instance_uid,
            "stage": each.stage,
            "progress": f"{each.done / each.total:.0%}" if each.total else "",
        }
        for each in read_progress(config.node.data)
        if each.task in leased
    ]


def _backlog_rows(
    config: Config, found: Iterable[Backlog], now: datetime, *, runs: bool
) -> list[Row]:
    """Return one row for each configured peer that something waits for after failed tries."""
    return [
        {
            "to": each.destination,
            "objects": each.objects,
            "since": each.since.isoformat(timespec="seconds"),
            "reason": each.reason,
            "next_try": _next_try(each.next_try, now, runs=runs),
            "what_to_do": f"see whether it runs: pellucid echo {each.destination}",
        }
        for each in found
        if each.destination in config.peers
    ]


def _next_try(due: datetime, now: datetime, *, runs: bool) -> str:
    if not runs:
        return "when the node is started"
    return "now" if due <= now else due.isoformat(timespec="seconds")


def _complaint_row(complaint: Complaint) -> Row:
    return {
        "kind": complaint.kind,
        "id": complaint.id,
        "name": complaint.name,
        "state": complaint.state,
        "since": complaint.since.isoformat(timespec="seconds"),
        "what happened": complaint.text,
        "what to do": _advice(complaint.kind, complaint.state, complaint.id),
    }


def _stranded_rows(engine: Engine, config: Config) -> list[Row]:
    return [
        {
            "kind": "delivery",
            "id": "",
            "name": name,
            "state": str(DeliveryState.WAITING),
            "since": "",
            "what happened": f"owed to a peer that is not configured: {counted(count, 'object')}",
            "what to do": _advice("delivery", DeliveryState.WAITING, ""),
        }
        for name, count in outbox.stranded(engine, config.peers).items()
    ]


def _state_words(delivery: Delivery) -> str:
    gone = delivery.withdrawn and delivery.state is DeliveryState.DELIVERED
    return f"{delivery.state}, then withdrawn" if gone else str(delivery.state)


def _delivery_advice(stands: DeliveryState, number: str) -> str:
    return "" if stands is DeliveryState.WAITING else _advice("delivery", stands, number)


def _advice(kind: str, stands: str, number: str) -> str:
    return _ADVICE.get((kind, stands), "").format(id=number)

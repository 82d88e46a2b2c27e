"""``pellucid status``: what was received, what is being done, what waits for a person."""

from collections.abc import Mapping
from typing import Any

from node.commands.output import FindingError
from node.config import Config
from node.ledger import outbox, tasks
from node.ledger.engine import open_ledger
from node.ledger.status import Summary, summary
from node.ledger.studies import receptions, state
from node.progress import read_progress


def node_summary(config: Config) -> Summary:
    """Return counts and complaints of the ledger; raises LedgerError if there is none."""
    return summary(open_ledger(config.node.database))


def count_rows(found: Summary) -> list[dict[str, object]]:
    """Return one row for each kind of thing and its state."""
    counts: list[tuple[str, Mapping[str, int]]] = [
        ("instances", {"received": found.instances}),
        ("studies", found.studies),
        ("tasks", found.tasks),
        *((f"deliveries to {name}", states) for name, states in found.deliveries.items()),
    ]
    return [
        {"what": what, "state": name, "count": count}
        for what, states in counts
        for name, count in states.items()
    ]


def complaint_rows(found: Summary) -> list[dict[str, object]]:
    """Return one row for everything that waits for a person."""
    return [
        {
            "kind": each.kind,
            "id": each.id,
            "name": each.name,
            "state": each.state,
            "since": each.since.isoformat(timespec="seconds"),
            "what happened": each.text,
        }
        for each in found.complaints
    ]


def running_rows(config: Config) -> list[dict[str, object]]:
    """Return one row for each worker that is at work."""
    return [
        {
            "worker": each.worker,
            "task": each.task,
            "route": each.route,
            "study": each.study_instance_uid,
            "stage": each.stage,
            "passes": f"{each.done} of {each.total}" if each.total else "",
        }
        for each in read_progress(config.node.data)
    ]


def study_status(config: Config, study_instance_uid: str) -> dict[str, Any]:
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
    return {
        "study": study_instance_uid,
        "state": str(stands),
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
            }
            for task in of_study
        ],
        "deliveries": [
            {
                "task": delivery.task_id,
                "to": delivery.destination,
                "object": delivery.sop_instance_uid,
                "state": str(delivery.state),
                "attempt": delivery.attempt,
                "status": "" if delivery.status is None else f"0x{delivery.status:04X}",
            }
            for task in of_study
            for delivery in outbox.of_task(engine, task.id)
        ],
    }

"""Telling destinations that a task ended without a result: silence would look like a report."""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from dicom_io.encode.kinds import BASIC_OUTCOME_KIND, OUTCOME_KIND
from dicom_io.encode.outcome import encode_basic_outcome, encode_outcome
from dicom_io.outcome import Outcome, OutcomeKind
from dicom_io.study import group_studies
from node.config import Config, Route
from node.errors import class_names
from node.ledger import instances, studies, untold
from node.ledger.engine import DBAPIError, Engine
from node.notes import header_of, owed_note
from node.origins import origin_of
from node.routing import destinations_of
from node.shares import shares_of_outcome, takers
from node.task import NewDelivery, State, Task

logger = logging.getLogger(__name__)

_KINDS: Mapping[State, OutcomeKind] = MappingProxyType(
    {
        State.REJECTED: OutcomeKind.REJECTED,
        State.PARKED: OutcomeKind.PARKED,
        State.FAILED: OutcomeKind.FAILED,
        State.QUARANTINED: OutcomeKind.FAILED,
    }
)
_BROKEN = "Read the study without it. Whoever runs the node finds the cause there."
_ADVICE: Mapping[State, str] = MappingProxyType(
    {
        State.REJECTED: "Read the study without it. Sent again with what is missing, it is "
        "analyzed anew.",
        State.PARKED: "Read the study without it. A report follows when the cause is removed at "
        "the node.",
        State.FAILED: _BROKEN,
        State.QUARANTINED: _BROKEN,
    }
)
_DAMAGED = (
    "Read the study without it. When the images have been sent again whole, the study is analyzed."
)
_FORMS = {OUTCOME_KIND: encode_outcome, BASIC_OUTCOME_KIND: encode_basic_outcome}
_NAMED_SERIES = re.compile(r"^series [0-9.]+: ")
#: What a mistake of ours is called where nobody can do anything with its details.
_MISTAKE = "the program ended with an error of its own; the node keeps the details"


def tell_next(engine: Engine, config: Config, *, software_version: str) -> bool:
    """Owe the destinations of the next untold task a document; return whether there was one.

    A task whose route is gone has no destinations any more; of a shadow nothing leaves.
    """
    task = untold.next_untold(engine)
    if task is None:
        return False
    try:
        owed = _owed(engine, config, task, software_version=software_version)
    except (OSError, DBAPIError):
        raise
    except Exception as error:  # noqa: BLE001 - one task must not keep the others untold
        owed = ()
        logger.error(  # noqa: TRY400 - a traceback may quote the data set
            "destinations cannot be told how a task ended: read pellucid status",
            extra={**_about(task, "outcome_not_made"), "error": class_names(error)[0]},
        )
    if untold.told(engine, task, owed, datetime.now(UTC)) and owed:
        logger.info("destinations are told of it", extra=_about(task, "outcome_owed"))
    return True


def outcome_of(task: Task, route: Route) -> Outcome:
    """Return in words for a radiologist how a task ended."""
    name, _, said = task.error.partition(": ")
    unsuitable = name == "UnsuitableInputError"
    damaged = name == "NonConformantError"
    # A radiologist looks at the study already; the node's own status keeps the identifier.
    reason = _NAMED_SERIES.sub("", said or task.error)
    if task.state is State.FAILED:
        reason = _MISTAKE
    return Outcome(
        kind=OutcomeKind.DAMAGED if damaged else _KINDS[task.state],
        reason="it is not what the model is meant for" if unsuitable else reason,
        criterion=reason if unsuitable else "",
        advice=_DAMAGED if damaged else _ADVICE[task.state],
        model_name=", ".join(dict.fromkeys(step.model for step in route.steps)),
    )


def _owed(
    engine: Engine, config: Config, task: Task, *, software_version: str
) -> tuple[NewDelivery, ...]:
    route = next((each for each in config.routes if each.name == task.route), None)
    if route is None:
        return ()
    receptions = studies.receptions(engine, task.study_instance_uid)
    destinations = destinations_of(route, receptions, config.peers)
    (study,) = group_studies(instances.of_study(engine, task.study_instance_uid, task.generation))
    origin = origin_of(
        task,
        route,
        config=config,
        software_version=software_version,
        inputs=(instance.sop_instance_uid for instance in study.instances),
    )
    outcome, header = outcome_of(task, route), header_of(study)
    shares = shares_of_outcome(engine, destinations)
    owed: list[NewDelivery] = []
    for kind, encode in _FORMS.items():
        document = encode(outcome, header, origin)
        # In a form that nobody is known to need it is kept: it may be refused in the other.
        owed += owed_note(document, kind, data=config.node.data, destinations=takers(kind, shares))
    return tuple(owed)


def _about(task: Task, event: str) -> dict[str, str | int]:
    return {
        "event": event,
        "task": task.id,
        "study": task.study_instance_uid,
        "route": task.route,
        "state": task.state,
    }

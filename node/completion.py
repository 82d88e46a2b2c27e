"""When a study is whole: it has been silent for as long as each of its routes asks."""

import logging
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from dicom_io.study import Study, group_studies
from node.ledger import instances, studies
from node.ledger.engine import Engine
from node.ledger.studies import Silent
from node.task import PlannedTask, Reception

logger = logging.getLogger(__name__)

#: What the routes want done with a study, given who sent it to which of our names.
Planner = Callable[[Study, Sequence[Reception]], Sequence[PlannedTask]]


def tick(
    engine: Engine, planned: Planner, now: datetime, *, quiet_seconds: float = 30.0
) -> tuple[int, ...]:
    """Complete every study that is whole; return the ids of the tasks added.

    A study is whole when nothing has arrived for as long as the most patient of its routes asks:
    one generation is completed once, for all its routes.

    Parameters
    ----------
    planned
        Pure; called again at each tick while a study waits for its most patient route.
    quiet_seconds
        How long a study must be silent before it is looked at: the least of all routes. A study
        that no route wants is complete then.
    """
    added: list[int] = []
    for silent in studies.due(engine, now - timedelta(seconds=quiet_seconds)):
        try:
            added.extend(_complete(engine, planned, silent, now))
        except Exception:
            # One study that cannot be planned must not keep the others waiting.
            logger.exception(
                "study cannot be completed, will be tried again: correct the route that fails",
                extra={"event": "completion_failed", "study": silent.study_instance_uid},
            )
    return tuple(added)


def _complete(engine: Engine, planned: Planner, silent: Silent, now: datetime) -> tuple[int, ...]:
    uid = silent.study_instance_uid
    arrived = instances.of_study(engine, uid)
    wanted = [
        task
        for study in group_studies(arrived)
        for task in planned(study, studies.receptions(engine, uid))
    ]
    patience = max((task.quiet_seconds for task in wanted), default=0.0)
    if now < silent.since + timedelta(seconds=patience):
        return ()
    added = studies.complete(engine, uid, wanted, now=now, revision=silent.revision)
    sys.audit("pellucid.completion.completed")
    return added

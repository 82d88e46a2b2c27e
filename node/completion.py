"""When a study is whole: it has been silent for as long as each of its routes asks."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine

from dicom_io.study import Study
from node.task import PlannedTask, Reception

#: What the routes want done with a study, given who sent it to which of our names.
Planner = Callable[[Study, Sequence[Reception]], Sequence[PlannedTask]]


def tick(
    engine: Engine, planned: Planner, now: datetime, *, quiet_seconds: float = 30.0
) -> tuple[int, ...]:
    """Complete every study that is whole; return the ids of the tasks added.

    Parameters
    ----------
    planned
        Pure; called again at each tick while a study waits for its most patient route.
    quiet_seconds
        How long a study must be silent before it is looked at: the least of all routes.
    """
    raise NotImplementedError

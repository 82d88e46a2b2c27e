"""What stands where: counts and complaints for the status command, the page and the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine


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
    complaints: tuple[Complaint, ...]


def summary(engine: Engine, *, limit: int = 50) -> Summary:
    """Return the counts and the newest ``limit`` complaints of each kind."""
    raise NotImplementedError

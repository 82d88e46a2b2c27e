"""Which studies are still arriving, which are whole, which must not be touched."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine

from node.task import Reception


class StudyState(StrEnum):
    """Where a study stands; everything later is derived from its tasks and deliveries."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    #: Two patients claim it: never inferred, nothing sent, until a person has decided.
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A study that is still receiving, and since when nothing has arrived for it."""

    study_instance_uid: str
    since: datetime
    #: Number of the generation that completing would open, from 1.
    generation: int
    #: Counts the arrivals; completing fails softly if it has moved on.
    revision: int


def due(engine: Engine, silent_since: datetime) -> tuple[Silent, ...]:
    """Return the receiving studies for which nothing has arrived after ``silent_since``."""
    raise NotImplementedError


def receptions(engine: Engine, study_instance_uid: str) -> tuple[Reception, ...]:
    """Return who sent instances of the study, one entry per sender and called name, newest first.

    ``at`` is the latest arrival of each.
    """
    raise NotImplementedError


def state(engine: Engine, study_instance_uid: str) -> StudyState | None:
    """Return where the study stands, or None if nothing of it ever arrived."""
    raise NotImplementedError

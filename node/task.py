"""The lives of studies, tasks and deliveries: values, states, and the only ways between."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType


class StudyState(StrEnum):
    """Where a study stands; everything later is derived from its tasks and deliveries."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    #: Two patients claim it: never inferred, nothing sent, until a person has decided.
    QUARANTINED = "quarantined"
    #: All was done with it, and its files are deleted.
    EXPIRED = "expired"


class State(StrEnum):
    """Where a task stands."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    #: The input is not what the model is for; never tried again by itself.
    REJECTED = "rejected"
    #: Waits for a person: retries used up, model or configuration missing.
    PARKED = "parked"
    #: A mistake of ours; the error keeps what is known.
    FAILED = "failed"
    #: The processes that ran it died twice while the node lived.
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


#: Every change a task can make. ``node.ledger.tasks`` has one function that changes a state.
TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    {
        (State.READY, State.RUNNING),
        (State.READY, State.CANCELLED),
        (State.RUNNING, State.READY),
        (State.RUNNING, State.DONE),
        (State.RUNNING, State.REJECTED),
        (State.RUNNING, State.PARKED),
        (State.RUNNING, State.FAILED),
        (State.RUNNING, State.QUARANTINED),
        (State.RUNNING, State.CANCELLED),
        (State.PARKED, State.READY),
        (State.FAILED, State.READY),
        (State.QUARANTINED, State.READY),
        (State.PARKED, State.CANCELLED),
        (State.FAILED, State.CANCELLED),
        (State.QUARANTINED, State.CANCELLED),
    }
)


class DeliveryState(StrEnum):
    """Where one object owed to one destination stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    #: Retries used up; a person can release it.
    PARKED = "parked"
    #: The destination said no for good.
    REFUSED = "refused"
    #: Superseded, retracted, or given up by a person before it was there: never sent.
    WITHDRAWN = "withdrawn"


class ConfirmationKind(StrEnum):
    """What a destination is asked of an object that it has taken."""

    #: Storage commitment (PS3.4 J): whether it keeps it for good.
    COMMITMENT = "commitment"
    #: Whether it lists it when it is queried.
    READBACK = "readback"


class ConfirmationState(StrEnum):
    """Where one such question stands."""

    DUE = "due"
    #: Storage commitment is answered later, maybe over another association.
    ASKED = "asked"
    CONFIRMED = "confirmed"
    #: Given up; the delivery waits for a person.
    FAILED = "failed"


class Priority(IntEnum):
    """How urgent a task is, the smallest most; ``TURNS`` says what that means in the queue."""

    STAT = 0
    URGENT = 1
    ROUTINE = 2
    OFF_PEAK = 3


#: How long a task lets those pass that are made after it and more urgent: a routine task that has
#: waited for four hours goes before an urgent one that is made now. Nothing passes a STAT.
TURNS: Mapping[Priority, timedelta] = MappingProxyType(
    {
        Priority.STAT: timedelta(days=-36500),
        Priority.URGENT: timedelta(0),
        Priority.ROUTINE: timedelta(hours=4),
        Priority.OFF_PEAK: timedelta(hours=24),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """One arrival of one instance: who sent it to which of our names, from where, and when."""

    called_ae: str
    calling_ae: str
    #: IP address of the sender.
    address: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """What a route wants done with a study: the answer of the planner given to completion."""

    route: str
    config_hash: str
    #: A value of ``Priority``; the smaller goes first.
    priority: int = Priority.ROUTINE
    #: The study must have been silent for this long before the route takes it as whole.
    quiet_seconds: float = 30.0
    #: SOP Instance UIDs that the route reads; empty means all of the study. A late image opens a
    #: new generation for this route only if it is among them.
    selected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One route on one generation of a study, as it stood when it was read from the ledger."""

    id: int
    study_instance_uid: str
    generation: int
    route: str
    config_hash: str
    priority: int
    state: State
    #: How often it has been claimed since it was last made ready by a person.
    attempt: int
    #: Fence: rises with every claim; finish and renew count only with the newest.
    token: int
    not_before: datetime
    #: Why it stands where it stands, for a person; empty if all is well.
    error: str
    #: One sentence for each explanation that was asked for, with grade and numbers; empty until
    #: it is done.
    explained: tuple[str, ...] = ()
    #: When the study became complete; results carry it as their date, so that a retry repeats it.
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """One encoded object, and one destination that it is owed to."""

    #: Name of the peer; None keeps the object without sending it (``mode = "shadow"``).
    destination: str | None
    #: Name of the result, as routes use it, or of a note; empty if nobody told.
    result: str = ""
    series_instance_uid: str = ""
    sop_class_uid: str
    sop_instance_uid: str
    #: Name and version of the model that the object is of; empty if it is of none.
    model: str = ""
    model_version: str = ""
    #: File in the store.
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedResult:
    """A result that a destination was not offered, because it is known not to take it."""

    destination: str
    #: Name of the result.
    result: str
    #: Name of the result that it gets instead; empty if nothing says the same.
    instead: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One object owed to one destination, as it stood when it was read from the ledger."""

    id: int
    task_id: int
    destination: str
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    state: DeliveryState
    #: Failed tries so far.
    attempt: int
    not_before: datetime
    #: Last C-STORE status, or None if the destination never answered.
    status: int | None
    #: Name of the result that it is, or of a note; empty where nobody asked or nobody knows.
    result: str = ""
    #: The object no longer counts, wherever it is.
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """One question about one delivered object, as it stood when it was read from the ledger."""

    delivery_id: int
    kind: ConfirmationKind
    destination: str
    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    #: Of the newest request for storage commitment; None if there was none.
    transaction_uid: str | None
    #: Questions without a good answer since the object was last sent.
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resending:
    """How an object is sent again because its destination does not have it."""

    times: int = 3
    #: Before the first time; doubled for each further one. An archive may need a while to see
    #: what it has taken, and says meanwhile that it has no such object.
    pause_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What a destination says to a request for storage commitment (PS3.4 J.3.3)."""

    transaction_uid: str
    #: SOP Instance UIDs that it keeps.
    committed: tuple[str, ...]
    #: SOP Instance UIDs that it does not keep, with the failure reason; None if none is told.
    failed: Mapping[str, int | None]

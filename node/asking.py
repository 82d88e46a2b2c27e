"""Asking a destination about what it has taken: how patiently, and what if it does not answer."""

import logging
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from node.config import Peer
from node.errors import retry_delay_seconds
from node.ledger import confirmations
from node.ledger.engine import Engine
from node.peer import Timeouts
from node.task import Confirmation, Resending

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSettings:
    """How patiently a destination is asked about what it has taken."""

    #: How long an answer to a request for storage commitment is waited for.
    answer_seconds: float = 3600.0
    #: How long the association of the request is kept open for it.
    linger_seconds: float = 2.0
    #: Questions without a good answer before the delivery waits for a person.
    questions: int = 6
    #: How often an object is looked for before it counts as lost.
    looks: int = 3
    resending: Resending = field(default_factory=Resending)
    #: Most objects in one request.
    batch: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks whom, and how patiently."""

    engine: Engine
    peer: Peer
    calling_ae: str
    settings: ConfirmSettings
    #: Pauses after a question without a good answer, the first and the longest, in seconds.
    base_seconds: float
    cap_seconds: float
    timeouts: Timeouts


def ask_again(asker: Asker, each: Confirmation, reason: str) -> None:
    """Put a question off that had no good answer; give it up after the last."""
    if each.attempt + 1 >= asker.settings.questions:
        give_up(asker, each, f"{reason}; asked {asker.settings.questions} times")
        return
    now = datetime.now(UTC)
    pause = retry_delay_seconds(
        each.attempt,
        base=asker.base_seconds,
        cap=asker.cap_seconds,
        jitter=random.random(),  # noqa: S311 - spreads retries, protects nothing
    )
    until = now + timedelta(seconds=pause)
    confirmations.postpone(asker.engine, each, reason=reason, not_before=until, now=now)
    extra = {**about(each, "question_postponed"), "reason": reason, "retry_in_s": round(pause)}
    logger.warning("not confirmed, will ask again", extra=extra)


def give_up(asker: Asker, each: Confirmation, reason: str) -> None:
    """Have a delivery that nobody can confirm wait for a person."""
    confirmations.give_up(asker.engine, each, reason=reason, now=datetime.now(UTC))
    extra = {**about(each, "delivery_parked"), "reason": reason}
    logger.error("delivered but not confirmed, waits for a person", extra=extra)


def about(each: Confirmation, event: str) -> dict[str, str | int]:
    """Return what a log line tells of a question."""
    return {
        "event": event,
        "destination": each.destination,
        "sop_instance": each.sop_instance_uid,
        "question": str(each.kind),
    }

"""After delivery: a destination is asked whether it keeps what it has taken, and what if not."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pydicom.uid import generate_uid

from node.commitment import SUCCESS, CommitmentRequest, request_commitment
from node.config import Peer
from node.errors import retry_delay_seconds
from node.ledger import confirmations
from node.ledger.engine import Engine
from node.peer import (
    AssociationLostError,
    AssociationRejectedError,
    NoContextError,
    Timeouts,
    UnreachableError,
)
from node.task import CommitmentReport, Confirmation, ConfirmationKind

logger = logging.getLogger(__name__)

#: How often an object is sent again because its destination does not have it.
RESENDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSettings:
    """How patiently a destination is asked about what it has taken."""

    #: How long an answer to a request for storage commitment is waited for.
    answer_seconds: float = 3600.0
    #: How long the association of the request is kept open for it.
    linger_seconds: float = 2.0
    #: Questions without a good answer before the delivery waits for a person.
    questions: int = 6
    #: How often an object is sent again because the destination does not have it.
    resends: int = RESENDS
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


def wanted(peer: Peer) -> tuple[ConfirmationKind, ...]:
    """Return what ``peer`` is asked of every object that it has taken."""
    return (ConfirmationKind.COMMITMENT,) if peer.commitment else ()


def confirm_due(asker: Asker) -> int:
    """Ask everything that is due now and return of how many objects that was."""
    for each in confirmations.unanswered(asker.engine, asker.peer.name, _now()):
        _postpone(asker, each, f"{asker.peer.name} never said whether it keeps it")
    due = confirmations.due(
        asker.engine,
        asker.peer.name,
        ConfirmationKind.COMMITMENT,
        _now(),
        limit=asker.settings.batch,
    )
    if due:
        _ask_commitment(asker, due)
    return len(due)


def _ask_commitment(asker: Asker, due: Sequence[Confirmation]) -> None:
    transaction_uid = str(generate_uid(prefix=None))
    now, peer = _now(), asker.peer
    until = now + timedelta(seconds=asker.settings.answer_seconds)
    request = CommitmentRequest(
        transaction_uid=transaction_uid,
        objects=tuple(due),
        linger_seconds=asker.settings.linger_seconds,
    )
    confirmations.asked(asker.engine, due, transaction_uid, until=until, now=now)

    def on_report(report: CommitmentReport) -> bool:
        return record_report(asker.engine, peer.name, report, resends=asker.settings.resends)

    try:
        status = request_commitment(
            peer,
            request,
            calling_ae=asker.calling_ae,
            timeouts=asker.timeouts,
            on_report=on_report,
        )
    except (AssociationRejectedError, NoContextError) as error:
        for each in due:
            words = f"whether it is kept cannot be asked: {error}"
            _give_up(asker, _with(each, transaction_uid), words)
        return
    except (UnreachableError, AssociationLostError) as error:
        reason = str(error)
    else:
        if status == SUCCESS:
            return
        reason = f"{peer.name} does not take the request for commitment (0x{status:04X})"
    for each in due:
        _postpone(asker, _with(each, transaction_uid), reason)


def record_report(engine: Engine, name: str, report: CommitmentReport, *, resends: int) -> bool:
    """Record what a destination says of its commitment; False if it was not asked."""
    known = confirmations.answered(engine, name, report, resends=resends, now=_now())
    extra = {
        "event": "commitment_report",
        "destination": name,
        "transaction": report.transaction_uid,
        "committed": len(report.committed),
        "failed": len(report.failed),
    }
    if not known:
        logger.warning("commitment reported that was never asked for", extra=extra)
    elif report.failed:
        logger.warning("not everything is kept there", extra=extra)
    else:
        logger.info("kept there for good", extra=extra)
    return known


def _postpone(asker: Asker, each: Confirmation, reason: str) -> None:
    if each.attempt + 1 >= asker.settings.questions:
        _give_up(asker, each, f"{reason}; asked {asker.settings.questions} times")
        return
    now = _now()
    pause = retry_delay_seconds(
        each.attempt,
        base=asker.base_seconds,
        cap=asker.cap_seconds,
        jitter=random.random(),  # noqa: S311 - spreads retries, protects nothing
    )
    until = now + timedelta(seconds=pause)
    confirmations.postpone(asker.engine, each, reason=reason, not_before=until, now=now)
    extra = {**_about(each, "question_postponed"), "reason": reason, "retry_in_s": round(pause)}
    logger.warning("not confirmed, will ask again", extra=extra)


def _give_up(asker: Asker, each: Confirmation, reason: str) -> None:
    confirmations.give_up(asker.engine, each, reason=reason, now=_now())
    extra = {**_about(each, "delivery_parked"), "reason": reason}
    logger.error("delivered but not confirmed, waits for a person", extra=extra)


def _with(each: Confirmation, transaction_uid: str) -> Confirmation:
    return replace(each, transaction_uid=transaction_uid)


def _about(each: Confirmation, event: str) -> dict[str, str | int]:
    return {
        "event": event,
        "destination": each.destination,
        "sop_instance": each.sop_instance_uid,
        "question": str(each.kind),
    }


def _now() -> datetime:
    return datetime.now(UTC)

"""After delivery: a destination is asked whether it keeps what it has taken, and what if not."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydicom.uid import generate_uid

from node.asking import Asker, ask_again, give_up
from node.commitment import SUCCESS, CommitmentRequest, request_commitment
from node.config import Peer
from node.ledger import confirmations
from node.ledger.engine import Engine
from node.peer import (
    AssociationLostError,
    AssociationRejectedError,
    NoContextError,
    UnreachableError,
)
from node.readback import read_back_due
from node.task import CommitmentReport, Confirmation, ConfirmationKind, Resending

logger = logging.getLogger(__name__)


def wanted(peer: Peer) -> tuple[ConfirmationKind, ...]:
    """Return what ``peer`` is asked of every object that it has taken."""
    asked = {
        ConfirmationKind.COMMITMENT: peer.commitment,
        ConfirmationKind.READBACK: peer.readback,
    }
    return tuple(kind for kind, want in asked.items() if want)


def confirm_due(asker: Asker) -> None:
    """Ask everything that is due now."""
    kinds = wanted(asker.peer)
    if ConfirmationKind.COMMITMENT in kinds:
        _commitment_due(asker)
    if ConfirmationKind.READBACK in kinds:
        read_back_due(asker)


def _commitment_due(asker: Asker) -> None:
    for each in confirmations.unanswered(asker.engine, asker.peer.name, _now()):
        ask_again(asker, each, f"{asker.peer.name} never said whether it keeps it")
    due = confirmations.due(
        asker.engine,
        asker.peer.name,
        ConfirmationKind.COMMITMENT,
        _now(),
        limit=asker.settings.batch,
    )
    if due:
        _ask_commitment(asker, due)


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
        return record_report(asker.engine, peer.name, report, resending=asker.settings.resending)

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
            give_up(asker, _with(each, transaction_uid), words)
        return
    except (UnreachableError, AssociationLostError) as error:
        reason = str(error)
    else:
        if status == SUCCESS:
            return
        reason = f"{peer.name} does not take the request for commitment (0x{status:04X})"
    for each in due:
        ask_again(asker, _with(each, transaction_uid), reason)


def record_report(
    engine: Engine, name: str, report: CommitmentReport, *, resending: Resending
) -> bool:
    """Record what a destination says of its commitment; False if it was not asked."""
    known = confirmations.answered(engine, name, report, resending=resending, now=_now())
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


def _with(each: Confirmation, transaction_uid: str) -> Confirmation:
    return replace(each, transaction_uid=transaction_uid)


def _now() -> datetime:
    return datetime.now(UTC)

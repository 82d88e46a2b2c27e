"""Withdrawing what was sent: whoever has an object that no longer counts gets a rejection note."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import Dataset

from dicom_io.codes import REJECTED_FOR_QUALITY
from dicom_io.encode.key_objects import Rejection, encode_rejection
from dicom_io.encode.kinds import REJECTION_KIND
from dicom_io.encode.study_header import read_study_header
from dicom_io.header import parse_file, quiet_parser
from dicom_io.origin import Origin, Predecessor
from dicom_io.own import read_own
from node.config import Config
from node.ledger import retention, withdrawals
from node.ledger.engine import Engine
from node.ledger.withdrawals import Made, Withdrawal
from node.notes import owed_note
from node.task import NewDelivery, Task

logger = logging.getLogger(__name__)

#: Documents (PS3.3 A.35) that a later one can name as its predecessors; selections are none.
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.88."
_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_REPLACED = Rejection(
    title=REJECTED_FOR_QUALITY, words="Replaced by a later result on the same study."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why objects are withdrawn."""

    #: As the note says it.
    rejection: Rejection
    #: As the ledger keeps it, in words.
    reason: str
    #: Who decided.
    actor: str


def predecessors(engine: Engine, task: Task) -> tuple[Predecessor, ...]:
    """Return the documents that a task's own will take the place of, wherever one of them is."""
    return tuple(
        _reference(each)
        for each in withdrawals.made_before(engine, task)
        if each.sop_class_uid.startswith(_DOCUMENTS) and each.sop_class_uid != _SELECTION
        if each.delivered_to or each.waiting_for
    )


def withdraw_next_superseded(engine: Engine, config: Config, *, software_version: str) -> bool:
    """Withdraw what a later result has taken the place of; return whether there was something."""
    task = withdrawals.next_superseded(engine)
    if task is None:
        return False
    successor = withdrawals.successor_of(engine, task)
    objects = () if successor is None else withdrawals.superseded_objects(engine, task, successor)
    if successor is None or not objects:
        withdrawals.settle(engine, task)
        return True
    why = Why(rejection=_REPLACED, reason=f"superseded by task {successor.id}", actor="worker")
    if withdraw(engine, config, objects, successor, why=why, software_version=software_version):
        extra = {
            "event": "objects_withdrawn",
            "task": task.id,
            "study": task.study_instance_uid,
            "objects": len(objects),
        }
        logger.info("superseded objects are withdrawn", extra=extra)
    return True


def withdraw(
    engine: Engine,
    config: Config,
    objects: Sequence[Made],
    task: Task,
    *,
    why: Why,
    software_version: str,
) -> bool:
    """Withdraw objects of one study; False if one of them was delivered meanwhile: look again.

    What is still on its way is never sent; those that have one of the objects are owed a note.

    Parameters
    ----------
    task
        The note goes out after what this task owes.

    Raises
    ------
    EncodingError, DicomInputError
        The note cannot be made: nothing is withdrawn.
    """
    there = [each for each in objects if each.delivered_to]
    note: tuple[NewDelivery, ...] = ()
    if there:
        origin = _origin(config, task, software_version)
        header = _header(engine, there)
        references = [_reference(each) for each in there]
        document = encode_rejection(references, header, origin=origin, reason=why.rejection)
        destinations = dict.fromkeys(name for each in there for name in each.delivered_to)
        note = owed_note(document, REJECTION_KIND, data=config.node.data, destinations=destinations)
    withdrawal = Withdrawal(
        objects=tuple(objects), note=note, task_id=task.id, reason=why.reason, actor=why.actor
    )
    return withdrawals.withdraw(engine, withdrawal, datetime.now(UTC))


def _header(engine: Engine, there: Sequence[Made]) -> Dataset:
    """Return patient and study of our own objects, which are those of their source, unchanged."""
    first = next((each.path for each in there if each.path.exists()), None)
    kept = retention.header_of(engine, there[0].study_instance_uid)
    if first is None and kept is not None:
        return read_study_header(kept)
    with quiet_parser():
        return parse_file(first or there[0].path, pixels=False)


def _reference(made: Made) -> Predecessor:
    """Return how another object refers to one of ours; its file is asked where nobody noted it."""
    if not made.series_instance_uid:
        return read_own(made.path).reference
    return Predecessor(
        study_instance_uid=made.study_instance_uid,
        series_instance_uid=made.series_instance_uid,
        sop_class_uid=made.sop_class_uid,
        sop_instance_uid=made.sop_instance_uid,
    )


def _origin(config: Config, task: Task, software_version: str) -> Origin:
    """Return the origin of a note, by the ledger alone: its route may be gone."""
    return Origin(
        study_instance_uid=task.study_instance_uid,
        generation=task.generation,
        input_sop_instance_uids=(),
        route=task.route,
        config_hash=task.config_hash,
        created=datetime.now(UTC),
        site=config.site,
        software_version=software_version,
    )

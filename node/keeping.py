"""One instance that has landed, until it is examined, durable and answered for."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_io.errors import DamagedFileError
from dicom_io.header import identify
from dicom_io.part10 import data_set_start
from dicom_io.pixel_hash import pixels_sha256
from dicom_io.structure import (
    Structure,
    StructureError,
    read_structure,
    without_character_set,
)
from dicom_io.study import Instance
from node.arrival import is_uid
from node.landed import Landed
from node.landing import Landing, write_about
from node.ledger.instances import Added, Arrived
from node.places import path_of
from node.refusal import (
    CANNOT_UNDERSTAND,
    DATA_SET_MISMATCH,
    INVALID_SOP_INSTANCE,
    refused,
    refused_for,
)
from node.slots import Slots
from node.steps import Steps
from node.unkept import Unkept

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
#: Stored, although the data set is not what its SOP class asks for (PS3.4 Table B.2-1).
KEPT_AS_IT_IS = 0xB007


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How what has landed is kept."""

    #: The data folder, which holds the store.
    data: Path
    #: Our Device UID: what carries it comes from here.
    device_uid: str
    #: Refuse what contradicts itself; if not, it is kept and marked where it still says whose and
    #: which it is.
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An instance that is durable, and not in its place or in the ledger yet."""

    landed: Landed
    arrived: Arrived
    #: To be closed.
    unkept: Unkept
    #: A start would find it, and the ledger will take it unless it is out of order: its sender
    #: may be told.
    is_safe: bool


def taking(
    landed: Landed, about: bytes, how: Keeping, slots: Slots, landing: Landing | None = None
) -> Steps[Taken | int]:
    """Return it when it is durable, or the status that refuses it; never raises.

    Nothing stays of what is refused.

    Parameters
    ----------
    about
        What a start must know of it; see ``as_message``.
    slots
        Where its content lies, if it is in memory; not read any more when this has ended.
    landing
        Where what is in memory lands, if its sender may be told of it then.
    """
    slot = landed.part.slot
    memory = None if slot is None else slots.content(slot)
    try:
        with ExitStack() as stack:
            unkept = stack.enter_context(Unkept(how.data, landed.part, memory))
            sys.audit("pellucid.receive.arrived")
            arrived = examined(landed, unkept, how)
            if isinstance(arrived, int):
                return arrived
            spare = None
            if landing is not None and memory is not None and _is_plain(arrived):
                spare = landing.take()
            if spare is not None:
                unkept.land_in(spare)
                write_about(spare.descriptor, about)
            yield from unkept.landing()
            stack.pop_all()
    except Exception as error:  # noqa: BLE001 (an entry point: nothing above it decides)
        return refused_for(error, landed.reception)
    return Taken(landed=landed, arrived=arrived, unkept=unkept, is_safe=spare is not None)


def examined(landed: Landed, unkept: Unkept, how: Keeping) -> Arrived | int:
    """Return what it is, or the status that refuses it.

    Raises
    ------
    DicomInputError
        It is damaged.
    """
    with unkept.content() as content, content[data_set_start(content) :] as data_set:
        structure, wrong = _walked(data_set, landed.transfer_syntax_uid, strict=how.strict)
    status = _identity_status(structure, landed)
    if status != SUCCESS:
        unread = wrong and status == CANNOT_UNDERSTAND
        return refused(status, wrong if unread else "identity", landed.reception)
    path = path_of(how.data, landed.part.digest)
    return Arrived(
        instance=_identified(structure, landed, path, wrong, strict=how.strict),
        reception=landed.reception,
        digest=landed.part.digest,
        pixels_sha256=pixels_sha256,
        is_ours=how.device_uid in structure.device_uids,
    )


def concluded(landed: Landed, arrived: Arrived, meaning: Added | Exception) -> int:
    """Return the status, from what the ledger has made of it: a success only if it is there."""
    if isinstance(meaning, Exception):
        return refused_for(meaning, landed.reception)
    instance = arrived.instance
    if meaning is Added.CONFLICT:
        logger.error(
            "two patients or studies under one UID: the study is quarantined, correct it at "
            "its source",
            extra={"event": "conflict", "study": instance.study_instance_uid},
        )
    if not instance.nonconformance:
        return SUCCESS
    _tell_nonconformance(landed, instance, meaning)
    return KEPT_AS_IT_IS


def _walked(data_set: memoryview, syntax: str, *, strict: bool) -> tuple[Structure, str]:
    """Return what a data set holds, and what is wrong with it, which a strict node refuses."""
    try:
        return read_structure(data_set, syntax), ""
    except StructureError as error:
        if strict or error.found is None:
            raise
        return error.found, str(error)


def _identity_status(structure: Structure, landed: Landed) -> int:
    uids = structure.uids
    if not all(uids.values()):
        return CANNOT_UNDERSTAND
    if not all(map(is_uid, uids.values())):
        return INVALID_SOP_INSTANCE
    announced = (landed.sop_class_uid, landed.sop_instance_uid)
    if (uids["SOPClassUID"], uids["SOPInstanceUID"]) != announced:
        return DATA_SET_MISMATCH
    return SUCCESS


def _identified(
    structure: Structure, landed: Landed, path: Path, wrong: str, *, strict: bool
) -> Instance:
    """Return what it is, with what is wrong with it."""
    syntax = landed.transfer_syntax_uid
    try:
        instance = identify(structure, transfer_syntax_uid=syntax, path=path)
    except DamagedFileError as error:
        if strict:
            raise
        # Of a text that is no ASCII it can then be seen that it cannot be read.
        plain = without_character_set(structure)
        instance = identify(plain, transfer_syntax_uid=syntax, path=path)
        wrong = wrong or str(error)
    return replace(instance, nonconformance=wrong) if wrong else instance


def _is_plain(arrived: Arrived) -> bool:
    """Return whether a ledger in a file takes it for certain, and nothing is to be told of it."""
    instance, reception = arrived.instance, arrived.reception
    values = (
        reception.called_ae,
        reception.calling_ae,
        instance.patient_id,
        *instance.tags.values(),
    )
    # What is not printable may be no Unicode; of spaces Python takes one alone for printable.
    is_text = "".join(values).replace("\u3000", "").isprintable()
    return is_text and not instance.nonconformance


def _tell_nonconformance(landed: Landed, instance: Instance, meaning: Added) -> None:
    logger.warning(
        "instance does not conform: it is kept and no route runs on it; have its sender mend "
        "it and send it again",
        extra={
            "event": "instance_nonconformant",
            "study": instance.study_instance_uid,
            "instance": instance.sop_instance_uid,
            "reason": instance.nonconformance,
            "meaning": meaning,
            "calling_ae": landed.reception.calling_ae,
        },
    )

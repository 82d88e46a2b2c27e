"""Objects from the inference child's folder into the store, and whom each is owed to."""

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from dicom_io.encode.kinds import KINDS
from dicom_io.errors import EncodingError
from dicom_io.header import read_header
from dicom_io.own import read_own
from dicom_io.study import Study
from node import store
from node.order import Result
from node.profiles import Share
from node.shares import takers
from node.task import NewDelivery


def hand_over(
    result: Result, folder: Path, study: Study, *, data: Path, shares: Mapping[str, Share]
) -> tuple[NewDelivery, ...]:
    """Take the files that a child has written into the store, and return what is owed to whom.

    Parameters
    ----------
    folder
        The task's own: the child may name no other file.
    data
        The node's data folder, of which the store is a part.
    shares
        By destination; for an object that is in nobody's share, and for a shadow, the delivery has
        no destination.

    Raises
    ------
    EncodingError
        A file is not the child's own, is of another study or patient than the source, or is not
        what it is called.
    """
    made: list[NewDelivery] = []
    for file, name in zip_longest(result.files, result.results, fillvalue=""):
        made += _owed(Path(file), name, folder, study, data=data, shares=shares)
    return tuple(made)


def _owed(
    file: Path,
    result: str,
    folder: Path,
    study: Study,
    *,
    data: Path,
    shares: Mapping[str, Share],
) -> list[NewDelivery]:
    _require_own(file, folder)
    header = read_header(file)
    _require_same_patient(header.study_instance_uid, header.patient_id, study)
    _require_kind(result, header.sop_class_uid)
    own = read_own(file)
    kept = store.keep(data, file)
    sys.audit("pellucid.handover.kept")
    destinations: Sequence[str | None] = takers(result, shares) or (None,)
    return [
        NewDelivery(
            destination=destination,
            result=result,
            series_instance_uid=header.series_instance_uid,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            model=own.model_name,
            model_version=own.model_version,
            path=kept.path,
        )
        for destination in destinations
    ]


def _require_own(file: Path, folder: Path) -> None:
    """Refuse a result that is not a plain file in the task's own folder."""
    if file.parent != folder or file.is_symlink() or not file.is_file():
        raise EncodingError(f"the inference child named {file.name}, which is not its own file")


def _require_same_patient(study_instance_uid: str, patient_id: str, study: Study) -> None:
    """Refuse a result that speaks of another study or patient than its source."""
    if study_instance_uid != study.study_instance_uid:
        raise EncodingError(
            f"result of study {study.study_instance_uid} names study {study_instance_uid}"
        )
    if patient_id not in {instance.patient_id for instance in study.instances}:
        raise EncodingError(
            f"result of study {study.study_instance_uid} names another patient than its source"
        )


def _require_kind(result: str, sop_class_uid: str) -> None:
    """Refuse an object whose SOP class its destinations were not asked about."""
    expected = KINDS.get(result)
    if expected is not None and sop_class_uid not in expected:
        raise EncodingError(
            f"result {result!r} is of SOP class {sop_class_uid}, expected {' or '.join(expected)}"
        )

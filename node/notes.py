"""Documents of the node itself, about a task or about other objects: checked, stored, owed."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from pydicom import Dataset

from dicom_io.check import require_valid
from dicom_io.encode.study_header import tagged_header
from dicom_io.header import parse_file, quiet_parser
from dicom_io.sop_classes import image_kind
from dicom_io.study import Study
from node import store
from node.task import NewDelivery


def header_of(study: Study) -> Dataset:
    """Return the header of one image of a study: patient and study are the same in all.

    Raises
    ------
    DicomInputError
        Its file cannot be read.
    """
    whole = [one for one in study.instances if not one.nonconformance]
    if not whole:
        # A file that contradicts itself is opened by no parser, here as elsewhere.
        return tagged_header(study.instances[0].tags)
    images = [one for one in whole if image_kind(one.sop_class_uid) is not None]
    chosen = min(images or whole, key=lambda one: one.sop_instance_uid)
    with quiet_parser():
        return parse_file(chosen.path, pixels=False)


def owed_note(
    document: Dataset, kind: str, *, data: Path, destinations: Iterable[str]
) -> tuple[NewDelivery, ...]:
    """Take a document into the store and return to whom it is owed; to nobody, it is kept.

    Raises
    ------
    EncodingError
        The document does not pass its check.
    """
    require_valid(document)
    file = BytesIO()
    document.save_as(file, enforce_file_format=True)
    kept = store.write_durably(data, file.getvalue())
    return tuple(
        NewDelivery(
            destination=destination,
            result=kind,
            series_instance_uid=str(document.SeriesInstanceUID),
            sop_class_uid=str(document.SOPClassUID),
            sop_instance_uid=str(document.SOPInstanceUID),
            path=kept.path,
        )
        for destination in (*destinations,) or (None,)
    )

"""One stored instance, whole: its data set with pixels, or a named error."""

from pydicom import Dataset

from dicom_io.errors import InvalidValueError, TruncatedPixelsError
from dicom_io.header import PARSE_ERRORS, parse_file
from dicom_io.study import Instance
from dicom_io.values import text

#: Groups that place and describe pixels: frame of reference, image, functional groups, pixels.
_READ_GROUPS = frozenset((0x0020, 0x0028, 0x5200, 0x7FE0))


def load_instance(instance: Instance) -> Dataset:
    """Return the data set of an instance, pixels included, with its file meta.

    Raises
    ------
    NotDicomError, DamagedFileError
        If the file is not DICOM, or cannot be parsed.
    TruncatedPixelsError
        If the file ends within an element.
    InvalidValueError
        If the file holds another instance by now, or an attribute of its pixels or their place
        cannot be parsed.
    """
    uid = instance.sop_instance_uid
    dataset = parse_file(instance.path, pixels=True)
    if len(dataset) == 0:
        # What pydicom makes of a file that ends within an element of undefined length.
        raise TruncatedPixelsError(
            f"instance {uid}: its file ends within an element; send the instance again"
        )
    if text(dataset, "SOPInstanceUID") != uid:
        raise InvalidValueError(
            f"instance {uid}: its file now holds {text(dataset, 'SOPInstanceUID')}"
        )
    _require_parsable(dataset, uid)
    return dataset


def _require_parsable(dataset: Dataset, uid: str) -> None:
    # pydicom parses an element when it is first read: now, while errors are expected.
    for tag in dataset.keys():  # noqa: SIM118 - a data set iterates over converted elements
        if tag.group not in _READ_GROUPS:
            continue
        try:
            dataset[tag]
        except PARSE_ERRORS as error:
            raise InvalidValueError(
                f"instance {uid}: element {tag} cannot be parsed: {type(error).__name__}"
            ) from error

"""One stored instance, whole: its data set with pixels, or a named error."""

from pydicom import Dataset, dcmread

from dicom_io.errors import InvalidValueError, NotDicomError, TruncatedPixelsError
from dicom_io.header import PARSE_ERRORS
from dicom_io.study import Instance
from dicom_io.values import text


def load_instance(instance: Instance) -> Dataset:
    """Return the data set of an instance, pixels included, with its file meta.

    Raises
    ------
    NotDicomError
        If the file cannot be parsed.
    TruncatedPixelsError
        If the file ends within an element.
    InvalidValueError
        If the file holds another instance by now.
    """
    uid = instance.sop_instance_uid
    try:
        dataset = dcmread(instance.path)
    except PARSE_ERRORS as error:
        raise NotDicomError(
            f"instance {uid}: its file cannot be parsed as DICOM (PS3.10): {type(error).__name__}"
        ) from error
    if len(dataset) == 0:
        # What pydicom makes of a file that ends within an element of undefined length.
        raise TruncatedPixelsError(
            f"instance {uid}: its file ends within an element; send the instance again"
        )
    if text(dataset, "SOPInstanceUID") != uid:
        raise InvalidValueError(
            f"instance {uid}: its file now holds {text(dataset, 'SOPInstanceUID')}"
        )
    return dataset

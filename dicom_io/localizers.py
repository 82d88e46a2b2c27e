"""Localizers (scouts): where they stand in for an image, they are refused."""

from collections.abc import Sequence

from pydicom import Dataset

from dicom_io.errors import LocalizerError
from dicom_io.values import text, texts


def refuse_localizers(headers: Sequence[Dataset], series_uid: str) -> None:
    """Refuse instances that Image Type calls localizers, unless they are slices among themselves.

    Raises
    ------
    LocalizerError
        If localizers are mixed with other slices, or are of CT: projections along the table,
        whose values are no HU (PS3.3 C.8.2.1.1.1). MR localizers are slices.
    """
    localizers = [header for header in headers if "LOCALIZER" in texts(header, "ImageType")]
    if localizers and len(localizers) < len(headers):
        raise LocalizerError(
            f"series {series_uid} mixes {len(localizers)} localizers, such as "
            f"{localizers[0].SOPInstanceUID}, with {len(headers) - len(localizers)} other "
            'slices; exclude them by ImageType = ["!LOCALIZER"]'
        )
    if localizers and text(localizers[0], "Modality") == "CT":
        raise LocalizerError(
            f"series {series_uid} holds CT localizers ({localizers[0].SOPInstanceUID}): "
            "projections, whose values are no HU of a slice"
        )

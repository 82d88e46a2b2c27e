"""An object of ours, read back from its file: which one it is, and which model it is of."""

from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from dicom_io.header import parse_file, quiet_parser
from dicom_io.origin import Predecessor


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnObject:
    """One stored object of ours."""

    reference: Predecessor
    #: Empty for an object that is of no model.
    model_name: str = ""
    model_version: str = ""


def read_own(path: Path) -> OwnObject:
    """Return what an object of ours says of itself.

    Raises
    ------
    NotDicomError, DamagedFileError
        The file cannot be read.

    Notes
    -----
    The model is the contributing equipment (PS3.3 C.12.1.5) after the node itself.
    """
    with quiet_parser():
        dataset = parse_file(path, pixels=False)
        name, version = _model(dataset)
        return OwnObject(
            reference=Predecessor(
                study_instance_uid=str(dataset.StudyInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
            ),
            model_name=name,
            model_version=version,
        )


def _model(dataset: Dataset) -> tuple[str, str]:
    contributors = list(dataset.get("ContributingEquipmentSequence") or [])[1:]
    if not contributors:
        return "", ""
    versions = contributors[0].get("SoftwareVersions", "")
    version = versions if isinstance(versions, str) else next(iter(versions), "")
    return str(contributors[0].get("ManufacturerModelName", "")), str(version)

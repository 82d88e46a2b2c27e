"""A folder of truths: which file belongs to which image, and what it says of it."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from dicom_io.errors import DicomInputError, NotDicomError, TruthError
from dicom_io.header import parse_file, quiet_parser
from dicom_io.study import Series
from dicom_io.truth import report, segmentation
from dicom_io.truth.nifti import read_nifti
from dicom_io.truth.regions import Region
from dicom_io.truth.report import referenced_segmentations
from dicom_io.volume import Volume

#: Beside the masks: which case has which label, for what needs no place.
TABLE = "truth.csv"
_NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthFile:
    """One file of a truth folder, and what it says of whose it is."""

    path: Path
    #: Name without ``.nii.gz``: of a NIfTI the UID, or the folder, of its series; else empty.
    stem: str = ""
    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    study_instance_uid: str = ""
    patient_id: str = ""
    #: Series and instances that it refers to.
    refers_to: frozenset[str] = frozenset()

    @property
    def is_nifti(self) -> bool:
        """Whether it is a NIfTI file, which knows no identity but its name."""
        return bool(self.stem)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthFolder:
    """All that a folder says to be true."""

    files: tuple[TruthFile, ...] = ()
    #: Name of a case to label to whether it is there, of the table.
    table: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    #: Files that could not be read, one sentence each.
    refused: tuple[str, ...] = ()


def read_truth_folder(folder: Path) -> TruthFolder:
    """Return what a folder and all below it hold: SEG, SR, NIfTI and the table of labels.

    Raises
    ------
    TruthError
        If the table cannot be read as case, label and 0 or 1.
    """
    files, refused = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found = _truth_file(path)
        except DicomInputError as error:
            refused.append(str(error))
            continue
        if found is not None:
            files.append(found)
    table = folder / TABLE
    return TruthFolder(
        files=tuple(files),
        table=_table(table) if table.exists() else {},
        refused=tuple(refused),
    )


def files_of(series: Series, truths: TruthFolder) -> tuple[TruthFile, ...]:
    """Return the files that are about a series: by what they refer to, or by their name."""
    uids = {series.series_instance_uid} | {i.sop_instance_uid for i in series.instances}
    names = set(names_of(series))
    return tuple(
        each
        for each in truths.files
        if each.stem in names or each.refers_to & uids or _is_of_study(each, series)
    )


def names_of(series: Series) -> tuple[str, ...]:
    """Return what a NIfTI file or a line of the table may call a series."""
    parents = {instance.path.parent.name for instance in series.instances}
    folder = (parents.pop(),) if len(parents) == 1 else ()
    return (series.series_instance_uid, series.instances[0].study_instance_uid, *folder)


def labels_of(series: Series, truths: TruthFolder) -> dict[str, bool]:
    """Return which labels the table says to be there, or not, in a series."""
    found: dict[str, bool] = {}
    for name in names_of(series):
        found |= truths.table.get(name, {})
    return found


def read_truth(
    files: Sequence[TruthFile], series: Series, volume: Volume, truths: TruthFolder
) -> tuple[Region, ...]:
    """Return every region that the files of a series hold, on its grid.

    Parameters
    ----------
    files
        As ``files_of`` found them.
    truths
        The folder, where a report's segmentations are looked up.

    Raises
    ------
    TruthError
        If a file names another patient or study, or does not lie on the image's grid.
    DicomInputError
        If a file cannot be parsed.
    """
    regions: list[Region] = []
    with quiet_parser():
        for each in files:
            require_own(each, series)
            if each.is_nifti:
                regions += read_nifti(each.path, volume)
            elif each.sop_class_uid in segmentation.SOP_CLASSES:
                dataset = parse_file(each.path, pixels=True)
                regions += segmentation.read_segmentation(dataset, volume)
            else:
                document = parse_file(each.path, pixels=True)
                known = _segmentations(document, truths)
                regions += report.read_report(document, volume, known)
    return tuple(regions)


def require_own(file: TruthFile, series: Series) -> None:
    """Refuse a truth of another patient or study than the series that it refers to.

    Raises
    ------
    TruthError
        If it is one.
    """
    first = series.instances[0]
    if file.is_nifti:
        return
    if file.patient_id != first.patient_id:
        raise TruthError(
            f"{file.path.name} refers to series {series.series_instance_uid}, but names another "
            "patient than the images do"
        )
    if file.study_instance_uid != first.study_instance_uid:
        raise TruthError(
            f"{file.path.name} refers to series {series.series_instance_uid} of study "
            f"{first.study_instance_uid}, but belongs to study {file.study_instance_uid}"
        )


def _is_of_study(file: TruthFile, series: Series) -> bool:
    """Whether a file that names no series at all belongs to the series' study."""
    study = series.instances[0].study_instance_uid
    return not file.is_nifti and not file.refers_to and file.study_instance_uid == study


def _truth_file(path: Path) -> TruthFile | None:
    """Return what a file is the truth of; None if it is none."""
    for ending in _NIFTI:
        if path.name.endswith(ending):
            return TruthFile(path=path, stem=path.name.removesuffix(ending))
    try:
        with quiet_parser():
            dataset = parse_file(path, pixels=False)
    except NotDicomError:
        return None
    kind = str(dataset.get("SOPClassUID", ""))
    if kind not in segmentation.SOP_CLASSES | report.SOP_CLASSES:
        return None
    return TruthFile(
        path=path,
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        sop_class_uid=kind,
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        patient_id=str(dataset.get("PatientID") or "").strip(),
        refers_to=frozenset(_references(dataset)),
    )


def _references(dataset: Dataset) -> Iterator[str]:
    """Yield the series and instances that a SEG or the evidence of an SR names."""
    studies = [
        study
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in dataset.get(keyword) or ()
    ]
    for holder in (dataset, *studies):
        for series in holder.get("ReferencedSeriesSequence") or ():
            yield str(series.SeriesInstanceUID)
            for keyword in ("ReferencedInstanceSequence", "ReferencedSOPSequence"):
                for instance in series.get(keyword) or ():
                    yield str(instance.ReferencedSOPInstanceUID)


def _segmentations(document: Dataset, truths: TruthFolder) -> dict[str, Dataset]:
    wanted = referenced_segmentations(document)
    return {
        each.sop_instance_uid: parse_file(each.path, pixels=True)
        for each in truths.files
        if each.sop_instance_uid in wanted
    }


def _table(path: Path) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.reader(stream), start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (number == 1 and cells[-1] not in {"0", "1"}):
                continue
            if len(cells) != 3 or cells[2] not in {"0", "1"}:
                raise TruthError(
                    f"{path.name}, line {number}: expected case, label and 0 or 1, not "
                    f"{','.join(cells)!r}"
                )
            found.setdefault(cells[0], {})[cells[1]] = cells[2] == "1"
    return found

"""A folder of files to the studies in it, and to the one series that is meant."""

import filecmp
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_io.errors import DicomInputError, NotDicomError
from dicom_io.header import read_header
from dicom_io.select import ANY_IMAGE, matching_series
from dicom_io.study import Instance, Series, Study, group_studies
from node.commands.output import MisuseError, counted, progress_bar
from node.commands.setting import existing_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a folder holds."""

    instances: tuple[Instance, ...]
    #: Files that are no DICOM.
    other: int
    #: Why DICOM files were left out, one sentence each.
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One image series of a folder."""

    study: Study
    series: Series

    @property
    def modality(self) -> str:
        """``Modality`` of its first instance."""
        return self.series.instances[0].tags.get("Modality", "")

    def __str__(self) -> str:
        """Return a line to choose by."""
        tags = self.series.instances[0].tags
        description = tags.get("SeriesDescription", "") or "no description"
        images = counted(len(self.series.instances), "image")
        return f"{self.series.series_instance_uid}  {self.modality}, {images}, {description}"


def read_study_folder(folder: Path) -> Found:
    """Return every DICOM instance in ``folder`` and below it.

    Raises
    ------
    MisuseError
        The folder is missing, or holds no DICOM file.
    """
    paths = list(_files(existing_folder(folder)))
    instances: list[Instance] = []
    refused: list[str] = []
    other = 0
    with progress_bar() as bar:
        task = bar.add_task("reading headers", total=len(paths), detail="")
        for path in paths:
            bar.advance(task)
            try:
                instances.append(read_header(path))
            except NotDicomError:
                other += 1
            except DicomInputError as error:
                refused.append(str(error))
    if not instances:
        what = f"; {refused[0]}" if refused else ""
        files = counted(len(paths), "file")
        raise MisuseError(f"no DICOM image in {str(folder)!r}: {files} looked at{what}")
    return Found(instances=_distinct(instances), other=other, refused=tuple(refused))


def image_series(instances: Iterable[Instance]) -> tuple[Candidate, ...]:
    """Return every series of images, study by study."""
    return tuple(
        Candidate(study=study, series=series)
        for study in group_studies(instances)
        for series in matching_series(study, ANY_IMAGE)
    )


def chosen(
    candidates: Sequence[Candidate], series_uid: str | None, modalities: Sequence[str]
) -> Candidate:
    """Return the series that is meant: by its UID, or because only one suits.

    Parameters
    ----------
    modalities
        What the model is meant for; empty for anything.

    Raises
    ------
    MisuseError
        None suits, or several do: they are listed, and none is guessed.
    """
    listed = "".join(f"\n  {candidate}" for candidate in candidates)
    if series_uid is not None:
        for candidate in candidates:
            if candidate.series.series_instance_uid == series_uid:
                return candidate
        raise MisuseError(f"there is no series {series_uid} in the folder; it holds:{listed}")
    suiting = [each for each in candidates if not modalities or each.modality in modalities]
    if not suiting:
        wanted = " or ".join(modalities) or "an image"
        raise MisuseError(f"no series is {wanted}; the folder holds:{listed or ' no images'}")
    if len(suiting) > 1:
        listed = "".join(f"\n  {candidate}" for candidate in suiting)
        raise MisuseError(f"several series suit; choose one with --series UID:{listed}")
    return suiting[0]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(names))


def _distinct(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the instances without exact copies; unequal ones of one UID stay, to be refused."""
    kept: dict[str, list[Instance]] = {}
    for instance in instances:
        same = kept.setdefault(instance.sop_instance_uid, [])
        if not any(filecmp.cmp(instance.path, other.path, shallow=False) for other in same):
            same.append(instance)
    return tuple(instance for same in kept.values() for instance in same)

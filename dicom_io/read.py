"""Series to Volume: the pixels of a series as numbers in patient space, or a named error."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_io.enhanced import read_enhanced
from dicom_io.errors import (
    ConflictingPatientsError,
    DuplicateSliceError,
    MissingSeriesError,
    MixedSeriesError,
    SeveralImagesError,
    UnsupportedObjectError,
)
from dicom_io.header import quiet_parser
from dicom_io.planar import read_planar
from dicom_io.select import Selector, select_series
from dicom_io.slices import read_slices
from dicom_io.sop_classes import ImageKind, image_kind, sop_class_name
from dicom_io.study import Instance, Series, Study
from dicom_io.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One image that a task works on: its numbers, and the headers that results inherit from."""

    #: Name of the ``select`` entry that chose it.
    name: str
    volume: Volume
    #: Data sets without pixel data, one per instance, in the order of the volume's frames;
    #: type-2 attributes that the source lacks are present and empty. Never changed by encoders.
    headers: tuple[Dataset, ...]


def read_inputs(study: Study, select: Sequence[Selector]) -> tuple[Input, ...]:
    """Return one input for each ``select`` entry, in their order.

    Raises
    ------
    ConflictingPatientsError
        If the study's instances name different patients.
    MissingSeriesError, AmbiguousSelectionError, NonConformantError
        If an entry takes no series, or several, or an image that does not conform.
    DicomInputError
        As ``read_input``.
    """
    patients = {instance.patient_id for instance in study.instances}
    if len(patients) > 1:
        raise ConflictingPatientsError(
            f"study {study.study_instance_uid}: its {len(study.instances)} instances name "
            f"{len(patients)} different patients, expected 1; correct it where it was made"
        )
    return tuple(_input(study, selector) for selector in select)


def _input(study: Study, selector: Selector) -> Input:
    series = select_series(study, selector)
    if series is None:
        raise MissingSeriesError(
            f"study {study.study_instance_uid}: none of its {len(study.series)} series is what "
            f"select entry {selector.name!r} asks for"
        )
    return read_input(series, selector.name)


def read_volume(series: Series) -> Volume:
    """Return the image that a series holds; raises as ``read_input``."""
    return read_input(series, "image").volume


def read_input(series: Series, name: str) -> Input:
    """Return the image that a series holds, and its headers; each file is read once.

    Slices (CT, MR, PET), enhanced multi-frame images and stand-alone images (radiographs,
    photographs, ultrasound stills, captures) are read; values are in the modality's units
    (CT: HU). A stack's affine is exact, sheared for a tilted gantry. Stand-alone images have
    no affine; grayscale ones are larger where they show brighter, also if MONOCHROME1.

    Raises
    ------
    DicomInputError
        By name, if the series is no image, holds several, or cannot be placed on one regular
        grid without guessing; if attributes or pixels are missing or malformed.
    """
    kind = _only_kind(series)
    _require_distinct_instances(series)
    with quiet_parser():
        if kind is ImageKind.SLICE:
            volume, headers = read_slices(series)
        elif kind is ImageKind.ENHANCED:
            volume, headers = read_enhanced(_only_instance(series))
        else:
            volume, headers = read_planar(_only_instance(series))
    return Input(name=name, volume=volume, headers=headers)


def _only_kind(series: Series) -> ImageKind:
    kinds = {image_kind(instance.sop_class_uid): instance for instance in series.instances}
    refused = kinds.get(None)
    if refused is not None:
        raise UnsupportedObjectError(
            f"instance {refused.sop_instance_uid} is {sop_class_name(refused.sop_class_uid)}, "
            "which is not an image that can be analyzed"
        )
    if len({instance.sop_class_uid for instance in series.instances}) > 1:
        names = sorted({sop_class_name(i.sop_class_uid) for i in series.instances})
        raise MixedSeriesError(
            f"series {series.series_instance_uid} holds instances of {len(names)} SOP classes, "
            f"expected 1: {', '.join(names)}"
        )
    return next(kind for kind in kinds if kind is not None)


def _require_distinct_instances(series: Series) -> None:
    ((uid, times),) = Counter(i.sop_instance_uid for i in series.instances).most_common(1)
    if times > 1:
        raise DuplicateSliceError(
            f"series {series.series_instance_uid} has instance {uid} {times} times, expected once"
        )


def _only_instance(series: Series) -> Instance:
    if len(series.instances) > 1:
        raise SeveralImagesError(
            f"series {series.series_instance_uid} holds {len(series.instances)} images that are "
            "no stack, expected 1; select one of them, for example by InstanceNumber"
        )
    return series.instances[0]

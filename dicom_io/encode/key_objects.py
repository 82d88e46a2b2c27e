"""Key Object Selection: what the AI points at, and what of ours is withdrawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import (
    DEVICE,
    DEVICE_OBSERVER_NAME,
    DEVICE_OBSERVER_UID,
    KEY_OBJECT_DESCRIPTION,
    OBSERVER_TYPE,
    OF_INTEREST,
    REJECTION_TITLES,
    Code,
)
from dicom_io.encode import content
from dicom_io.encode.inherit import (
    MODEL_NAME,
    Place,
    identify_private_scheme,
    new_note,
    new_object,
    sop_reference,
)
from dicom_io.encode.released import flagged_slices
from dicom_io.encode.reliability_words import DO_NOT_RELY
from dicom_io.encode.roles import KEY_OBJECTS, REJECTION
from dicom_io.encode.words import NOT_FOR_DIAGNOSIS, finding_text, is_for_research
from dicom_io.errors import EncodingError
from dicom_io.origin import Origin, Predecessor
from dicom_io.read import Input

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.59"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Reports and presentation states are no images: a selection refers to them as to composites.
_NO_IMAGES = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why objects of ours are withdrawn."""

    #: One of ``dicom_io.codes.REJECTION_TITLES``; it decides what a PACS does with them.
    title: Code
    #: In a sentence for a radiologist: ``Replaced by the report on the complete study.``
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected:
    """One object that is pointed at."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the selection "AI flagged" (PS3.3 A.35.4, TID 2010), if there is a key image.

    It points at the source's images where most of each heatmap and outline lies, and at every
    object that was made of the analysis before, of a series of captures at those alone that show
    such an image.
    """
    slices = flagged_slices(analysis, source.volume)
    if not slices:
        return ()
    frames = [source.volume.frames[index] for index in slices]
    place = Place(
        role=KEY_OBJECTS,
        series_number=9800,
        modality="KO",
        sop_class_uid=SOP_CLASS_UID,
        description=f"flagged: {_flagged(analysis)}",
    )
    dataset = new_object(place, analysis, source, origin)
    selected = [
        _Selected(
            study_instance_uid=str(dataset.StudyInstanceUID),
            series_instance_uid=source.volume.series_instance_uid,
            sop_class_uid=frame.sop_class_uid,
            sop_instance_uid=frame.sop_instance_uid,
            frame_number=frame.frame_number,
        )
        for frame in frames
    ]
    keys = {(frame.sop_instance_uid, frame.frame_number) for frame in frames}
    selected += [_own(each) for each in produced if _is_shown(each, keys)]
    _fill(dataset, OF_INTEREST, _words(analysis, origin), selected)
    return (dataset,)


def encode_rejection(
    objects: Sequence[Predecessor], header: Dataset, *, origin: Origin, reason: Rejection
) -> Dataset:
    """Return a rejection note (PS3.3 A.35.4, TID 2010): objects of ours that are withdrawn.

    Parameters
    ----------
    objects
        What is withdrawn; all of the study of ``header``.
    header
        A header of the study, for patient and study.

    Raises
    ------
    EncodingError
        There is nothing to withdraw, an object is of another study, or the title is none of a
        rejection.
    """
    _require_one_study(objects, header)
    if reason.title not in REJECTION_TITLES:
        raise EncodingError(
            f"rejection note: {reason.title.meaning!r} rejects nothing, expected one of: "
            + ", ".join(title.meaning for title in REJECTION_TITLES)
        )
    place = Place(
        role=REJECTION,
        series_number=9900,
        modality="KO",
        sop_class_uid=SOP_CLASS_UID,
        description=f"withdrawn: {reason.title.meaning}",
    )
    uids = sorted(each.sop_instance_uid for each in objects)
    dataset = new_note(place, header, origin, subject=" ".join([reason.title.value, *uids]))
    selected = [
        _Selected(
            study_instance_uid=each.study_instance_uid,
            series_instance_uid=each.series_instance_uid,
            sop_class_uid=each.sop_class_uid,
            sop_instance_uid=each.sop_instance_uid,
        )
        for each in objects
    ]
    _fill(dataset, reason.title, f"AI results withdrawn. {reason.words}", selected)
    return dataset


def _require_one_study(objects: Sequence[Predecessor], header: Dataset) -> None:
    study = str(header.StudyInstanceUID)
    if not objects:
        raise EncodingError(f"rejection note of study {study}: there is nothing to withdraw")
    for each in objects:
        if each.study_instance_uid != study:
            raise EncodingError(
                f"rejection note of study {study}: object {each.sop_instance_uid} is of study "
                f"{each.study_instance_uid}"
            )


def _flagged(analysis: Analysis) -> str:
    present = [finding.label for finding in analysis.findings if finding.present]
    outlined = [segment.label for segment in analysis.segments if segment.mask.any()]
    return ", ".join(present or outlined) or "evidence map"


def _words(analysis: Analysis, origin: Origin) -> str:
    present = [finding_text(finding) for finding in analysis.findings if finding.present]
    outlined = [segment.label for segment in analysis.segments if segment.mask.any()]
    said = [DO_NOT_RELY] if analysis.is_strange else []
    said += [f"AI flagged by {analysis.model.name} {analysis.model.version}", *present]
    said += [f"outlined: {', '.join(outlined)}"] if outlined else []
    said += [NOT_FOR_DIAGNOSIS] if is_for_research(origin) else []
    return ". ".join(said) + "."


def _is_shown(produced: Dataset, keys: set[tuple[str, int | None]]) -> bool:
    """Return whether an object belongs beside the key images; of captures few do."""
    if produced.SOPClassUID != _SECONDARY_CAPTURE:
        return True
    source = produced.SourceImageSequence[0]
    number = source.get("ReferencedFrameNumber")
    frame = None if number is None else int(number)
    return (str(source.ReferencedSOPInstanceUID), frame) in keys


def _own(produced: Dataset) -> _Selected:
    return _Selected(
        study_instance_uid=str(produced.StudyInstanceUID),
        series_instance_uid=str(produced.SeriesInstanceUID),
        sop_class_uid=str(produced.SOPClassUID),
        sop_instance_uid=str(produced.SOPInstanceUID),
    )


def _fill(dataset: Dataset, title: Code, words: str, selected: Sequence[_Selected]) -> None:
    """Write the document (PS3.3 C.17.6.2, C.17.3)."""
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = _evidence(selected)
    items = [
        *_observer(dataset),
        content.text(KEY_OBJECT_DESCRIPTION, words, dataset),
        *(_reference(each) for each in selected),
    ]
    content.write_content(dataset, title, items, template="2010")
    identify_private_scheme(dataset)


def _observer(dataset: Dataset) -> list[Dataset]:
    """Return who selected: a device, not a person (TID 1002, TID 1004)."""
    return [
        content.code(OBSERVER_TYPE, DEVICE, dataset, content.OBSERVED),
        content.uid(DEVICE_OBSERVER_UID, dataset.DeviceUID, dataset, content.OBSERVED),
        content.text(DEVICE_OBSERVER_NAME, MODEL_NAME, dataset, content.OBSERVED),
    ]


def _reference(selected: _Selected) -> Dataset:
    image = not selected.sop_class_uid.startswith(_NO_IMAGES)
    item = Dataset()
    item.RelationshipType = content.CONTAINS
    item.ValueType = "IMAGE" if image else "COMPOSITE"
    reference = sop_reference(selected.sop_class_uid, selected.sop_instance_uid)
    if selected.frame_number is not None:
        reference.ReferencedFrameNumber = selected.frame_number
    item.ReferencedSOPSequence = [reference]
    return item


def _evidence(selected: Iterable[_Selected]) -> list[Dataset]:
    """Return the hierarchy of what is referred to (PS3.3 C.17.2.3), each instance once."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for each in selected:
        series = studies.setdefault(each.study_instance_uid, {})
        series.setdefault(each.series_instance_uid, {})[each.sop_instance_uid] = each.sop_class_uid
    items = []
    for study_uid, by_series in studies.items():
        study = Dataset()
        study.StudyInstanceUID = study_uid
        study.ReferencedSeriesSequence = []
        for series_uid, instances in by_series.items():
            item = Dataset()
            item.SeriesInstanceUID = series_uid
            item.ReferencedSOPSequence = [
                sop_reference(sop_class, uid) for uid, sop_class in instances.items()
            ]
            study.ReferencedSeriesSequence.append(item)
        items.append(study)
    return items

"""TID 1500 report: findings, volumes and measured explanations as a structured document."""

from collections.abc import Iterator

from highdicom.sr import (
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
)
from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import (
    CONCLUSION,
    DETECTION_RESULT,
    DEVICE,
    ENGLISH,
    EXPLANATION_FAILED,
    IMAGE_LIBRARY,
    IMAGE_LIBRARY_GROUP,
    IMAGING_MEASUREMENT_REPORT,
    IMAGING_MEASUREMENTS,
    IMAGING_PROCEDURE,
    INTENDED_USE,
    MODEL_NOTICE,
    PARTLY_WITH_FINDINGS,
    PARTLY_WITHOUT_FINDINGS,
    PROCEDURE_REPORTED,
    QUALITATIVE_EVALUATIONS,
    RELIABILITY,
    RESPONSIBLE_CONTACT,
    SOURCE_OF_MEASUREMENT,
    SUCCEEDED_WITH_FINDINGS,
    SUCCEEDED_WITHOUT_FINDINGS,
    USE_RESTRICTION,
    VISUAL_EXPLANATION,
    Code,
)
from dicom_io.encode.inherit import (
    MANUFACTURER,
    MODEL_NAME,
    Place,
    identify_private_scheme,
    new_object,
    sop_reference,
)
from dicom_io.encode.reliability_words import reliability_texts
from dicom_io.encode.report_groups import key_frames, measurement_groups
from dicom_io.encode.report_reliability import familiarity_groups
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import REPORT
from dicom_io.encode.words import (
    NOT_FOR_DIAGNOSIS,
    conclusion,
    explained_text,
    failure_text,
    finding_text,
    is_for_research,
)
from dicom_io.origin import Origin
from dicom_io.read import Input

#: Enhanced SR holds all that is said here, and more archives take it than Comprehensive 3D SR.
SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.22"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the report (PS3.3 A.35.2, TID 1500), also where nothing was found.

    Parameters
    ----------
    produced
        What was made of this analysis before; the report refers to its segments and heatmaps.
    """
    place = Place(
        role=REPORT,
        series_number=9000,
        modality="SR",
        sop_class_uid=SOP_CLASS_UID,
        description=_description(analysis),
    )
    dataset = new_object(place, analysis, source, origin)
    writer = Writer(
        analysis=analysis, source=source, origin=origin, produced=produced, document=dataset
    )
    root = _root(writer)
    for element in root:
        dataset[element.tag] = element
    _separate(dataset)
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(dataset, writer)]
    identify_private_scheme(dataset)
    return (dataset,)


def _description(analysis: Analysis) -> str:
    present = [finding.label for finding in analysis.findings if finding.present]
    outlined = [segment.label for segment in analysis.segments if segment.mask.any()]
    warning = "NOT RELIABLE, strange image: " if analysis.is_strange else ""
    return f"report: {warning}{', '.join(present or outlined) or 'nothing found'}"


def _root(writer: Writer) -> ContainerContentItem:
    """Return the document's content: context, key images, measurement groups, statements."""
    root = ContainerContentItem(
        name=_concept(IMAGING_MEASUREMENT_REPORT),
        is_content_continuous=False,
        template_id="1500",
    )
    content = ContentSequence()
    content.extend(LanguageOfContentItemAndDescendants(_concept(ENGLISH)))
    content.extend(_observer(writer))
    content.append(
        writer.code(PROCEDURE_REPORTED, _procedure(writer.source), relation="HAS CONCEPT MOD")
    )
    content.append(_image_library(writer))
    groups = [*measurement_groups(writer), *familiarity_groups(writer)]
    if groups:
        container = _container(IMAGING_MEASUREMENTS)
        for group in groups:
            container.ContentSequence.extend(group)
        content.append(container)
    container = _container(QUALITATIVE_EVALUATIONS)
    container.ContentSequence.extend(_statements(writer))
    content.append(container)
    root.ContentSequence = content
    return root


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def _container(name: Code) -> ContainerContentItem:
    container = ContainerContentItem(
        name=_concept(name),
        is_content_continuous=False,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    container.ContentSequence = ContentSequence()
    return container


def _observer(writer: Writer) -> ObservationContext:
    site = writer.origin.site
    device = DeviceObserverIdentifyingAttributes(
        uid=site.device_uid,
        name=site.ae_title,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=writer.text(site.device_serial_number or site.device_uid),
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=_concept(DEVICE), observer_identifying_attributes=device
        )
    )


def _procedure(source: Input) -> Code:
    for item in source.headers[0].get("ProcedureCodeSequence") or ():
        value, scheme = item.get("CodeValue"), item.get("CodingSchemeDesignator")
        if value and scheme and item.get("CodeMeaning"):
            return Code(str(value), str(scheme), str(item.CodeMeaning))
    return IMAGING_PROCEDURE


def _image_library(writer: Writer) -> ContainerContentItem:
    """Return the image library (TID 1600) of the key images alone: a library of all is slow."""
    library, group = _container(IMAGE_LIBRARY), _container(IMAGE_LIBRARY_GROUP)
    for frame in key_frames(writer.analysis, writer.source):
        group.ContentSequence.append(
            ImageContentItem(
                name=_concept(SOURCE_OF_MEASUREMENT),
                referenced_sop_class_uid=frame.sop_class_uid,
                referenced_sop_instance_uid=frame.sop_instance_uid,
                referenced_frame_numbers=frame.frame_number,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    library.ContentSequence.append(group)
    return library


def _statements(writer: Writer) -> Iterator[Dataset]:
    analysis, origin = writer.analysis, writer.origin
    yield writer.code(DETECTION_RESULT, _result(analysis))
    yield writer.words(CONCLUSION, conclusion(analysis))
    for finding in analysis.findings:
        if not finding.present:
            yield writer.words(CONCLUSION, finding_text(finding))
    for text in reliability_texts(analysis):
        yield writer.words(RELIABILITY, text)
    yield writer.words(VISUAL_EXPLANATION, explained_text(analysis))
    for failure in analysis.failures:
        yield writer.words(EXPLANATION_FAILED, failure_text(failure))
    if is_for_research(origin):
        yield writer.words(USE_RESTRICTION, NOT_FOR_DIAGNOSIS)
    for name, text in (
        (MODEL_NOTICE, analysis.model.notice),
        (INTENDED_USE, analysis.model.intended_use),
        (RESPONSIBLE_CONTACT, origin.contact),
    ):
        if text:
            yield writer.words(name, text)


def _result(analysis: Analysis) -> Code:
    """Return what CID 6047 says of it; an explainer is one of the algorithms."""
    found = any(finding.present for finding in analysis.findings) or any(
        segment.mask.any() for segment in analysis.segments
    )
    if analysis.failures:
        return PARTLY_WITH_FINDINGS if found else PARTLY_WITHOUT_FINDINGS
    return SUCCEEDED_WITH_FINDINGS if found else SUCCEEDED_WITHOUT_FINDINGS


def _evidence(dataset: Dataset, writer: Writer) -> Dataset:
    """Return the study's item of the evidence (PS3.3 C.17.2): what the content refers to."""
    series_of = {str(d.SOPInstanceUID): str(d.SeriesInstanceUID) for d in writer.produced}
    series: dict[str, dict[str, Dataset]] = {}
    for reference in _references(dataset):
        uid = str(reference.ReferencedSOPInstanceUID)
        own = series_of.get(uid, writer.source.volume.series_instance_uid)
        series.setdefault(own, {})[uid] = sop_reference(str(reference.ReferencedSOPClassUID), uid)
    study = Dataset()
    study.StudyInstanceUID = dataset.StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for series_uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedSOPSequence = list(instances.values())
        study.ReferencedSeriesSequence.append(item)
    return study


def _separate(item: Dataset) -> None:
    """Mark all containers as separate: viewers run the items of continuous ones together."""
    if item.get("ValueType") == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence") or ():
        _separate(child)


def _references(item: Dataset) -> Iterator[Dataset]:
    yield from item.get("ReferencedSOPSequence") or ()
    for child in item.get("ContentSequence") or ():
        yield from _references(child)

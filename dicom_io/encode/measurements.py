"""Measurement SR (TID 1500): each finding's box on its slice, which viewers draw with its numbers.

Only planar groups with 2D coordinates (TID 1410): a viewer that finds any other group among them
shows nothing at all. Everything else is in the report that is to be read.
"""

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import (
    CONCLUSION,
    DETECTION_RESULT,
    DEVICE,
    DEVICE_OBSERVER_NAME,
    DEVICE_OBSERVER_UID,
    ENGLISH,
    EXPLANATION_OF,
    IMAGE_LIBRARY,
    IMAGE_LIBRARY_GROUP,
    IMAGING_MEASUREMENT_REPORT,
    IMAGING_MEASUREMENTS,
    IMAGING_PROCEDURE,
    LONGEST_MEANING,
    MILLILITER,
    OBSERVER_TYPE,
    OPERATING_POINT,
    PROBABILITY,
    PROCEDURE_REPORTED,
    QUALITATIVE_EVALUATIONS,
    SOURCE_OF_MEASUREMENT,
    USE_RESTRICTION,
    VISUAL_EXPLANATION,
    VOLUME,
    Code,
)
from dicom_io.encode import content
from dicom_io.encode.evidence import evidence, heatmap_objects, image_reference, key_frames
from dicom_io.encode.inherit import (
    MANUFACTURER,
    MODEL_NAME,
    Place,
    identify_private_scheme,
    new_object,
    sop_reference,
)
from dicom_io.encode.regions import Region, regions_of
from dicom_io.encode.report_groups import (
    explanation_codes,
    require_probability,
    segment_tracking,
)
from dicom_io.encode.report_words import conclusions, result_code
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import MEASUREMENTS
from dicom_io.encode.words import (
    NOT_FOR_DIAGNOSIS,
    is_for_research,
    method_text,
    parameter_text,
    subject_text,
)
from dicom_io.origin import Origin
from dicom_io.read import Input
from dicom_io.report_codes import (
    DEVICE_OBSERVER_MANUFACTURER,
    DEVICE_OBSERVER_MODEL,
    DEVICE_OBSERVER_SERIAL,
    EVIDENCE_SHARE,
    FINDING,
    IMAGE_REGION,
    LABEL,
    LANGUAGE,
    OUTLINED_SHARE,
    SOURCE,
)

#: Enhanced SR holds all that is said here, and more archives take it than Comprehensive 3D SR.
SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.22"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)
_STRANGE = "NOT RELIABLE: "


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the measurement report (PS3.3 A.35.2, TID 1500), or nothing without a region.

    Parameters
    ----------
    produced
        What was made of this analysis before; the report refers to its heatmaps.
    """
    regions = regions_of(analysis, source.volume)
    if not regions:
        return ()
    place = Place(
        role=MEASUREMENTS,
        series_number=9001,
        modality="SR",
        sop_class_uid=SOP_CLASS_UID,
        description=_description(regions, analysis),
    )
    dataset = new_object(place, analysis, source, origin)
    writer = Writer(
        analysis=analysis,
        source=source,
        origin=origin,
        produced=produced,
        document=dataset,
        regions=regions,
    )
    content.write_content(dataset, IMAGING_MEASUREMENT_REPORT, _items(writer), template="1500")
    content.complete_document(dataset, evidence(dataset, writer), origin.predecessors)
    identify_private_scheme(dataset)
    return (dataset,)


def _description(regions: tuple[Region, ...], analysis: Analysis) -> str:
    warning = "NOT RELIABLE, strange image: " if analysis.is_strange else ""
    labels = dict.fromkeys(region.label for region in regions)
    return f"regions: {warning}{', '.join(labels)}"


def _items(writer: Writer) -> list[Dataset]:
    groups = [_group(region, number, writer) for number, region in enumerate(writer.regions)]
    return [
        *_context(writer),
        _image_library(writer),
        writer.container(IMAGING_MEASUREMENTS, groups),
        writer.container(QUALITATIVE_EVALUATIONS, _statements(writer)),
    ]


def _context(writer: Writer) -> Iterator[Dataset]:
    """Yield language, observer and procedure (TID 1204, 1001, 1004)."""
    site, document = writer.origin.site, writer.document
    yield writer.code(LANGUAGE, ENGLISH, content.MODIFIES)
    yield writer.code(OBSERVER_TYPE, DEVICE, content.OBSERVED)
    yield content.uid(DEVICE_OBSERVER_UID, site.device_uid, document, content.OBSERVED)
    for name, text in (
        (DEVICE_OBSERVER_NAME, site.ae_title),
        (DEVICE_OBSERVER_MANUFACTURER, MANUFACTURER),
        (DEVICE_OBSERVER_MODEL, MODEL_NAME),
        (DEVICE_OBSERVER_SERIAL, site.device_serial_number or site.device_uid),
    ):
        yield writer.words(name, text, content.OBSERVED)
    yield writer.code(PROCEDURE_REPORTED, _procedure(writer.source), content.MODIFIES)


def _procedure(source: Input) -> Code:
    for item in source.headers[0].get("ProcedureCodeSequence") or ():
        value, scheme = item.get("CodeValue"), item.get("CodingSchemeDesignator")
        if value and scheme and item.get("CodeMeaning"):
            return Code(str(value), str(scheme), str(item.CodeMeaning))
    return IMAGING_PROCEDURE


def _image_library(writer: Writer) -> Dataset:
    """Return the image library (TID 1600) of the key images alone: a library of all is slow."""
    frames = key_frames(writer)
    images = [writer.image(SOURCE_OF_MEASUREMENT, image_reference(frame)) for frame in frames]
    return writer.container(IMAGE_LIBRARY, [writer.container(IMAGE_LIBRARY_GROUP, images)])


def _statements(writer: Writer) -> Iterator[Dataset]:
    """Yield what is said of the whole image: codes and texts, for a group would hide the boxes."""
    yield writer.code(DETECTION_RESULT, result_code(writer.analysis))
    for sentence in conclusions(writer.analysis, writer.source.volume):
        yield writer.words(CONCLUSION, sentence)
    if is_for_research(writer.origin):
        yield writer.words(USE_RESTRICTION, NOT_FOR_DIAGNOSIS)


def _group(region: Region, number: int, writer: Writer) -> Dataset:
    """Return a planar group (TID 1410); the numbers' names are read alone, beside the box."""
    named = region.finding or region.segment
    tracking = writer.tracking("region", number, region.label)
    if region.finding is None and region.segment is not None:
        tracking = segment_tracking(region.segment[0], writer)
    items = [*tracking]
    if named is not None:
        items.append(writer.code(FINDING, named[1].concept))
    items += [
        writer.words(LABEL, region.label),
        *_algorithm(region, writer),
        _region(region, writer),
    ]
    return writer.group([*items, *_numbers(region, writer), *_explained(region, writer)], "1410")


def _algorithm(region: Region, writer: Writer) -> list[Dataset]:
    model = writer.analysis.model.name
    if not region.box.is_evidence:
        return writer.algorithm(model)
    explained = region.explanations[0][1]
    return writer.algorithm(f"{model}, {method_text(explained)}", parameter_text(explained))


def _region(region: Region, writer: Writer) -> Dataset:
    frame = writer.source.volume.frames[region.box.slice]
    item = Dataset()
    item.RelationshipType = content.CONTAINS
    item.ValueType = "SCOORD"
    item.ConceptNameCodeSequence = [content.concept(IMAGE_REGION, writer.document)]
    item.GraphicType = "POLYLINE"
    item.GraphicData = list(region.box.outline)
    item.ContentSequence = [
        content.image(SOURCE, image_reference(frame), writer.document, "SELECTED FROM")
    ]
    return item


def _numbers(region: Region, writer: Writer) -> Iterator[Dataset]:
    warning = _STRANGE if writer.analysis.is_strange else ""
    named = f"{warning}AI {region.label}"
    if region.finding is not None:
        finding = region.finding[1]
        require_probability(finding)
        yield writer.percent(_named(PROBABILITY, f"{named} probability"), finding.probability)
        yield writer.percent(_named(OPERATING_POINT, "cut-off of the model"), finding.threshold)
    milliliters = writer.source.volume.voxel_volume_ml
    if region.segment is not None and milliliters is not None:
        volume = round(int(np.count_nonzero(region.segment[1].mask)) * milliliters, 6)
        yield writer.number(_named(VOLUME, f"{named} volume"), volume, MILLILITER)
    share = EVIDENCE_SHARE if region.box.is_evidence else OUTLINED_SHARE
    yield writer.percent(share, round(region.box.share, 4))


def _named(code: Code, meaning: str) -> Code:
    """Return a concept under words that say it alone; the label is cut, the quantity is not."""
    if len(meaning) > LONGEST_MEANING:
        ending = meaning.rsplit(" ", 1)[1]
        meaning = f"{meaning[: LONGEST_MEANING - len(ending) - 4].rstrip()}... {ending}"
    return Code(code.value, code.scheme, meaning)


def _explained(region: Region, writer: Writer) -> Iterator[Dataset]:
    """Yield method and grade of the best explanation, and the pictures of all.

    TID 1410 has the slot for them.
    """
    if not region.explanations:
        return
    best = region.explanations[0][1]
    yield writer.words(EXPLANATION_OF, subject_text(best))
    yield from explanation_codes(best, writer)
    for index, explanation in region.explanations:
        for dataset in heatmap_objects(explanation, index, writer):
            reference = sop_reference(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
            yield writer.image(VISUAL_EXPLANATION, reference)

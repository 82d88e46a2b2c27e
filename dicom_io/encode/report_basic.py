"""The same report as Basic Text SR, for archives that refuse everything above it."""

from collections.abc import Iterable

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.encode import content
from dicom_io.encode.evidence import evidence_beside
from dicom_io.encode.inherit import Place, identify_private_scheme, new_object
from dicom_io.encode.regions import regions_of
from dicom_io.encode.report_items import describe, report_items
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import REPORT_BASIC
from dicom_io.origin import Origin
from dicom_io.read import Input
from dicom_io.report_codes import AI_REPORT

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.11"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the report (PS3.3 A.35.1), its numbers as text: Basic Text SR knows no others."""
    place = Place(
        role=REPORT_BASIC,
        series_number=9002,
        modality="SR",
        sop_class_uid=SOP_CLASS_UID,
        description=describe(analysis),
    )
    dataset = new_object(place, analysis, source, origin)
    writer = Writer(
        analysis=analysis,
        source=source,
        origin=origin,
        produced=produced,
        document=dataset,
        regions=regions_of(analysis, source.volume),
    )
    items = as_basic(report_items(writer))
    content.write_content(dataset, AI_REPORT, items)
    content.complete_document(dataset, evidence_beside(writer), origin.predecessors)
    identify_private_scheme(dataset)
    return (dataset,)


def as_basic(items: Iterable[Dataset]) -> list[Dataset]:
    """Return content items with every NUM as TEXT, and no template claimed for what holds them."""
    return [_basic(item) for item in items]


def _basic(item: Dataset) -> Dataset:
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        value = measured.get("FloatingPointValue", measured.NumericValue)
        unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
        item.ValueType = "TEXT"
        item.TextValue = f"{value}" if unit == "1" else f"{value} {unit}"
        del item.MeasuredValueSequence
    if "ContentSequence" in item:
        item.ContentSequence = as_basic(item.ContentSequence)
    item.pop("ContentTemplateSequence", None)
    return item

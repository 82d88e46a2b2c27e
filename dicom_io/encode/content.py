"""Content items of structured reports (PS3.3 C.17.3), in the character set of their document."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from pydicom import Dataset
from pydicom.valuerep import DA, format_number_as_ds

from dicom_io.codes import LONGEST_MEANING, Code
from dicom_io.encode.inherit import code_item, sop_reference, writable
from dicom_io.origin import Predecessor

CONTAINS = "CONTAINS"
OBSERVED = "HAS OBS CONTEXT"
MODIFIES = "HAS CONCEPT MOD"

#: UIDs of all structured reports begin so (PS3.6 Annex A).
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.88."


def concept(code: Code, document: Dataset) -> Dataset:
    """Return a code as ``document`` can hold it."""
    meaning = writable(code.meaning, document)[:LONGEST_MEANING]
    return code_item(Code(code.value, code.scheme, meaning))


def text(name: Code, words: str, document: Dataset, relation: str = CONTAINS) -> Dataset:
    """Return a TEXT item."""
    item = _item("TEXT", name, document, relation)
    item.TextValue = writable(words, document)
    return item


def code(name: Code, value: Code, document: Dataset, relation: str = CONTAINS) -> Dataset:
    """Return a CODE item."""
    item = _item("CODE", name, document, relation)
    item.ConceptCodeSequence = [concept(value, document)]
    return item


def uid(name: Code, value: str, document: Dataset, relation: str = CONTAINS) -> Dataset:
    """Return a UIDREF item."""
    item = _item("UIDREF", name, document, relation)
    item.UID = value
    return item


def date(name: Code, value: DA, document: Dataset) -> Dataset:
    """Return a DATE item."""
    item = _item("DATE", name, document, CONTAINS)
    item.Date = value
    return item


def number(name: Code, value: float | Decimal, unit: Code, document: Dataset) -> Dataset:
    """Return a NUM item; what 16 characters cannot hold is in FloatingPointValue (C.18.1)."""
    measured = Dataset()
    said = _decimal(value)
    measured.NumericValue = said
    if float(said) != float(value):
        measured.FloatingPointValue = float(value)
    measured.MeasurementUnitsCodeSequence = [concept(unit, document)]
    item = _item("NUM", name, document, CONTAINS)
    item.MeasuredValueSequence = [measured]
    return item


def image(name: Code, reference: Dataset, document: Dataset, relation: str = CONTAINS) -> Dataset:
    """Return an IMAGE item of one reference (PS3.3 table 10-3)."""
    item = _item("IMAGE", name, document, relation)
    item.ReferencedSOPSequence = [reference]
    return item


def container(
    name: Code, items: Iterable[Dataset], document: Dataset, template: str = ""
) -> Dataset:
    """Return a CONTAINER; always separate, because viewers run continuous ones together."""
    item = _item("CONTAINER", name, document, CONTAINS)
    _contain(item, items, template)
    return item


def write_content(
    document: Dataset, title: Code, items: Iterable[Dataset], template: str = ""
) -> None:
    """Make ``document`` the root of its content (PS3.3 C.17.3.1)."""
    document.ValueType = "CONTAINER"
    document.ConceptNameCodeSequence = [concept(title, document)]
    _contain(document, items, template)


def complete_document(
    document: Dataset,
    evidence: Mapping[str, Iterable[Dataset]],
    predecessors: Iterable[Predecessor] = (),
) -> None:
    """Say that ``document`` is whole, and which objects it is about (PS3.3 C.17.2).

    Parameters
    ----------
    evidence
        Series Instance UID to references (PS3.3 table 10-11), all of the document's study.
    predecessors
        What it takes the place of; only documents are named (C.17.2.2).
    """
    document.CompletionFlag = "COMPLETE"
    document.VerificationFlag = "UNVERIFIED"
    document.PreliminaryFlag = "PRELIMINARY"
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []
    listed = [(series, _distinct(references)) for series, references in evidence.items()]
    if any(references for _, references in listed):
        document.CurrentRequestedProcedureEvidenceSequence = [
            _study(str(document.StudyInstanceUID), listed)
        ]
    replaced = [each for each in predecessors if each.sop_class_uid.startswith(_DOCUMENTS)]
    if replaced:
        document.PredecessorDocumentsSequence = [_replaced(each) for each in replaced]


def references(item: Dataset) -> Iterator[Dataset]:
    """Yield every SOP reference of an item and of all below it."""
    yield from item.get("ReferencedSOPSequence") or ()
    for child in item.get("ContentSequence") or ():
        yield from references(child)


def _item(value_type: str, name: Code, document: Dataset, relation: str) -> Dataset:
    item = Dataset()
    item.RelationshipType = relation
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [concept(name, document)]
    return item


def _contain(item: Dataset, items: Iterable[Dataset], template: str) -> None:
    item.ContinuityOfContent = "SEPARATE"
    if template:
        identified = Dataset()
        identified.MappingResource = "DCMR"
        identified.TemplateIdentifier = template
        item.ContentTemplateSequence = [identified]
    item.ContentSequence = list(items)


def _decimal(value: float | Decimal) -> str:
    """Return a number of at most 16 characters, exact wherever it fits (PS3.5 6.2, VR DS)."""
    if isinstance(value, Decimal):
        said = format(value, "f")
    else:
        said = str(value) if isinstance(value, int) else repr(float(value))
    return said if len(said) <= 16 else str(format_number_as_ds(float(value)))


def _distinct(references: Iterable[Dataset]) -> list[Dataset]:
    found = {
        str(each.ReferencedSOPInstanceUID): sop_reference(
            str(each.ReferencedSOPClassUID), str(each.ReferencedSOPInstanceUID)
        )
        for each in references
    }
    return list(found.values())


def _study(study_uid: str, listed: Iterable[tuple[str, list[Dataset]]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series_uid, instances in listed:
        if instances:
            series = Dataset()
            series.SeriesInstanceUID = series_uid
            series.ReferencedSOPSequence = instances
            study.ReferencedSeriesSequence.append(series)
    return study


def _replaced(each: Predecessor) -> Dataset:
    reference = sop_reference(each.sop_class_uid, each.sop_instance_uid)
    return _study(each.study_instance_uid, [(each.series_instance_uid, [reference])])

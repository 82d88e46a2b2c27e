"""What a report says, in this order: conclusion, tables, remarks; numbers and provenance."""

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.valuerep import DA

from dicom_io.analysis import Analysis, PriorComparison, Quantity
from dicom_io.codes import (
    CONCLUSION,
    DETECTION_RESULT,
    EXPLANATION_FAILED,
    IMAGING_MEASUREMENTS,
    INTENDED_USE,
    MILLILITER,
    MODEL_NOTICE,
    RELIABILITY,
    RESPONSIBLE_CONTACT,
    USE_RESTRICTION,
    VISUAL_EXPLANATION,
)
from dicom_io.encode import content
from dicom_io.encode.provenance import explainers, provenance
from dicom_io.encode.reliability_words import reliability_texts
from dicom_io.encode.report_groups import measurement_groups
from dicom_io.encode.report_reliability import familiarity_groups
from dicom_io.encode.report_words import (
    conclusions,
    explanation_table,
    finding_table,
    prior_table,
    prior_text,
    result_code,
    result_text,
    structure_table,
    where_text,
)
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.words import (
    NOT_FOR_DIAGNOSIS,
    explained_text,
    failure_text,
    is_for_research,
)
from dicom_io.report_codes import (
    COMPLETENESS,
    FINDING,
    LABEL,
    NOW,
    PRIOR,
    PRIOR_STUDY_DATE,
    STUDY_UID,
    THEN,
    WHERE,
)


def describe(analysis: Analysis) -> str:
    """Return what a list of series says of a report: the findings, or that there is none."""
    present = [finding.label for finding in analysis.findings if finding.present]
    outlined = [segment.label for segment in analysis.segments if segment.mask.any()]
    warning = "NOT RELIABLE, strange image: " if analysis.is_strange else ""
    return f"report: {warning}{', '.join(present or outlined) or 'nothing found'}"


def report_items(writer: Writer) -> Iterator[Dataset]:
    """Yield the content: what a person reads, then what a machine or an audit does."""
    yield from _first_words(writer)
    yield from _tables(writer)
    yield from _remarks(writer)
    groups = [*measurement_groups(writer), *familiarity_groups(writer), *_prior_group(writer)]
    if groups:
        yield writer.container(IMAGING_MEASUREMENTS, groups)
    card = writer.analysis.model
    known = (card.name, card.version, card.weights_sha256)
    made = provenance(known, writer.origin, writer.document)
    made.ContentSequence.extend(explainers(writer.analysis, writer.document))
    yield made


def _first_words(writer: Writer) -> Iterator[Dataset]:
    for sentence in conclusions(writer.analysis, writer.source.volume):
        yield writer.words(CONCLUSION, sentence)
    for region in writer.regions:
        yield writer.words(WHERE, where_text(region, writer.source))
    if is_for_research(writer.origin):
        yield writer.words(USE_RESTRICTION, NOT_FOR_DIAGNOSIS)
    if writer.analysis.model.notice:
        yield writer.words(MODEL_NOTICE, writer.analysis.model.notice)
    if writer.analysis.prior is not None:
        yield writer.words(PRIOR, prior_text(writer.analysis.prior))


def _tables(writer: Writer) -> Iterator[Dataset]:
    """Yield texts named Finding, which viewers print in monospaced type."""
    analysis, prior = writer.analysis, writer.analysis.prior
    for table in (
        finding_table(analysis),
        structure_table(analysis, writer.source.volume),
        "" if prior is None else prior_table(prior),
        *(explanation_table(explanation) for explanation in analysis.explanations),
    ):
        if table:
            yield writer.words(FINDING, table)


def _remarks(writer: Writer) -> Iterator[Dataset]:
    analysis = writer.analysis
    yield writer.words(VISUAL_EXPLANATION, explained_text(analysis))
    for failure in analysis.failures:
        yield writer.words(EXPLANATION_FAILED, failure_text(failure))
    for text in reliability_texts(analysis):
        yield writer.words(RELIABILITY, text)
    yield writer.words(COMPLETENESS, result_text(analysis))
    yield writer.code(DETECTION_RESULT, result_code(analysis))
    for name, text in (
        (INTENDED_USE, analysis.model.intended_use),
        (RESPONSIBLE_CONTACT, writer.origin.contact),
    ):
        if text:
            yield writer.words(name, text)


def _prior_group(writer: Writer) -> list[Dataset]:
    prior = writer.analysis.prior
    if prior is None or not prior.study_instance_uid:
        return []
    items = [content.uid(STUDY_UID, prior.study_instance_uid, writer.document)]
    if prior.study_date is not None:
        items.append(content.date(PRIOR_STUDY_DATE, DA(prior.study_date), writer.document))
    return [writer.container(PRIOR, [*items, *_compared(prior, writer)])]


def _compared(prior: PriorComparison, writer: Writer) -> Iterator[Dataset]:
    for value in prior.values:
        yield writer.words(LABEL, f"{value.label}, {value.quantity}")
        for name, amount in ((THEN, value.then), (NOW, value.now)):
            if value.quantity is Quantity.PROBABILITY:
                yield writer.percent(name, amount)
            else:
                yield writer.number(name, amount, MILLILITER)

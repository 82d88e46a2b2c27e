"""A document in the place of a report: why there is no analysis. Silence would look like one."""

import hashlib
from collections.abc import Iterator

from pydicom import Dataset

from dicom_io.analysis import ModelCard
from dicom_io.codes import (
    CONCLUSION,
    DETECTION_RESULT,
    RESPONSIBLE_CONTACT,
    USE_RESTRICTION,
)
from dicom_io.encode import content
from dicom_io.encode.inherit import Place, add_model, identify_private_scheme, new_note
from dicom_io.encode.provenance import provenance
from dicom_io.encode.roles import OUTCOME
from dicom_io.encode.words import NOT_FOR_DIAGNOSIS, is_for_research
from dicom_io.origin import Origin
from dicom_io.outcome import Outcome, OutcomeKind
from dicom_io.report_codes import (
    ADVICE,
    AI_REPORT,
    ANALYSIS_STATUS,
    CRITERION,
    FAILED,
    NOT_ANALYZED_REASON,
    NOT_ATTEMPTED,
    NOTHING_SUCCEEDED,
)

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.22"
BASIC_SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.11"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID, BASIC_SOP_CLASS_UID)

_HEADLINES = {
    OutcomeKind.REJECTED: "NOT ANALYZED: the image is outside the intended use of {model}",
    OutcomeKind.DAMAGED: "NOT ANALYZED: images are damaged, {model} was not run",
    OutcomeKind.FAILED: "NOT ANALYZED: {model} could not be run to its end",
    OutcomeKind.PARKED: "NOT ANALYZED YET: {model} could not be run, a person has to act first",
}
_NOT_RUN = (OutcomeKind.REJECTED, OutcomeKind.DAMAGED)
_NO_ALL_CLEAR = "This says nothing about the patient: it is neither a finding nor an all-clear."


def encode_outcome(outcome: Outcome, header: Dataset, origin: Origin) -> Dataset:
    """Return an Enhanced SR (PS3.3 A.35.2) that says why there is no analysis.

    Parameters
    ----------
    header
        A header of the study, for patient and study; without pixels.
    """
    return _encoded(OUTCOME, SOP_CLASS_UID, outcome, header, origin)


def encode_basic_outcome(outcome: Outcome, header: Dataset, origin: Origin) -> Dataset:
    """Return the same as Basic Text SR (PS3.3 A.35.1), which knows everything that it says."""
    return _encoded(f"{OUTCOME} basic", BASIC_SOP_CLASS_UID, outcome, header, origin)


def _encoded(
    role: str, sop_class_uid: str, outcome: Outcome, header: Dataset, origin: Origin
) -> Dataset:
    place = Place(
        role=role,
        series_number=9000,
        modality="SR",
        sop_class_uid=sop_class_uid,
        description=f"report: NOT ANALYZED {outcome.model_name}",
    )
    dataset = new_note(place, header, origin, subject=_subject(outcome))
    if outcome.model_name and outcome.weights_sha256:
        add_model(dataset, _card(outcome), origin)
    content.write_content(dataset, AI_REPORT, _items(outcome, origin, dataset))
    content.complete_document(dataset, {}, origin.predecessors)
    identify_private_scheme(dataset)
    return dataset


def _subject(outcome: Outcome) -> str:
    """Return what tells outcomes of one task apart: another reason is another document."""
    said = (outcome.kind, outcome.model_name, outcome.reason, outcome.criterion)
    return hashlib.sha256("\x1f".join(said).encode()).hexdigest()


def _card(outcome: Outcome) -> ModelCard:
    return ModelCard(
        name=outcome.model_name,
        version=outcome.model_version,
        weights_sha256=outcome.weights_sha256,
    )


def _items(outcome: Outcome, origin: Origin, dataset: Dataset) -> Iterator[Dataset]:
    model = f"{outcome.model_name} {outcome.model_version}".strip() or "the model"
    headline = _HEADLINES[outcome.kind].format(model=model)
    yield content.text(CONCLUSION, headline, dataset)
    for name, words in (
        (CRITERION, outcome.criterion),
        (NOT_ANALYZED_REASON, outcome.reason),
        (ADVICE, outcome.advice),
        (CONCLUSION, _NO_ALL_CLEAR),
        (USE_RESTRICTION, NOT_FOR_DIAGNOSIS if is_for_research(origin) else ""),
        (RESPONSIBLE_CONTACT, origin.contact),
    ):
        if words:
            yield content.text(name, words, dataset)
    status = NOT_ATTEMPTED if outcome.kind in _NOT_RUN else FAILED
    yield content.code(DETECTION_RESULT, NOTHING_SUCCEEDED, dataset)
    yield content.code(ANALYSIS_STATUS, status, dataset)
    known = (outcome.model_name, outcome.model_version, outcome.weights_sha256)
    yield provenance(known, origin, dataset)

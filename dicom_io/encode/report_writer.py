"""What every part of a report is written from, and its items as highdicom's templates want."""

from dataclasses import dataclass

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    Measurement,
    QualitativeEvaluation,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import ARTIFICIAL_INTELLIGENCE, NO_UNITS, Code
from dicom_io.encode.inherit import other_uid, writable
from dicom_io.encode.roles import REPORT
from dicom_io.origin import Origin
from dicom_io.read import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """What every part of one report is written from, and in which character set."""

    analysis: Analysis
    source: Input
    origin: Origin
    #: Objects that were made of the analysis before.
    produced: tuple[Dataset, ...]
    #: The report's own data set, for its character set.
    document: Dataset

    def text(self, words: str) -> str:
        """Return words as the document's character set can hold them."""
        return writable(words, self.document)

    def concept(self, code: Code) -> CodedConcept:
        """Return a code as highdicom's templates want it."""
        return CodedConcept(code.value, code.scheme, self.text(code.meaning))

    def words(self, name: Code, text: str) -> TextContentItem:
        """Return a TEXT item."""
        return TextContentItem(
            name=self.concept(name), value=self.text(text), relationship_type="CONTAINS"
        )

    def code(self, name: Code, value: Code, relation: str = "CONTAINS") -> CodeContentItem:
        """Return a CODE item."""
        return CodeContentItem(
            name=self.concept(name), value=self.concept(value), relationship_type=relation
        )

    def number(self, name: Code, value: float, unit: Code = NO_UNITS) -> Measurement:
        """Return a NUM item (TID 300)."""
        return Measurement(name=self.concept(name), value=value, unit=self.concept(unit))

    def evaluation(self, name: Code, value: Code) -> QualitativeEvaluation:
        """Return a coded name and value."""
        return QualitativeEvaluation(name=self.concept(name), value=self.concept(value))

    def tracking(self, what: str, index: int, label: str) -> TrackingIdentifier:
        """Return the identity of one tracked thing (TID 4108)."""
        uid = other_uid(f"{REPORT} {what}", self.analysis, self.origin, index=index)
        return TrackingIdentifier(uid=uid, identifier=self.text(f"{what}: {label}"))

    def algorithm(self, name: str, parameters: str = "") -> AlgorithmIdentification:
        """Return the identification of an algorithm (TID 4019) of this analysis' model."""
        card = self.analysis.model
        return AlgorithmIdentification(
            name=self.text(name),
            version=self.text(card.version or "unknown"),
            parameters=[self.text(parameters)] if parameters else None,
            family=self.concept(ARTIFICIAL_INTELLIGENCE),
        )

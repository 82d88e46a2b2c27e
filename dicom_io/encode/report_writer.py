"""What every part of a report is written with: an analysis, its document, and items of both."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import ALGORITHM_PARAMETERS, ARTIFICIAL_INTELLIGENCE, NO_UNITS, Code
from dicom_io.encode import content
from dicom_io.encode.inherit import other_uid
from dicom_io.encode.regions import Region
from dicom_io.encode.roles import REPORT
from dicom_io.origin import Origin
from dicom_io.read import Input
from dicom_io.report_codes import (
    ALGORITHM_FAMILY,
    ALGORITHM_NAME,
    ALGORITHM_VERSION,
    MEASUREMENT_GROUP,
    PERCENT,
    TRACKING_IDENTIFIER,
    TRACKING_UID,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """What every part of one document is written from, and in which character set."""

    analysis: Analysis
    source: Input
    origin: Origin
    #: Objects that were made of the analysis before.
    produced: tuple[Dataset, ...]
    #: The data set of the document, for its character set.
    document: Dataset
    #: Where to look.
    regions: tuple[Region, ...]

    def words(self, name: Code, text: str, relation: str = content.CONTAINS) -> Dataset:
        """Return a TEXT item."""
        return content.text(name, text, self.document, relation)

    def code(self, name: Code, value: Code, relation: str = content.CONTAINS) -> Dataset:
        """Return a CODE item."""
        return content.code(name, value, self.document, relation)

    def number(self, name: Code, value: float, unit: Code = NO_UNITS) -> Dataset:
        """Return a NUM item (TID 300)."""
        return content.number(name, value, unit, self.document)

    def percent(self, name: Code, share: float) -> Dataset:
        """Return a NUM item of a share (0 to 1) in percent, as viewers print it best.

        In decimal numbers, so that 0.07 is 7 and not 7.000000000000001.
        """
        return content.number(
            name, (Decimal(repr(float(share))) * 100).normalize(), PERCENT, self.document
        )

    def image(self, name: Code, reference: Dataset) -> Dataset:
        """Return an IMAGE item."""
        return content.image(name, reference, self.document)

    def container(self, name: Code, items: Iterable[Dataset], template: str = "") -> Dataset:
        """Return a CONTAINER."""
        return content.container(name, items, self.document, template)

    def group(self, items: Iterable[Dataset], template: str = "1501") -> Dataset:
        """Return a measurement group (TID 1501, 1410)."""
        return self.container(MEASUREMENT_GROUP, items, template)

    def tracking(self, what: str, index: int, label: str) -> list[Dataset]:
        """Return the identity of one tracked thing (TID 4108)."""
        uid = other_uid(f"{REPORT} {what}", self.analysis, self.origin, index=index)
        return self.tracked(uid, f"{what}: {label}")

    def tracked(self, uid: str, identifier: str) -> list[Dataset]:
        """Return the identity of a thing that another object tracks already (TID 4108)."""
        return [
            self.words(TRACKING_IDENTIFIER, identifier, content.OBSERVED),
            content.uid(TRACKING_UID, uid, self.document, content.OBSERVED),
        ]

    def algorithm(self, name: str, parameters: str = "") -> list[Dataset]:
        """Return the identification of an algorithm (TID 4019) of this analysis' model."""
        said = [
            (ALGORITHM_NAME, name),
            (ALGORITHM_VERSION, self.analysis.model.version or "unknown"),
            (ALGORITHM_PARAMETERS, parameters),
        ]
        items = [self.words(code, text, content.MODIFIES) for code, text in said if text]
        family = self.code(ALGORITHM_FAMILY, ARTIFICIAL_INTELLIGENCE, content.MODIFIES)
        return [*items, family]

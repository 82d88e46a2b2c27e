"""Analysis: what one model said of one image, why, and how well the why was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dicom_io.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Who the model is, as the result objects must say it."""

    name: str
    version: str
    #: sha256 (hex) of the weights file.
    weights_sha256: str
    description: str = ""
    manufacturer: str = ""
    intended_use: str = ""
    #: A sentence that must stand in every object, such as that the model is a phantom's.
    notice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """Which of the two answers about a finding remain possible (split conformal prediction)."""

    #: Share of images like those the model was validated on in which the right one remains, 0 to 1.
    level: float
    #: Whether "present" remains.
    present: bool
    #: Whether "not present" remains.
    absent: bool

    @property
    def is_single(self) -> bool:
        """Whether exactly one answer remains."""
        return self.present != self.absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiarity:
    """Whether an image is like those that its model was validated on."""

    #: Mahalanobis distance of the features, in standard deviations.
    distance: float
    distance_limit: float
    #: How undecided the model is, by its logits.
    energy: float
    energy_limit: float

    @property
    def is_familiar(self) -> bool:
        """Whether neither exceeds its limit; what is no number does."""
        return self.distance <= self.distance_limit and self.energy <= self.energy_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One coded statement of a model about the whole image."""

    label: str
    concept: Code
    #: 0 to 1.
    probability: float
    #: The operating point: present at or above it.
    threshold: float
    #: Whether the probability was held against known cases: of 80 % that many are right.
    calibrated: bool = False
    #: None where nothing was fitted to the model.
    certainty: Certainty | None = None

    @property
    def present(self) -> bool:
        """Whether the probability reaches the operating point."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A structure that a model outlined."""

    label: str
    concept: Code
    #: bool [slice, row, column] on the source grid; read-only.
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """Relevance on the source grid: positive raises the target; neither normalized nor clipped."""

    #: float32 [channel, slice, row, column]; read-only.
    relevance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureValue:
    """One number about an explanation, and what was asked of it."""

    #: Snake-case name, such as ``comprehensiveness``; coded in ``dicom_io.codes``.
    name: str
    value: float
    #: The limit that the gate held the value against; None for a measure that is only reported.
    limit: float | None = None
    #: Whether the limit was met; None for a measure that is only reported.
    passed: bool | None = None
    #: UCUM unit; ``"1"`` for a pure number.
    unit: str = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an explanation takes, in passes of the model's network."""

    forwards: float
    backwards: float = 0.0
    #: Estimated peak of additional memory, in bytes; 0 where not estimated.
    peak_bytes: int = 0


class Verdict(StrEnum):
    """What the gate decided for one explanation."""

    PASSED = "passed"
    #: Leaves, but its objects say that a measure failed.
    LABELLED = "labelled"
    #: Its heatmap does not leave; the report says so.
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a model said what it said: one method's heatmap for one target, measured."""

    #: Label of the finding or segment that is explained.
    target: str
    #: Name of the explainer, as routes write it: ``layer_cam``.
    method: str
    heatmap: Heatmap
    measures: tuple[MeasureValue, ...]
    cost: Cost
    #: Label that the target is weighed against: why this and not that; None: the target for itself.
    against: str | None = None
    #: Parameters of the explainer that differ from nothing: name to text, for provenance.
    parameters: Mapping[str, str] = field(default_factory=dict)
    layer: str | None = None
    baseline: str | None = None
    #: Axiom residual, relative; None where no axiom applies to the method.
    residual: float | None = None
    warnings: tuple[str, ...] = ()
    #: Set by the gate; None before it.
    verdict: Verdict | None = None
    #: One line per failed check, in words for a radiologist.
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedExplanation:
    """An explanation that was asked for and could not be made: there is no heatmap of it."""

    #: Label of the finding or segment that should have been explained.
    target: str
    #: Name of the explainer, as routes write it.
    method: str
    #: What was in the way, in words.
    reason: str
    #: Label that the target should have been weighed against; None: the target for itself.
    against: str | None = None
    #: Parameters of the explainer, as of an ``Explanation``.
    parameters: Mapping[str, str] = field(default_factory=dict)


class Quantity(StrEnum):
    """What of a label is compared with a prior."""

    #: Of a finding, 0 to 1.
    PROBABILITY = "probability"
    #: Of a segment, in milliliters.
    VOLUME = "volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorValue:
    """One quantity of one label, then and now, in the same unit."""

    #: Label of a finding or segment.
    label: str
    quantity: Quantity
    then: float
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorComparison:
    """The same patient's earlier study beside this one, or why there is none beside it."""

    #: Empty if there is none.
    study_instance_uid: str = ""
    #: Study Date of the prior; None if it is not known.
    study_date: date | None = None
    #: Only what is known of both.
    values: tuple[PriorValue, ...] = ()
    #: Where the prior's values are from, or why they are missing, in words for a radiologist:
    #: ``read from its AI report by the same model``, ``the PACS has no earlier CT of the chest``.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All that one model found in one image; masks and heatmaps lie on that image's grid."""

    model: ModelCard
    #: Name of the ``select`` entry whose image was analyzed.
    input_name: str
    findings: tuple[Finding, ...] = ()
    segments: tuple[Segment, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    #: What was found, but could not be explained as asked.
    failures: tuple[FailedExplanation, ...] = ()
    #: None where nothing was fitted to the model: then it is not known.
    familiarity: Familiarity | None = None
    #: None where no prior was asked for; never part of UIDs.
    prior: PriorComparison | None = None

    @property
    def is_strange(self) -> bool:
        """Whether the image is known to be unlike those that the model was validated on."""
        return self.familiarity is not None and not self.familiarity.is_familiar

"""What a card is made of: known cases, the methods that are tried, and how closely they look."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai.model import Explainer
from dicom_io.study import Series
from dicom_io.truth.folder import TruthFile

#: Maps that know nothing of the model: what every method has to beat.
CONTROLS = ("random", "sobel", "intensity")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCase:
    """One image, and what is known of it."""

    series: Series
    #: Files that hold the truth of it; empty where nobody outlined anything.
    files: tuple[TruthFile, ...] = ()
    #: Label to whether it is there, of the table.
    labels: Mapping[str, bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its Series Instance UID."""
        return self.series.series_instance_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One explainer that is tried."""

    #: As it was asked for: ``layer_cam`` or ``layer_cam:depth=0.75``.
    name: str
    #: Name of its entry point.
    method: str
    #: As a route writes them, beside the method.
    parameters: Mapping[str, Any] = field(default_factory=dict)
    explainer: Explainer


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSettings:
    """How closely the cases are looked at."""

    candidates: tuple[Candidate, ...]
    seed: int = 0
    #: Cases of which the curves of insertion and deletion are drawn, and sufficiency is asked.
    curve_cases: int = 12
    #: Equal parts that a curve is drawn in.
    steps: int = 10
    #: Cases on which each method is asked of networks that forgot what they learned.
    randomized_cases: int = 3
    #: False: only what takes no pass beyond prediction and explanation is measured.
    passes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What is asked of one case beyond the plain measures."""

    curves: bool = False
    randomized: bool = False

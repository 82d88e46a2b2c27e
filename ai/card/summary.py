"""All records to one card: every figure with its interval, and what could not be measured."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ai.card.cases import CONTROLS, Candidate, CardSettings
from ai.card.choice import Choice, chosen
from ai.card.diagnosis import Diagnosis, diagnosed
from ai.card.figures import ExplainerFigures, figures_of, interval_of
from ai.card.gate_limits import GateFigures, proposed_limits
from ai.card.records import CaseRecord
from ai.card.words import counted, shown_name
from ai.model import Label, Model
from ai.quality.intervals import Interval
from dicom_io.analysis import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """When and with what a card was made."""

    #: ISO 8601.
    created: str
    #: Name of a package, or of Python, to its version.
    versions: Mapping[str, str]
    #: The command as it was given.
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFigures:
    """What the cases were."""

    cases: int
    #: Cases that something could be made of, and Series Instance UID to why nothing could.
    read: int
    failures: Mapping[str, str]
    #: Cases in which something was explained, and in which the place of it is known.
    explained: int
    placed: int
    modalities: Mapping[str, int]
    #: Shortest and longest of slice, row and column spacing, mm; empty without a place.
    spacing_mm: tuple[tuple[float, float], ...]
    #: Label to cases in which it is known to be there, and known not to be.
    known: Mapping[str, tuple[int, int]]
    #: Truth files of no case.
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The explainer card of one model."""

    model: ModelCard
    labels: tuple[str, ...]
    is_classifier: bool
    threshold: float
    settings: CardSettings
    provenance: Provenance
    data: DataFigures
    diagnosis: Diagnosis
    #: Label to the overlap of a segmenter's outline with the truth.
    dice: Mapping[str, Interval] = field(default_factory=dict)
    explainers: tuple[ExplainerFigures, ...]
    choice: Choice
    gate: GateFigures
    prediction_seconds: float
    unmeasured: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def chosen(self) -> Candidate | None:
        """The candidate that is recommended, if one is."""
        found = (each for each in self.settings.candidates if each.name == self.choice.name)
        return next(found, None)

    def figures(self, name: str) -> ExplainerFigures | None:
        """Return the figures of one method or control."""
        return next((each for each in self.explainers if each.name == name), None)


def summarized(
    records: Sequence[CaseRecord],
    model: Model,
    settings: CardSettings,
    provenance: Provenance,
    *,
    unmatched: Sequence[str] = (),
) -> Card:
    """Return the card of the records, those with a problem among them."""
    good = [record for record in records if not record.problem]
    is_classifier = any(record.probabilities for record in good)
    labels = list(model.labels)
    names = [*(each.name for each in settings.candidates), *CONTROLS]
    explainers = tuple(figures_of(good, name, seed=settings.seed) for name in names)
    diagnosis = Diagnosis()
    if is_classifier:
        diagnosis = diagnosed(good, labels, model.threshold, seed=settings.seed)
    choice = chosen(good, explainers, seed=settings.seed)
    name = choice.name or settings.candidates[0].name
    gate = proposed_limits(good, name)
    data = _data(records, labels, unmatched)
    seconds = [record.prediction_seconds for record in good]
    return Card(
        model=model.card,
        labels=tuple(label.name for label in labels),
        is_classifier=is_classifier,
        threshold=model.threshold,
        settings=settings,
        provenance=provenance,
        data=data,
        diagnosis=diagnosis,
        dice=_dice(good, labels, seed=settings.seed),
        explainers=explainers,
        choice=choice,
        gate=gate,
        prediction_seconds=float(np.median(seconds)) if seconds else 0.0,
        unmeasured=tuple(_unmeasured(data, diagnosis, explainers, gate, settings)),
        warnings=tuple(_warnings(data, diagnosis, explainers, choice)),
    )


def _data(
    records: Sequence[CaseRecord], labels: Sequence[Label], unmatched: Sequence[str]
) -> DataFigures:
    good = [record for record in records if not record.problem]
    spacings = np.array([record.spacing_mm for record in good if record.spacing_mm])
    ends = zip(spacings.min(axis=0), spacings.max(axis=0), strict=True) if len(spacings) else ()
    known = {
        label.name: (
            sum(record.truth.get(label.name) is True for record in good),
            sum(record.truth.get(label.name) is False for record in good),
        )
        for label in labels
    }
    return DataFigures(
        cases=len(records),
        read=len(good),
        failures={record.case: record.problem for record in records if record.problem},
        explained=sum(bool(record.target) for record in good),
        placed=sum(record.is_placed for record in good),
        modalities=dict(Counter(record.modality for record in good)),
        spacing_mm=tuple((float(low), float(high)) for low, high in ends),
        known=known,
        unmatched=tuple(unmatched),
    )


def _dice(
    records: Sequence[CaseRecord], labels: Sequence[Label], *, seed: int
) -> dict[str, Interval]:
    found = {}
    for label in labels:
        values = [record.dice[label.name] for record in records if label.name in record.dice]
        interval = interval_of(np.array(values), seed=seed)
        if interval is not None:
            found[label.name] = interval
    return found


def _unmeasured(
    data: DataFigures,
    diagnosis: Diagnosis,
    explainers: Sequence[ExplainerFigures],
    gate: GateFigures,
    settings: CardSettings,
) -> list[str]:
    """Return what is not on the card and why, one sentence each."""
    found = list(diagnosis.unmeasured)
    if data.placed == 0:
        found.append("Localization: no case has a truth that says where its structure lies.")
    elif data.placed < 3:
        found.append(
            f"Intervals of localization: the place is known in {counted(data.placed, 'case')}, "
            "3 are needed."
        )
    if not settings.passes:
        found.append(
            "Faithfulness (comprehensiveness, sufficiency, curves), stability and randomization: "
            "left out, as asked by --quick."
        )
    else:
        if not any(each.insertion for each in explainers):
            found.append("Curves of insertion and deletion: fewer than 3 cases could be asked.")
        if not any(each.randomization for each in explainers):
            found.append("Randomization: no case was asked.")
    if gate.unmeasured:
        found.append(gate.unmeasured)
    found += [
        f"{shown_name(each.name)}: not applicable to this network: {each.problem}"
        for each in explainers
        if each.problem and not each.maps
    ]
    return found


def _warnings(
    data: DataFigures,
    diagnosis: Diagnosis,
    explainers: Sequence[ExplainerFigures],
    choice: Choice,
) -> list[str]:
    """Return what a reader must know before any figure, in plain words."""
    found = []
    if data.failures:
        found.append(
            f"{len(data.failures)} of {counted(data.cases, 'case')} could not be used: listed at "
            "the end, and in no figure."
        )
    if data.unmatched:
        found.append(
            f"{counted(len(data.unmatched), 'truth')} of no case of the data: listed below."
        )
    if not choice.beats_controls:
        found.append(
            "No explainer was shown to be better than maps that know nothing of the model. Do not "
            "show its heatmaps to anyone who decides by them."
        )
    calibration = diagnosis.calibration
    if calibration and calibration.error_after > calibration.error_before:
        found.append(
            "Scaling did not bring the probabilities nearer to the truth on the cases that were "
            "held back."
        )
    if 0 < data.read < 30:
        found.append(
            f"{counted(data.read, 'case')} in all: few, so that intervals are wide and rare "
            "failures are not among them."
        )
    own = next((each for each in explainers if each.name == choice.name), None)
    blind = [e for e in explainers if e.is_control and _is_no_worse(e, own)]
    if blind:
        found.append(
            f"The curve of insertion does not tell the explainer from {_listed(blind)}: a partly "
            "blurred image is like none that this network learned from. Go by comprehensiveness "
            "and by the truth."
        )
    partly = [each for each in explainers if each.failed and each.maps]
    found += [
        f"{shown_name(each.name)} failed in {each.failed} of {each.failed + each.maps} cases: "
        f"{each.problem}"
        for each in partly
    ]
    return found


def _is_no_worse(control: ExplainerFigures, own: ExplainerFigures | None) -> bool:
    """Whether a control's curve of insertion is not clearly below that of the explainer."""
    if own is None or own.insertion is None or control.insertion is None:
        return False
    return not own.insertion.area.is_above(control.insertion.area)


def _listed(controls: Sequence[ExplainerFigures]) -> str:
    names = [each.name for each in controls]
    if len(names) == 1:
        return f"the control {names[0]}"
    return f"the controls {', '.join(names[:-1])} and {names[-1]}"

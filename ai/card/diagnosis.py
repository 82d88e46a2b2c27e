"""What a classifier is worth on known cases: discrimination, calibration, sets of answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ai.card.records import CaseRecord
from ai.errors import CalibrationError, MeasureError
from ai.model import Label
from ai.quality.intervals import Interval
from ai.reliability.answers import Activation, answer_probabilities, answers_of
from ai.reliability.assessment import Cases
from ai.reliability.calibration import (
    Bin,
    adaptive_bins,
    brier_score,
    calibration_error,
    calibration_error_beyond_chance,
    confidences_of,
    even_bins,
    fit_calibration,
)
from ai.reliability.conformal import coverage, fit_conformal, is_single
from ai.reliability.discrimination import bootstrap_roc, roc_curve

#: Fewer cases of either kind say nothing about a ROC curve.
LEAST_OF_A_KIND = 3
#: Fewer labelled cases fit neither a scaling nor a set of answers.
LEAST_LABELLED = 20
#: Bins of the reliability diagram.
BINS = 10
#: Share of images whose set of answers shall hold the right one.
LEVEL = 0.9
#: Of a normal distribution, for 95 %.
_Z = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelDiagnosis:
    """How well one label is told from its absence."""

    label: str
    positives: int
    negatives: int
    area: Interval
    #: Points of the curve, [P]: 1 - specificity, and sensitivity.
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    #: Limits of the sensitivity, [101] on a grid of 1 - specificity.
    band: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    #: At the operating point.
    threshold: float
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What scaling does to the probabilities: fitted on one half of the cases, seen on another."""

    activation: str
    fitted_on: int
    evaluated_on: int
    #: What a logit counts on the side of no, and of yes: 1 as the model has it.
    slopes: tuple[float, float]
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    error_before: float
    error_after: float
    #: What chance does not explain of the error, in bins of like numbers (Kumar et al. 2019).
    beyond_chance_before: float
    beyond_chance_after: float
    brier_before: float
    brier_after: float
    #: Share of sets of answers that hold the right one, and of those with one answer.
    level: float
    coverage: float
    single: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that can be said of the answers, and why some of it cannot."""

    labels: tuple[LabelDiagnosis, ...] = ()
    calibration: Calibration | None = None
    unmeasured: tuple[str, ...] = ()


def diagnosed(
    records: Sequence[CaseRecord], labels: Sequence[Label], threshold: float, *, seed: int
) -> Diagnosis:
    """Return what the answers of a classifier are worth."""
    found, unmeasured = [], []
    for label in labels:
        known = [r for r in records if label.name in r.truth and label.name in r.probabilities]
        truths = [r.truth[label.name] for r in known]
        least = min(sum(truths), len(truths) - sum(truths))
        if least < LEAST_OF_A_KIND:
            unmeasured.append(
                f"ROC curve of {label.name}: {sum(truths)} cases with it and "
                f"{len(truths) - sum(truths)} without it are known, {LEAST_OF_A_KIND} of each are "
                "needed."
            )
            continue
        scores = [r.probabilities[label.name] for r in known]
        found.append(_label(label.name, scores, truths, threshold, seed=seed))
    calibration = None
    try:
        calibration = calibrated(known_cases(records, labels), seed=seed)
    except (CalibrationError, MeasureError) as error:
        unmeasured.append(f"Calibration: {error}.")
    return Diagnosis(labels=tuple(found), calibration=calibration, unmeasured=tuple(unmeasured))


def known_cases(records: Sequence[CaseRecord], labels: Sequence[Label]) -> Cases:
    """Return the answers to cases whose diagnosis is known in full.

    Raises
    ------
    CalibrationError
        If these are too few, or the network's output are no logits.
    """
    answered = [r for r in records if r.logits]
    if not answered:
        raise CalibrationError("no case has an answer")
    activation = activation_of(answered, labels)
    right = [(r, _right(r, labels, activation)) for r in answered]
    known = [(r, answer) for r, answer in right if answer is not None]
    widths = {len(r.features) for r, _ in known}
    if len(known) < LEAST_LABELLED:
        raise CalibrationError(
            f"the diagnosis of {len(known)} cases is known in full, {LEAST_LABELLED} are needed"
        )
    features = [r.features for r, _ in known] if len(widths) == 1 else [() for _ in known]
    return Cases(
        logits=torch.tensor([r.logits for r, _ in known], dtype=torch.float64),
        labels=torch.tensor([answer for _, answer in known]),
        features=torch.tensor(features, dtype=torch.float64),
        activation=activation,
    )


def activation_of(records: Sequence[CaseRecord], labels: Sequence[Label]) -> Activation:
    """Return how the output is read: what the model's own probabilities follow from.

    Raises
    ------
    CalibrationError
        If neither fits: the network returns probabilities, for one.
    """
    logits = torch.tensor([r.logits for r in records], dtype=torch.float64)
    if logits.shape[1] == 1:
        return Activation.SIGMOID
    channels = [label.channel for label in labels]
    told = torch.tensor([[r.probabilities[label.name] for label in labels] for r in records])
    for activation, read in (
        # Where one of two channels is always 0 both fit, and the two exclude each other.
        (Activation.SOFTMAX, torch.softmax(logits, dim=1)),
        (Activation.SIGMOID, torch.sigmoid(logits)),
    ):
        if torch.allclose(read[:, channels], told.double(), atol=1e-4):
            return activation
    raise CalibrationError(
        "the probabilities are neither a sigmoid nor a softmax of the network's output: it has a "
        "temperature or an activation of its own; validate it without"
    )


def halves(kinds: Sequence[object], *, seed: int) -> tuple[list[int], list[int]]:
    """Return two halves of cases, each kind divided evenly between them."""
    generator = np.random.default_rng(seed)
    one: list[int] = []
    other: list[int] = []
    for kind in sorted(set(kinds), key=str):
        members = [index for index, each in enumerate(kinds) if each == kind]
        generator.shuffle(members)
        # The odd one of each kind goes to the smaller half.
        small, large = sorted((one, other), key=len)
        middle = (len(members) + 1) // 2
        small += members[:middle]
        large += members[middle:]
    return sorted(one), sorted(other)


def calibrated(cases: Cases, *, seed: int) -> Calibration:
    """Return what the scaling fitted to one half does to the other.

    Where the model makes no mistake in the one half, nothing can be fitted to it: then they change
    their parts.

    Raises
    ------
    CalibrationError, MeasureError
        If neither half determines a scaling.
    """
    kinds = [str(each) for each in cases.labels.tolist()]
    one, other = (torch.tensor(part) for part in halves(kinds, seed=seed))
    try:
        return _calibrated(cases, one, other)
    except CalibrationError:
        return _calibrated(cases, other, one)


def proportion(hits: int, count: int) -> Interval:
    """Return a share of cases with its 95 % interval (Wilson 1927), which no case of 0 fools."""
    share, square = hits / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    spread = share * (1 - share) / count + square / (4 * count**2)
    half = _Z * math.sqrt(spread) / (1 + square / count)
    # At 0 and 1 a limit is the share itself, but for rounding.
    low, high = min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
    return Interval(estimate=share, low=low, high=high)


def _calibrated(cases: Cases, fit: Tensor, held: Tensor) -> Calibration:
    scaling = fit_calibration(cases.logits[fit], cases.labels[fit], cases.activation)
    right = answers_of(cases.labels[held], cases.logits[held], cases.activation)
    before = answer_probabilities(cases.logits[held], cases.activation)
    after = scaling.probabilities(cases.logits[held], cases.activation)
    bins = [_bins(each, right, cases.activation) for each in (before, after)]
    rule = fit_conformal(
        scaling.probabilities(cases.logits[fit], cases.activation),
        answers_of(cases.labels[fit], cases.logits[fit], cases.activation),
        level=LEVEL,
    )
    sets = rule.sets(after)
    return Calibration(
        activation=str(cases.activation),
        fitted_on=len(fit),
        evaluated_on=len(held),
        slopes=scaling.slopes,
        before=bins[0],
        after=bins[1],
        error_before=calibration_error(bins[0]),
        error_after=calibration_error(bins[1]),
        beyond_chance_before=_beyond_chance(before, right, cases.activation),
        beyond_chance_after=_beyond_chance(after, right, cases.activation),
        brier_before=brier_score(before, right, cases.activation),
        brier_after=brier_score(after, right, cases.activation),
        level=LEVEL,
        coverage=coverage(sets, right),
        single=float(is_single(sets).double().mean()),
    )


def _label(
    name: str, scores: Sequence[float], truths: Sequence[bool], threshold: float, *, seed: int
) -> LabelDiagnosis:
    curve = roc_curve(scores, truths)
    band = bootstrap_roc(scores, truths, generator=np.random.default_rng(seed))
    called = np.array(scores) >= threshold
    ill = np.array(truths)
    return LabelDiagnosis(
        label=name,
        positives=int(ill.sum()),
        negatives=int((~ill).sum()),
        area=Interval(estimate=curve.area, low=band.area_low, high=band.area_high),
        false_positive_rate=_plain(curve.false_positive_rate),
        true_positive_rate=_plain(curve.true_positive_rate),
        band=(_plain(band.false_positive_rate), _plain(band.low), _plain(band.high)),
        threshold=threshold,
        sensitivity=proportion(int((called & ill).sum()), int(ill.sum())),
        specificity=proportion(int((~called & ~ill).sum()), int((~ill).sum())),
    )


def _right(
    record: CaseRecord, labels: Sequence[Label], activation: Activation
) -> list[int] | int | None:
    """Return the right answer of a case as ``answers_of`` takes it; None if it is not known."""
    width = len(record.logits)
    if activation is Activation.SIGMOID:
        by_channel = {label.channel: record.truth.get(label.name) for label in labels}
        answers = [by_channel.get(channel) for channel in range(width)]
        return None if None in answers else [int(bool(answer)) for answer in answers]
    there = [label.channel for label in labels if record.truth.get(label.name)]
    if len(there) == 1:
        return there[0]
    denied = all(record.truth.get(label.name) is False for label in labels)
    others = set(range(width)) - {label.channel for label in labels}
    return others.pop() if denied and len(others) == 1 and not there else None


def _bins(probabilities: Tensor, right: Tensor, activation: Activation) -> tuple[Bin, ...]:
    return even_bins(*confidences_of(probabilities, right, activation), count=BINS)


def _beyond_chance(probabilities: Tensor, right: Tensor, activation: Activation) -> float:
    claimed, true = confidences_of(probabilities, right, activation)
    return calibration_error_beyond_chance(adaptive_bins(claimed, true, count=BINS // 2))


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

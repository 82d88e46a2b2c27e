"""What the maps of one method, or of one control, are worth over all cases."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ai.card.cases import CONTROLS
from ai.card.records import CaseRecord, MapRecord
from ai.quality.intervals import RESAMPLES, Interval, bootstrap_interval

#: Measures that are averaged over cases, in the order in which they are told.
MEASURES = (
    "mass", "rank", "pointing", "iou", "hit", "comprehensiveness", "specificity",
    "sufficiency", "stability", "plausibility", "edges", "intensity", "gini", "extent",
)  # fmt: skip
#: Fewer cases give no interval worth the name.
LEAST_CASES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFigures:
    """A mean curve over cases: 0 is the blurred image, 1 the image as it is."""

    cases: int
    shares: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    area: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomizationFigures:
    """How much a method's maps depend on what the network learned."""

    cases: int
    emprt: Interval | None
    #: Mean rank correlation over stages and cases: 1 does not depend on it.
    smprt: float
    #: Mean of each stage, [K + 1], from 1 for the network as it is.
    similarity: tuple[float, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one explanation takes beyond the prediction."""

    seconds: float
    forwards: float
    backwards: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainerFigures:
    """All figures of one method or control."""

    name: str
    is_control: bool
    #: Maps that were made, and that could not be made.
    maps: int
    failed: int
    #: Why, of the first that could not.
    problem: str = ""
    layer: str | None = None
    measures: Mapping[str, Interval] = field(default_factory=dict)
    insertion: CurveFigures | None = None
    deletion: CurveFigures | None = None
    randomization: RandomizationFigures | None = None
    costs: Costs | None = None
    warnings: tuple[str, ...] = ()


def figures_of(records: Sequence[CaseRecord], name: str, *, seed: int) -> ExplainerFigures:
    """Return the figures of one method or control, each with its interval."""
    all_maps = [each for record in records for each in record.maps if each.name == name]
    maps = [each for each in all_maps if not each.problem]
    problems = [each.problem for each in all_maps if each.problem]
    layers = [each.layer for each in maps if each.layer]
    is_control = name in CONTROLS
    return ExplainerFigures(
        name=name,
        is_control=is_control,
        maps=len(maps),
        failed=len(problems),
        problem=problems[0] if problems else "",
        layer=max(set(layers), key=layers.count) if layers else None,
        measures=_intervals(maps, seed=seed),
        insertion=_curve([each.insertion for each in maps if each.insertion], seed=seed),
        deletion=_curve([each.deletion for each in maps if each.deletion], seed=seed, falling=True),
        randomization=None if is_control else _randomization(records, name, seed=seed),
        costs=None if is_control or not maps else _costs(maps),
        warnings=tuple(dict.fromkeys(w for each in maps for w in each.warnings)),
    )


def values_of(records: Sequence[CaseRecord], name: str, measure: str) -> dict[str, float]:
    """Return case to value of one measure of one map, where there is one."""
    found = {record.case: record.map_of(name) for record in records}
    return {
        case: each.measures[measure]
        for case, each in found.items()
        if each is not None and measure in each.measures
    }


def paired_difference(
    one: Mapping[str, float], other: Mapping[str, float], *, seed: int
) -> Interval | None:
    """Return one less the other over the cases that have both; None if these are too few."""
    both = sorted(set(one) & set(other))
    if len(both) < LEAST_CASES:
        return None
    differences = np.array([one[case] - other[case] for case in both])
    return bootstrap_interval(differences, generator=np.random.default_rng(seed))


def interval_of(
    cases: NDArray[np.floating],
    *,
    seed: int,
    statistic: Callable[[NDArray[np.floating]], float] = np.mean,
) -> Interval | None:
    """Return a figure with its interval, which is NaN of too few cases; None of no case."""
    if not len(cases):
        return None
    if len(cases) < LEAST_CASES:
        return Interval(estimate=float(statistic(cases)), low=math.nan, high=math.nan)
    return bootstrap_interval(cases, generator=np.random.default_rng(seed), statistic=statistic)


def _intervals(maps: Sequence[MapRecord], *, seed: int) -> dict[str, Interval]:
    found = {}
    for name in MEASURES:
        values = np.array([each.measures[name] for each in maps if name in each.measures])
        interval = interval_of(values, seed=seed)
        if interval is not None:
            found[name] = interval
    return found


def _curve(
    curves: Sequence[Sequence[float]], *, seed: int, falling: bool = False
) -> CurveFigures | None:
    """Return the mean curve, relative to the mean image and the mean blurred image.

    Means are divided and not quotients averaged: an image that the target hardly prefers to its
    blur would outweigh all others.
    """
    scores = np.array(curves, dtype=np.float64)
    if len(scores) < LEAST_CASES:
        return None
    begin, end = (-1, 0) if falling else (0, -1)
    shares = np.linspace(0.0, 1.0, scores.shape[1])

    def relative(cases: NDArray[np.floating]) -> NDArray[np.floating]:
        mean = cases.mean(axis=-2)
        low, high = mean[..., begin, None], mean[..., end, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(high > low, (mean - low) / (high - low), np.nan)

    if not np.isfinite(relative(scores)).all():
        return None
    generator = np.random.default_rng(seed)
    draws = relative(scores[generator.integers(len(scores), size=(RESAMPLES, len(scores)))])
    areas = np.trapezoid(draws, shares, axis=1)
    low, high = np.nanquantile(draws, (0.025, 0.975), axis=0)
    area_low, area_high = np.nanquantile(areas, (0.025, 0.975))
    return CurveFigures(
        cases=len(scores),
        shares=tuple(shares.tolist()),
        mean=tuple(relative(scores).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        area=Interval(
            estimate=float(np.trapezoid(relative(scores), shares)),
            low=float(area_low),
            high=float(area_high),
        ),
    )


def _randomization(
    records: Sequence[CaseRecord], name: str, *, seed: int
) -> RandomizationFigures | None:
    found = [
        each
        for record in records
        for each in record.randomization
        if each.name == name and not each.problem
    ]
    if not found:
        return None
    curves = np.array([each.similarity for each in found])
    rises = np.array([each.emprt for each in found if np.isfinite(each.emprt)])
    return RandomizationFigures(
        cases=len(found),
        emprt=interval_of(rises, seed=seed),
        smprt=float(curves.mean()),
        similarity=(1.0, *curves.mean(axis=0).tolist()),
        modules=found[0].modules,
    )


def _costs(maps: Sequence[MapRecord]) -> Costs:
    return Costs(
        seconds=float(np.median([each.seconds for each in maps])),
        forwards=float(np.mean([each.forwards for each in maps])),
        backwards=float(np.mean([each.backwards for each in maps])),
        peak_bytes=max(each.peak_bytes for each in maps),
    )

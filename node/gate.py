"""The gate: which heatmaps may leave, decided from their measures alone."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dicom_io.analysis import Analysis, Explanation, MeasureValue, Verdict
from node.config import GateSettings, OnFail

#: Methods that approach the model's output by steps or samples, and how far they may stay from it.
#: All others that state a residual add up exactly, but for rounding.
_APPROACHING: Mapping[str, float] = {"integrated_gradients": 0.05, "expected_gradients": 0.05}
#: Methods that always state a residual: one without it was not measured.
_ADDING_UP = frozenset(
    {*_APPROACHING, "deeplift", "deeplift_shap", "evidence", "kernel_shap", "lrp"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the gate asks of one measure."""

    measure: str
    limit: float
    #: Whether a value meets a limit.
    met: Callable[[float, float], bool]
    #: What a radiologist reads if it is not; ``{value}`` and ``{limit}`` are filled in.
    failed: str
    #: What a radiologist reads if it could not be measured.
    missing: str
    #: How value and limit are written: fewest decimals, and as what.
    decimals: int = 3
    style: str = "f"


def _at_least(value: float, limit: float) -> bool:
    return value >= limit


def _at_most(value: float, limit: float) -> bool:
    return value <= limit


def _above(value: float, limit: float) -> bool:
    return value > limit


def _below(value: float, limit: float) -> bool:
    return value < limit


INTEGRITY = Check(
    measure="integrity",
    limit=1.0,
    met=_at_least,
    failed="The heatmap is technically faulty and must not be used.",
    missing="It was not checked whether the heatmap is technically sound.",
)
RESIDUAL = Check(
    measure="residual",
    limit=1e-3,
    met=_at_most,
    failed="The heatmap does not account for the result: {value} of it is unexplained, "
    "at most {limit} is accepted.",
    missing="It was not measured how much of the result the heatmap accounts for.",
    decimals=1,
    style="%",
)
COMPREHENSIVENESS = Check(
    measure="comprehensiveness",
    # Between what maps of trained networks have and those of networks that learned nothing: on
    # phantoms most of the latter are above 0 (docs/quality.md).
    limit=0.2,
    met=_above,
    failed="Hiding the highlighted region changed the result hardly more than hiding regions "
    "elsewhere (contrast {value} of at most 1, more than {limit} is asked).",
    missing="It was not measured whether the highlighted region matters for the result.",
)
SPECIFICITY = Check(
    measure="specificity",
    # Another class loses three times as much. Of another class's map it loses nearly everything,
    # and classes that share a place are no fault of a map (docs/decisions/0017-specificity.md).
    limit=-0.5,
    met=_at_least,
    failed="Hiding the highlighted region costs another finding of the model more than this one "
    "(contrast {value} of at least -1, at least {limit} is asked).",
    missing="It was not measured whether the highlighted region matters more for another finding.",
)
STABILITY = Check(
    measure="stability",
    limit=0.7,
    met=_at_least,
    failed="The heatmap is not stable under mild noise ({value} of at most 1, at least {limit} is "
    "asked).",
    missing="It was not measured whether the heatmap is stable under mild noise.",
)
PLAUSIBILITY = Check(
    measure="plausibility",
    limit=0.8,
    met=_at_least,
    failed="Only {value} of the relevance lies inside the body, at least {limit} is asked.",
    missing="It was not measured how much of the relevance lies inside the body.",
    decimals=0,
    style="%",
)
EDGES = Check(
    measure="edges",
    limit=0.8,
    met=_below,
    failed="The heatmap is hardly more than the edges of the image (likeness {value} of at most 1, "
    "less than {limit} is asked).",
    missing="It was not measured whether the heatmap is more than the edges of the image.",
)
INTENSITY = Check(
    measure="intensity",
    limit=0.8,
    met=_below,
    failed="The heatmap is hardly more than the brightness of the image (likeness {value} of at "
    "most 1, less than {limit} is asked).",
    missing="It was not measured whether the heatmap is more than the brightness of the image.",
)
#: Checks by name of their measure, in the order in which failures are told.
CHECKS: Mapping[str, Check] = {
    check.measure: check
    for check in (
        *(INTEGRITY, RESIDUAL, COMPREHENSIVENESS, SPECIFICITY),
        *(STABILITY, PLAUSIBILITY, EDGES, INTENSITY),
    )
}
#: Asked of every heatmap that is measured at all.
_ALWAYS = frozenset({"integrity", "comprehensiveness", "edges", "intensity"})


def apply_gate(analysis: Analysis, settings: GateSettings) -> Analysis:
    """Return the analysis with a verdict on every explanation, and the limits it was held to.

    A measure that is missing or not a number fails: what was not shown is not assumed. A heatmap
    that is technically faulty is withheld whatever the route says. Where nothing is measured there
    is no other verdict than that.
    """
    judged = tuple(_judged(each, settings) for each in analysis.explanations)
    return replace(analysis, explanations=judged)


def checks_for(method: str, measured: Collection[str], settings: GateSettings) -> tuple[Check, ...]:
    """Return what is asked of an explanation, with the limits of route and model.

    Parameters
    ----------
    method
        Name of the explainer.
    measured
        Names of the measures that there are. A residual is asked of whatever states one, and of
        the methods that always do; the part inside the body where there is one; what other
        classes lose where there are some; stability where it is measured, or has a limit of its
        own.
    """
    if not settings.measure:
        return (INTEGRITY,)
    asked = _ALWAYS | ({"specificity", "plausibility", "stability", "residual"} & set(measured))
    asked |= {"stability"} & set(settings.limits)
    asked |= {"residual"} if method in _ADDING_UP else set()
    approached = {"residual": _APPROACHING[method]} if method in _APPROACHING else {}
    limits = {**approached, **settings.limits}
    return tuple(
        replace(check, limit=limits.get(name, check.limit))
        for name, check in CHECKS.items()
        if name in asked
    )


def _judged(explanation: Explanation, settings: GateSettings) -> Explanation:
    if not settings.measure and not explanation.measures:
        return explanation
    measures = _with_residual(explanation)
    values = {measure.name: measure.value for measure in measures}
    checks = checks_for(explanation.method, values, settings)
    failed = [check for check in checks if not _met(check, values)]
    if INTEGRITY in failed:
        # What is no heatmap has nothing else to be asked.
        checks, failed = (INTEGRITY,), [INTEGRITY]
    absent = (
        MeasureValue(name=check.measure, value=math.nan)
        for check in checks
        if check.measure not in values
    )
    return replace(
        explanation,
        measures=tuple(_held(measure, checks) for measure in (*measures, *absent)),
        verdict=_verdict(failed, settings),
        reasons=tuple(_reason(check, values) for check in failed),
    )


def _with_residual(explanation: Explanation) -> tuple[MeasureValue, ...]:
    """Return the measures; the residual, if only the explanation itself has it, is among them."""
    named = {measure.name for measure in explanation.measures}
    if explanation.residual is None or "residual" in named:
        return explanation.measures
    return (*explanation.measures, MeasureValue(name="residual", value=explanation.residual))


def _met(check: Check, values: Mapping[str, float]) -> bool:
    value = values.get(check.measure, math.nan)
    return math.isfinite(value) and check.met(value, check.limit)


def _held(measure: MeasureValue, checks: Sequence[Check]) -> MeasureValue:
    check = next((check for check in checks if check.measure == measure.name), None)
    if check is None:
        return measure
    return replace(measure, limit=check.limit, passed=_met(check, {measure.name: measure.value}))


def _verdict(failed: Sequence[Check], settings: GateSettings) -> Verdict:
    if not failed:
        return Verdict.PASSED
    faulty = any(check.measure == INTEGRITY.measure for check in failed)
    if faulty or settings.on_fail is OnFail.WITHHOLD:
        return Verdict.WITHHELD
    return Verdict.LABELLED


def _reason(check: Check, values: Mapping[str, float]) -> str:
    value = values.get(check.measure)
    if value is None or not math.isfinite(value):
        return check.missing
    for decimals in range(check.decimals, 16):
        said, asked = (f"{each:.{decimals}{check.style}}" for each in (value, check.limit))
        # Never rounded to the limit that the value does not meet.
        if said.removeprefix("-") != asked.removeprefix("-") or value == check.limit:
            break
    return check.failed.format(value=said, limit=asked)

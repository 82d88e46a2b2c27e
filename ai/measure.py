"""The measures of one explanation, by name, on the prepared grid where it was made."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn

from ai.body import body_mask
from ai.errors import ExplanationCancelledError, ExplanationError, MeasureError
from ai.model import Attribution, Explainer, Target
from ai.quality import integrity
from ai.quality.agreement import rank_agreement
from ai.quality.faithfulness import measure_drops
from ai.quality.plausibility import edge_correlation, intensity_correlation, plausibility
from ai.quality.robustness import stability
from ai.targets import ClassLogit
from dicom_io.analysis import Cost, Explanation, MeasureValue

#: An explanation that took more passes than these, forward and backward, is not made once more for
#: its stability unless a person has set a limit for that.
CHEAP_PASSES = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One explanation, and what its measures are taken from."""

    attribution: Attribution
    network: nn.Module
    #: float [1, C, *S].
    x: Tensor
    target: Target
    #: The same method's map of another image like ``x``.
    explain: Callable[[Tensor], Tensor]
    #: Measures with a limit that a person has set: taken whatever they cost.
    insisted: Collection[str] = ()
    seed: int = 0
    #: True: nothing that takes a pass is begun any more.
    ended: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What was measured of one explanation, and what could not be."""

    #: A value is NaN if it was to be measured and could not be.
    values: tuple[MeasureValue, ...]
    #: One sentence for each that could not be.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _WhileWanted:
    """A target that ends the work when it is asked and nobody wants the answer any more."""

    target: Target
    ended: Callable[[], bool]

    @property
    def part(self) -> tuple[str | int, ...]:
        return tuple(getattr(self.target, "part", ()))

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        _require_wanted(self.ended)
        return self.target(output, x)


def measures_of(case: Case) -> Measures:
    """Return what can be measured of an explanation.

    A map that is no explanation at all has no other measure than that, and the residual of methods
    that have one. The body is asked for where the image has air around one, the stability of what
    is cheap or insisted on, what other classes lose where there are some; all others are always
    there. It takes 4 forward passes, and what the explanation took once more.
    """
    attribution = case.attribution
    values = {"integrity": soundness(attribution, case.x)}
    if attribution.residual is not None:
        values["residual"] = float(attribution.residual.max())
    warnings = []
    for name, measure in _MEASURES.items() if values["integrity"] == 1.0 else ():
        try:
            values |= measure(case)
        except (MeasureError, ExplanationError) as error:
            values[name] = math.nan
            warnings.append(f"{name} was not measured: {error}")
    return Measures(
        values=tuple(MeasureValue(name=name, value=value) for name, value in values.items()),
        warnings=tuple(warnings),
    )


def faults_of(attribution: Attribution, x: Tensor) -> Measures:
    """Return what must be said even where nothing is measured: that a map is none. No pass."""
    sound = soundness(attribution, x)
    return Measures(values=() if sound == 1.0 else (MeasureValue(name="integrity", value=sound),))


def soundness(attribution: Attribution, x: Tensor) -> float:
    """Return 1 if the map is one: finite, not constant, on the grid of ``x``; else 0. No pass."""
    # A changed network ends the whole analysis: that is required around explanation and measures.
    return integrity.measure(attribution.values, x, before="", after="")


def with_agreement(
    explanations: Sequence[Explanation],
    families: Mapping[str, str],
    ended: Callable[[], bool] = lambda: False,
) -> tuple[Explanation, ...]:
    """Return the explanations, each with how far a method of another family says the same.

    Rank correlation on the source grid with the other explanations of the same question, the lowest
    of them: what one family alone shows is the method's rather than the network's (Krishna et al.
    2022). Nothing is said where there is no other, or one is no map. No forward pass.

    Parameters
    ----------
    families
        Of each method's name, as ``family_of`` has it.
    """
    found: dict[int, float] = {}
    for (one, first), (other, second) in combinations(enumerate(explanations), 2):
        if _comparable(first, second, families) and not ended():
            value = _rank_agreement(first, second)
            for number in (one, other):
                found[number] = min(value, found.get(number, 1.0))
    return tuple(
        replace(each, measures=(*each.measures, MeasureValue(name="agreement", value=found[n])))
        if n in found
        else each
        for n, each in enumerate(explanations)
    )


def family_of(explainer: Explainer) -> str:
    """Return what a method belongs to: those that look at the same of a network are one family."""
    return str(getattr(explainer, "needs", explainer.name))


def is_cheap(cost: Cost) -> bool:
    """Return whether an explanation took so little that it is made once more to measure it."""
    return cost.forwards + cost.backwards <= CHEAP_PASSES


def _faithfulness(case: Case) -> dict[str, float]:
    values = case.attribution.values
    if not bool((values.sum(dim=1) > 0).any()):
        # What points nowhere is needed by no class.
        return {"comprehensiveness": 0.0}
    drops = measure_drops(
        case.network,
        case.x,
        _WhileWanted(target=case.target, ended=case.ended),
        values,
        f_x=float(case.attribution.f_x[0]),
        channel=case.target.channel if isinstance(case.target, ClassLogit) else None,
    )
    others = {} if drops.specificity is None else {"specificity": drops.specificity}
    return {"comprehensiveness": drops.contrast, **others}


def _stability(case: Case) -> dict[str, float]:
    if not is_cheap(case.attribution.cost) and "stability" not in case.insisted:
        return {}
    _require_wanted(case.ended)
    generator = torch.Generator().manual_seed(case.seed)
    value = stability(case.explain, case.x, case.attribution.values, generator=generator)
    # What was ended early is another map for another reason than the noise.
    _require_wanted(case.ended)
    return {"stability": float(value)}


def _plausibility(case: Case) -> dict[str, float]:
    body = body_mask(case.x)
    if body is None:
        return {}
    return {"plausibility": float(plausibility(case.attribution.values, body))}


def _edges(case: Case) -> dict[str, float]:
    return {"edges": float(edge_correlation(case.attribution.values, case.x))}


def _intensity(case: Case) -> dict[str, float]:
    return {"intensity": float(intensity_correlation(case.attribution.values, case.x))}


#: What measures a sound map, in the order in which it is told: values by name, none where there is
#: nothing to say. The name is that of what is missing if it could not be measured.
_MEASURES: Mapping[str, Callable[[Case], Mapping[str, float]]] = {
    "comprehensiveness": _faithfulness,
    "stability": _stability,
    "plausibility": _plausibility,
    "edges": _edges,
    "intensity": _intensity,
}


def _require_wanted(ended: Callable[[], bool]) -> None:
    if ended():
        raise ExplanationCancelledError("the time for explaining was over")


def _comparable(one: Explanation, other: Explanation, families: Mapping[str, str]) -> bool:
    return (
        (one.target, one.against) == (other.target, other.against)
        and families[one.method] != families[other.method]
        and _is_sound(one)
        and _is_sound(other)
    )


def _is_sound(explanation: Explanation) -> bool:
    return any(m.name == "integrity" and m.value == 1.0 for m in explanation.measures)


def _rank_agreement(one: Explanation, other: Explanation) -> float:
    maps = (torch.from_numpy(each.heatmap.relevance.sum(axis=0)) for each in (one, other))
    first, second = (each[None, None] for each in maps)
    return float(rank_agreement(first, second))

"""One map of one case to numbers: the gate's own measures, and what only known cases allow."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ai.card.cases import CardSettings, Depth
from ai.card.maps import Explain, on_source
from ai.card.questions import Question
from ai.errors import MeasureError
from ai.measure import Case, measures_of
from ai.model import Attribution
from ai.quality.complexity import effective_complexity, gini
from ai.quality.curves import Curve, deletion_curve, insertion_curve
from ai.quality.faithfulness import sufficiency
from ai.quality.localization import (
    hit_rate,
    iou_at_otsu,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)

#: What can be said only where the place is known, from 0 (bad) to 1 (good).
LOCALIZATION = {
    "pointing": pointing_game,
    "mass": relevance_mass_accuracy,
    "rank": relevance_rank_accuracy,
    "iou": iou_at_otsu,
    "hit": hit_rate,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one map."""

    values: dict[str, float]
    insertion: tuple[float, ...] = ()
    deletion: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()


def measured(
    attribution: Attribution,
    explain: Explain,
    question: Question,
    settings: CardSettings,
    depth: Depth,
) -> Measured:
    """Return every measure of a map; one that cannot be taken is left out, with a warning.

    The gate's measures are those of ``ai.measure``, so that limits drawn from them are limits of
    the very same numbers.
    """
    x, values = question.view.tensor, attribution.values
    found = measures_of(
        Case(
            attribution=attribution,
            network=question.network,
            x=x.clone(),
            target=question.target,
            explain=explain,
            insisted=frozenset({"stability"}),
            seed=question.seed,
            ended=lambda: not settings.passes,
        )
    )
    numbers = {each.name: each.value for each in found.values}
    warnings = found.warnings if settings.passes else ()
    if numbers.get("integrity") != 1.0:
        return Measured(values=_finite(numbers), warnings=warnings)
    numbers |= {"gini": float(gini(values)), "extent": float(effective_complexity(values))}
    numbers |= _localized(attribution, question)
    if not (settings.passes and depth.curves):
        return Measured(values=_finite(numbers), warnings=warnings)
    came, went = _curves(attribution, question, settings)
    numbers |= {
        "sufficiency": sufficiency(question.network, x, question.target, values),
        "insertion": float(came.relative_area),
        "deletion": float(went.relative_area),
    }
    return Measured(
        values=_finite(numbers),
        insertion=tuple(came.scores[0].tolist()),
        deletion=tuple(went.scores[0].tolist()),
        warnings=warnings,
    )


def _localized(attribution: Attribution, question: Question) -> dict[str, float]:
    if question.truth is None:
        return {}
    relevance = on_source(attribution.values, question)
    found = {}
    for name, measure in LOCALIZATION.items():
        try:
            found[name] = measure(relevance, question.truth)
        except MeasureError:
            found[name] = math.nan
    return found


def _curves(
    attribution: Attribution, question: Question, settings: CardSettings
) -> tuple[Curve, Curve]:
    came, went = (
        draw(
            question.network,
            question.view.tensor,
            question.target,
            attribution.values,
            generator=torch.Generator().manual_seed(question.seed),
            steps=settings.steps,
        )
        for draw in (insertion_curve, deletion_curve)
    )
    return came, went


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}

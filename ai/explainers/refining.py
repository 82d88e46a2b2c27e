"""Refining a quadrature until its values sum to what the target gained, and not by chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ai.explainers.axioms import completeness_residual, relative_to_gain
from ai.explainers.metering import Meter
from ai.model import Attribution
from dicom_io.analysis import Cost


class Rule(Protocol):
    """A rule that integrates gradients for one entry, as finely as it was refined so far."""

    @property
    def points(self) -> int:
        """How many steps or samples the rule has; it takes as many more passes to double them."""
        ...

    def values(self) -> Tensor:
        """Return the attribution of the finest rule that is finished, [1, C, *S]."""
        ...

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the target at the baseline and at the image, [1] each."""
        ...

    def errors(self) -> Tensor:
        """Return what each part of the rule is off by, [N]; together they are the residual."""
        ...

    def refine(self) -> bool:
        """Double the points; False, and all as it was, if the caller cancelled meanwhile."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """What the finest rule gave for one entry."""

    values: Tensor
    f_baseline: Tensor
    f_x: Tensor
    points: int
    warning: str


def refined(rule: Rule, meter: Meter, *, tolerance: float, most: int, unit: str) -> Refined:
    """Return the answer of a rule that was refined until it is complete within the tolerance.

    Errors of different sign cancel by chance on a network with ReLUs, so that a coarse rule may
    seem complete. The root of the sum of their squares, which is what to expect of their sum if
    the signs are random, must be within the tolerance too.

    Parameters
    ----------
    tolerance
        Relative to what the target gained.
    most
        Points not to exceed.
    unit
        What points are called in a warning.
    """
    while True:
        values, (f_baseline, f_x) = rule.values(), rule.ends()
        residual = float(completeness_residual(values, f_x, f_baseline))
        scatter = float(relative_to_gain(rule.errors().norm(), f_x, f_baseline))
        warning = ""
        if max(residual, scatter) > tolerance:
            reason = _reason_to_stop(rule, meter, most, unit)
            if not reason and rule.refine():
                continue
            warning = f"residual {residual:.2g} after {rule.points} {unit}, wanted {tolerance:.2g}"
            if residual <= tolerance:
                warning = f"{warning}, but by chance: single errors make {scatter:.2g}"
            warning = f"{warning} ({reason or 'cancelled'})"
        return Refined(
            values=values, f_baseline=f_baseline, f_x=f_x, points=rule.points, warning=warning
        )


def gathered(
    found: Sequence[Refined], *, method: str, baseline: str, seed: int | None, cost: Cost
) -> Attribution:
    """Return the attribution of a batch from those of its entries, with its residual."""
    values, f_x, f_baseline = (
        torch.cat([getattr(each, part) for each in found])
        for part in ("values", "f_x", "f_baseline")
    )
    return Attribution(
        values=values.float(),
        f_x=f_x,
        f_baseline=f_baseline,
        residual=completeness_residual(values, f_x, f_baseline),
        method=method,
        layer=None,
        baseline=baseline,
        seed=seed,
        cost=cost,
        warnings=tuple(dict.fromkeys(each.warning for each in found if each.warning)),
    )


def _reason_to_stop(rule: Rule, meter: Meter, most: int, unit: str) -> str:
    if 2 * rule.points > most:
        return f"the most {unit} are reached"
    return "" if meter.affords(rule.points) else "the budget is spent"

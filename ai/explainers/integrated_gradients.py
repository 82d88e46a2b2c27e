"""Integrated gradients: the gradient averaged on the way from a baseline to the image.

Sundararajan, Taly and Yan 2017. The method is complete: its values sum to what the target gained
on the way. How nearly they do is the residual, and the number of steps follows it.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.baselines import baseline_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.explainers.refining import gathered, refined
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegratedGradients:
    """Integrated gradients by a trapezoid rule that is refined until it is complete enough.

    Steps double from ``first_steps``; every gradient of a coarser rule is a point of the finer
    one, so nothing is computed twice. The end points are among them and give the target's values
    for free. (captum computes a fixed number of steps anew each time.)

    Complete enough is a rule whose residual is within ``tolerance`` and not by chance, see
    ``refined``: what each step is off by, the target's values along the way tell for free.
    """

    name: str = field(default="integrated_gradients", init=False)
    needs: ClassVar[Needs] = Needs.GRADIENT
    passes: ClassVar[str] = "9 to 257 forward and backward"
    #: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"
    #: Relative residual to stop at.
    tolerance: float = 0.01
    first_steps: int = 8
    most_steps: int = 256
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.most_steps < self.first_steps:
            raise ValueError(
                f"steps go from {self.first_steps} to {self.most_steps}, expected 1 or more first "
                "and no fewer at most"
            )
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}, expected a share above 0")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes at most; an easy image takes ``first_steps`` + 1."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        passes = float((self.most_steps + 1) * x.shape[0])
        return Cost(
            forwards=passes, backwards=passes, peak_bytes=fit.peak_bytes(self.most_steps + 1)
        )

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the attribution [B, C, *S] of ``target``, with its residual.

        Every entry of the batch is refined by itself. A budget or a cancellation ends the
        refinement; the result is that of the last finished rule, and a warning says how far it
        came.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if not
            even the first rule is affordable, ExplanationCancelledError if it was cancelled in it;
            UndifferentiableError if the target has no gradient at the input.
        """
        least = (self.first_steps + 1) * x.shape[0]
        require_forwards(settings, least, self.name)
        probe, plain = probed(
            network, x, target, settings, memory_bytes=self.memory_bytes, expected=least
        )
        start, baseline = baseline_of(self.baseline, probe.network, plain, settings)
        found = []
        for entry in range(x.shape[0]):
            probe.meter.allot(x.shape[0] - entry)
            here = slice(entry, entry + 1)
            path = _Path(probe, plain[here], start[here], self.first_steps)
            found.append(
                refined(
                    path,
                    probe.meter,
                    tolerance=self.tolerance,
                    most=self.most_steps,
                    unit="steps",
                )
            )
        probe.meter.finish()
        most = max(each.points for each in found)
        return gathered(
            found,
            method=self.name,
            baseline=f"{baseline}, {most} steps",
            seed=None,
            cost=probe.cost(widest=most + 1, backwards=probe.meter.spent),
        )


class _Path:
    """The straight way from a baseline to an image, one entry each, by the trapezoid rule.

    Raises
    ------
    ExplanationCancelledError
        If the caller cancelled in the first rule.
    """

    def __init__(self, probe: Probe, x: Tensor, start: Tensor, steps: int) -> None:
        self._probe = probe
        self._start, self._way = start, x - start
        #: By point from 0 to 1: the target there, and how fast it grows along the way.
        self._seen: dict[float, tuple[Tensor, Tensor]] = {}
        #: Sum of the gradients; those of the two ends count half.
        self._total = torch.zeros_like(x)
        self.points = steps
        if not self._visited([step / steps for step in range(steps + 1)]):
            raise ExplanationCancelledError(
                f"integrated_gradients: cancelled in the first {steps} steps"
            )

    def values(self) -> Tensor:
        return self._way * (self._total / self.points)

    def ends(self) -> tuple[Tensor, Tensor]:
        return self._seen[0.0][0][None], self._seen[1.0][0][None]

    def errors(self) -> Tensor:
        seen = [self._seen[point] for point in sorted(self._seen)]
        values, slopes = (torch.stack(each).double() for each in zip(*seen, strict=True))
        return (slopes[1:] + slopes[:-1]) / (2 * self.points) - values.diff()

    def refine(self) -> bool:
        finer = 2 * self.points
        if not self._visited([step / finer for step in range(1, finer, 2)]):
            return False
        self.points = finer
        return True

    def _visited(self, points: list[float]) -> bool:
        """Return whether all points could be visited; else nothing is changed."""
        total, seen = torch.zeros_like(self._total), {}
        for part in self._probe.parts(len(points)):
            places = torch.cat([self._start + point * self._way for point in points[part]])
            values, gradients = self._probe.gradients(places)
            for point, gradient, value in zip(points[part], gradients, values, strict=True):
                total += gradient * (0.5 if point in {0.0, 1.0} else 1.0)
                seen[point] = (value, (gradient * self._way).sum(dtype=torch.float64))
        if len(seen) < len(points):
            return False
        self._total += total
        self._seen |= seen
        return True

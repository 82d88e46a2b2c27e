"""Integrated gradients: the gradient averaged on the way from a baseline to the image.

Sundararajan, Taly and Yan 2017. The method is complete: its values sum to what the target gained
on the way. How nearly they do is the residual, and the number of steps follows it.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.axioms import completeness_residual, relative_to_gain
from ai.explainers.baselines import baseline_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegratedGradients:
    """Integrated gradients by a trapezoid rule that is refined until it is complete enough.

    Steps double from ``first_steps``; every gradient of a coarser rule is a point of the finer
    one, so nothing is computed twice. The end points are among them and give the target's values
    for free. (captum computes a fixed number of steps anew each time.)

    Complete enough is a rule whose residual is within ``tolerance`` and not by chance: the errors
    of its steps, whose signs differ on a network with ReLUs, must not merely have cancelled. The
    target's values along the way tell them for free.
    """

    name: str = field(default="integrated_gradients", init=False)
    needs: ClassVar[Needs] = Needs.GRADIENT
    passes: ClassVar[str] = "9 to 257 forward and backward"
    #: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"
    #: To stop at: of the relative residual, and of the root of the sum of the squared errors of
    #: all steps, in the same unit.
    tolerance: float = 0.01
    first_steps: int = 8
    most_steps: int = 256
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

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
        refined = []
        for entry in range(x.shape[0]):
            probe.meter.allot(x.shape[0] - entry)
            here = slice(entry, entry + 1)
            refined.append(self._refined(_Path(probe, plain[here], start[here])))
        probe.meter.finish()
        f_baseline, f_x = (torch.cat(ends) for ends in zip(*(r.ends for r in refined), strict=True))
        values = torch.cat([each.values for each in refined])
        most = max(each.steps for each in refined)
        return Attribution(
            values=values.float(),
            f_x=f_x,
            f_baseline=f_baseline,
            residual=completeness_residual(values, f_x, f_baseline),
            method=self.name,
            layer=None,
            baseline=f"{baseline}, {most} steps",
            seed=None,
            cost=probe.cost(widest=most + 1, backwards=probe.meter.spent),
            warnings=tuple(dict.fromkeys(each.warning for each in refined if each.warning)),
        )

    def _refined(self, path: "_Path") -> "_Refined":
        steps = self.first_steps
        total = path.gradients([step / steps for step in range(steps + 1)])
        if total is None:
            raise ExplanationCancelledError(f"{self.name}: cancelled in the first {steps} steps")
        while True:
            rule = _Refined(values=path.way * (total / steps), ends=path.ends(), steps=steps)
            residual, scatter = rule.residual(), path.scatter()
            if max(residual, scatter) <= self.tolerance:
                return rule
            reason = self._reason_to_stop(path, steps)
            finer = None
            if not reason:
                finer = path.gradients([step / (2 * steps) for step in range(1, 2 * steps, 2)])
            if finer is None:
                told = f"residual {residual:.2g} after {steps} steps, wanted {self.tolerance:.2g}"
                if residual <= self.tolerance:
                    told = f"{told}, but by chance: the errors of the steps make {scatter:.2g}"
                return replace(rule, warning=f"{told} ({reason or 'cancelled'})")
            total, steps = total + finer, 2 * steps

    def _reason_to_stop(self, path: "_Path", steps: int) -> str:
        if 2 * steps > self.most_steps:
            return "the most steps are reached"
        return "" if path.probe.meter.affords(steps) else "the budget is spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refined:
    """What the finest rule gave for one entry."""

    values: Tensor
    #: The target at the baseline and at the image, [1] each.
    ends: tuple[Tensor, Tensor]
    steps: int
    warning: str = ""

    def residual(self) -> float:
        f_baseline, f_x = self.ends
        return float(completeness_residual(self.values, f_x, f_baseline))


class _Path:
    """The straight way from a baseline to an image, one entry each, and the target along it."""

    def __init__(self, probe: Probe, x: Tensor, start: Tensor) -> None:
        self.probe = probe
        self._start, self.way = start, x - start
        #: By point from 0 to 1: the target there, and how fast it grows along the way.
        self._seen: dict[float, tuple[Tensor, Tensor]] = {}

    def gradients(self, points: list[float]) -> Tensor | None:
        """Return the sum of the gradients at points from 0 to 1, both of which count half.

        None if the caller cancelled in between.
        """
        total, visited = torch.zeros_like(self.way), 0
        for part in self.probe.parts(len(points)):
            places = torch.cat([self._start + point * self.way for point in points[part]])
            values, gradients = self.probe.gradients(places)
            for point, gradient, value in zip(points[part], gradients, values, strict=True):
                total += gradient * (0.5 if point in {0.0, 1.0} else 1.0)
                self._seen[point] = (value, (gradient * self.way).sum(dtype=torch.float64))
            visited = part.stop
        return total if visited == len(points) else None

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the target at the baseline and at the image, [1] each."""
        return self._seen[0.0][0][None], self._seen[1.0][0][None]

    def scatter(self) -> float:
        """Return the root of the sum of the squared errors of all steps, relative to the gain.

        What the residual of the rule is expected to be if the errors' signs are random.
        """
        seen = [self._seen[point] for point in sorted(self._seen)]
        values, slopes = (torch.stack(each).double() for each in zip(*seen, strict=True))
        errors = (slopes[1:] + slopes[:-1]) / (2 * (len(seen) - 1)) - values.diff()
        f_baseline, f_x = self.ends()
        return float(relative_to_gain(errors.norm(), f_x, f_baseline))

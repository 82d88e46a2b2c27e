"""Integrated gradients: the gradient averaged on the way from a baseline to the image.

Sundararajan, Taly and Yan 2017. The method is complete: its values sum to what the target gained
on the way. How nearly they do is the residual, and the number of steps follows it.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError, UnsuitableLayerError
from ai.explainers.admission import (
    DEFAULTS,
    admit,
    differentiating,
    evaluate,
    require_forwards,
)
from ai.explainers.axioms import completeness_residual
from ai.explainers.baselines import baseline_of
from ai.explainers.metering import Meter, fit_into
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegratedGradients:
    """Integrated gradients by a trapezoid rule that is refined until it is complete enough.

    Steps double from ``first_steps``; every gradient of a coarser rule is a point of the finer
    one, so nothing is computed twice. The end points are among them and give the target's values
    for free. (captum computes a fixed number of steps anew each time.)
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

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes at most; an easy image takes ``first_steps`` + 1."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        return self._cost(self.most_steps + 1, fit.peak_bytes(self.most_steps * x.shape[0]))

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the attribution [B, C, *S] of ``target``, with its residual.

        A budget or a cancellation ends the refinement; the result is that of the last finished
        rule, and a warning says how far it came.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if not
            even the first rule is affordable, ExplanationCancelledError if it was cancelled in it;
            UnsuitableLayerError if the target has no gradient at the input.
        """
        require_forwards(settings, self.first_steps + 1, self.name)
        frozen, plain = admit(network, x)
        start, baseline = baseline_of(self.baseline, frozen, plain, settings)
        fit = fit_into(self.memory_bytes, frozen, plain)
        path = _Path(
            network=frozen,
            start=start,
            way=plain - start,
            target=target,
            points_at_once=max(1, fit.entries // plain.shape[0]),
            meter=Meter(settings.budget, self.first_steps + 1),
        )
        values, steps, warning = self._refined(path)
        f_baseline, f_x = path.ends
        return Attribution(
            values=values.float(),
            f_x=f_x,
            f_baseline=f_baseline,
            residual=completeness_residual(values, f_x, f_baseline),
            method=self.name,
            layer=None,
            baseline=f"{baseline}, {steps} steps",
            seed=None,
            cost=self._cost(path.meter.spent, fit.peak_bytes(steps * plain.shape[0])),
            warnings=warning,
        )

    def _cost(self, passes: int, peak_bytes: int) -> Cost:
        return Cost(forwards=float(passes), backwards=float(passes), peak_bytes=peak_bytes)

    def _refined(self, path: "_Path") -> tuple[Tensor, int, tuple[str, ...]]:
        steps = self.first_steps
        total = path.gradients([step / steps for step in range(steps + 1)])
        if total is None:
            raise ExplanationCancelledError(f"{self.name}: cancelled in the first {steps} steps")
        while True:
            values = path.way * (total / steps)
            residual = float(completeness_residual(values, path.ends[1], path.ends[0]).max())
            if residual <= self.tolerance:
                return values, steps, ()
            reason = self._reason_to_stop(path, steps)
            finer = None
            if not reason:
                finer = path.gradients([step / (2 * steps) for step in range(1, 2 * steps, 2)])
            if finer is None:
                told = f"residual {residual:.2g} after {steps} steps, wanted {self.tolerance:.2g}"
                return values, steps, (f"{told} ({reason or 'cancelled'})",)
            total, steps = total + finer, 2 * steps

    def _reason_to_stop(self, path: "_Path", steps: int) -> str:
        if 2 * steps > self.most_steps:
            return "the most steps are reached"
        return "" if path.meter.affords(steps) else "the budget is spent"


class _Path:
    """The straight way from a baseline to an image, and the target along it."""

    def __init__(
        self,
        *,
        network: nn.Module,
        start: Tensor,
        way: Tensor,
        target: Target,
        points_at_once: int,
        meter: Meter,
    ) -> None:
        self._network, self._target = network, target
        self._start, self.way = start, way
        self._points_at_once = points_at_once
        self.meter = meter
        #: The target at the baseline and at the image, [B] each, once they were visited.
        self.ends = (way.new_zeros(0), way.new_zeros(0))

    def gradients(self, points: list[float]) -> Tensor | None:
        """Return the sum of the gradients at points from 0 to 1, both of which count half.

        None if the caller cancelled in between.
        """
        total = torch.zeros_like(self.way)
        for first in range(0, len(points), self._points_at_once):
            if self.meter.cancelled:
                return None
            chunk = points[first : first + self._points_at_once]
            gradients, values = self._at(chunk)
            for point, gradient, value in zip(chunk, gradients, values, strict=True):
                total += gradient * (0.5 if point in {0.0, 1.0} else 1.0)
                self._note_end(point, value)
            self.meter.spend(len(chunk))
        return total

    def _at(self, points: list[float]) -> tuple[Tensor, Tensor]:
        places = torch.cat([self._start + point * self.way for point in points])
        with differentiating():
            leaf = places.requires_grad_()
            # A network may work in place on what it is given, but autograd keeps leaves from that.
            values = evaluate(self._target, self._network(leaf.clone()), leaf)
            if not values.requires_grad:
                raise UnsuitableLayerError("the target has no gradient at the input")
            (gradients,) = torch.autograd.grad(values.sum(), leaf)
        shape = (len(points), *self.way.shape)
        return gradients.reshape(shape), values.detach().reshape(len(points), -1)

    def _note_end(self, point: float, value: Tensor) -> None:
        if point == 0.0:
            self.ends = (value, self.ends[1])
        elif point == 1.0:
            self.ends = (self.ends[0], value)

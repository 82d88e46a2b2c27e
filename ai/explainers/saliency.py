"""Saliency: where the target is most sensitive to the image (Simonyan, Vedaldi, Zisserman 2014)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.metering import fit_into
from ai.explainers.probing import probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Saliency:
    """The gradient of the target at the image, or its size.

    The size, as published, is the default. The gradient's sign says whether *brightening* a voxel
    raises the target, not whether the voxel speaks for it: dark evidence has a negative gradient,
    and what is negative is not painted. No axiom ties the values to the target.
    """

    name: str = field(default="saliency", init=False)
    needs: ClassVar[Needs] = Needs.GRADIENT
    passes: ClassVar[str] = "1 forward, 1 backward"
    #: Whether values are sizes, so that none is negative.
    absolute: bool = True
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        passes, peak_bytes = float(x.shape[0]), fit.peak_bytes(x.shape[0])
        return Cost(forwards=passes, backwards=passes, peak_bytes=peak_bytes)

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the gradient of ``target`` at the image, [B, C, *S].

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BudgetError,
            ExplanationCancelledError; UndifferentiableError if the target has no gradient at the
            input.
        """
        count = x.shape[0]
        require_forwards(settings, count, self.name)
        probe, plain = probed(
            network, x, target, settings, memory_bytes=self.memory_bytes, expected=count
        )
        found = [probe.gradients(plain[part]) for part in probe.parts(count)]
        if probe.meter.spent < count:
            raise ExplanationCancelledError(f"{self.name}: cancelled before the gradient was there")
        f_x, gradients = (torch.cat(each) for each in zip(*found, strict=True))
        return Attribution(
            values=(gradients.abs() if self.absolute else gradients).float(),
            f_x=f_x,
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=None,
            seed=None,
            cost=probe.cost(widest=count, backwards=count),
        )

"""DeepLIFT on any network that calls torch's functions, and its mean over references.

Shrikumar, Greenside and Kundaje 2017; the mean over references estimates SHAP values (Lundberg and
Lee 2017), here without sampling and exactly complete.
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
    require_transparent,
)
from ai.explainers.axioms import completeness_residual, incompleteness_warning
from ai.explainers.baselines import baseline_of, reference_set
from ai.explainers.deeplift_rules import FORMS, Slopes, Tape
from ai.explainers.functions import Intercepted, without_custom_gradients
from ai.explainers.metering import Meter, fit_into
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: Passes of one reference: the network on it, and on the image with slopes.
_FORWARDS = 2
#: The way back, and what slopes take beside it.
_BACKWARDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepLIFT:
    """What each voxel's difference to a baseline contributed, by slopes instead of derivatives."""

    name: str = field(default="deeplift", init=False)
    needs: ClassVar[Needs] = Needs.FUNCTIONS
    passes: ClassVar[str] = "2 forward, 2 backward"
    #: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes."""
        require_transparent(network, self.name)
        return _cost(network, x, references=1)

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the contributions [B, C, *S], which sum to what the target gained.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, OpaqueNetworkError, TargetError, BaselineError,
            BudgetError or ExplanationCancelledError; UndifferentiableError if an operation has no
            gradient or the network takes another way on the baseline; UnsuitableLayerError if the
            target does not depend on the input.
        """
        require_transparent(network, self.name)
        require_forwards(settings, _FORWARDS * x.shape[0], self.name)
        frozen, plain = admit(network, x)
        start, name = baseline_of(self.baseline, frozen, plain, settings)
        return _explained(frozen, plain, start[:, None], target, _Asked(self.name, name, settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepLIFTSHAP:
    """DeepLIFT averaged over a set of references: a deterministic estimate of SHAP values."""

    name: str = field(default="deeplift_shap", init=False)
    needs: ClassVar[Needs] = Needs.FUNCTIONS
    passes: ClassVar[str] = "16 forward, 16 backward"
    #: How many references are made where none are given.
    references: int = 8

    def __post_init__(self) -> None:
        if self.references < 1:
            raise ValueError(f"references must be at least 1, got {self.references}")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes with references of its own."""
        require_transparent(network, self.name)
        return _cost(network, x, references=self.references)

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the mean contributions [B, C, *S] over ``settings.baseline`` [N, C, *S].

        A budget or a cancellation ends it after some of the references, and a warning says after
        how many. Raises as ``DeepLIFT.explain``.
        """
        require_transparent(network, self.name)
        require_forwards(settings, _FORWARDS * x.shape[0], self.name)
        frozen, plain = admit(network, x)
        generator = settings.generator or torch.Generator().manual_seed(0)
        seed = generator.initial_seed()
        references, name = reference_set(
            frozen, plain, settings, count=self.references, generator=generator
        )
        return _explained(
            frozen, plain, references, target, _Asked(self.name, name, settings, seed)
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an explanation carries through from its caller."""

    method: str
    baseline: str
    settings: Settings
    seed: int | None = None


def _explained(
    network: nn.Module, x: Tensor, references: Tensor, target: Target, asked: _Asked
) -> Attribution:
    """Return the mean over references [B, N, C, *S], as many of them as budget and caller allow."""
    plain = without_custom_gradients(network)
    count = references.shape[1]
    passes = _FORWARDS * x.shape[0]
    meter = Meter(asked.settings.budget, passes * count)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    strangers: dict[str, None] = {}
    for number in range(count):
        if meter.cancelled or not meter.affords(passes):
            break
        found.append(contributions(plain, x, references[:, number], target, strangers))
        meter.spend(passes)
    if not found:
        raise ExplanationCancelledError(f"{asked.method}: cancelled before the first reference")
    meter.finish()
    values, f_x, f_baseline = (torch.stack(parts).mean(dim=0) for parts in zip(*found, strict=True))
    residual = completeness_residual(values, f_x, f_baseline)
    ended = f"{len(found)} of {count} references: the budget or the caller ended it"
    return Attribution(
        values=values.float(),
        f_x=f_x,
        f_baseline=f_baseline,
        residual=residual,
        method=asked.method,
        layer=None,
        baseline=asked.baseline,
        seed=asked.seed,
        cost=_spent(passes * len(found)),
        warnings=(
            *((ended,) if len(found) < count else ()),
            *incompleteness_warning(residual, list(strangers)),
        ),
    )


def contributions(
    network: nn.Module, x: Tensor, reference: Tensor, target: Target, strangers: dict[str, None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - x0) times its slope, [B, C, *S], and the target at x and at x0, [B] each.

    Parameters
    ----------
    network
        Frozen, without custom autograd functions.
    x, reference
        float [B, C, *S].
    strangers
        Gets the names of functions that have no rule, and were followed by their derivative.
    """
    tape = Tape()
    with differentiating(), torch.no_grad(), Intercepted(tape.answer, FORMS):
        f_baseline = evaluate(target, network(reference.clone()), reference)
    with differentiating():
        leaf = x.clone().requires_grad_()
        slopes = Slopes(tape)
        with Intercepted(slopes.answer, FORMS):
            # A network may work in place on what it is given, but not on a leaf.
            f_x = evaluate(target, network(leaf.clone()), leaf)
        if not f_x.requires_grad:
            raise UnsuitableLayerError("the target does not depend on the input")
        (slope,) = torch.autograd.grad(f_x.sum(), leaf)
    strangers.update(slopes.strangers)
    return (x - reference) * slope, f_x.detach(), f_baseline.detach()


def _cost(network: nn.Module, x: Tensor, *, references: int) -> Cost:
    fit = fit_into(0, *admit(network, x))
    spent = _spent(_FORWARDS * x.shape[0] * references)
    # The reference's values are kept beside the graph of the image.
    return Cost(
        forwards=spent.forwards,
        backwards=spent.backwards,
        peak_bytes=2 * fit.entry_bytes * x.shape[0],
    )


def _spent(forwards: int) -> Cost:
    return Cost(forwards=float(forwards), backwards=float(forwards * _BACKWARDS // _FORWARDS))

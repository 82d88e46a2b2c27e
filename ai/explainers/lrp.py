"""Layer-wise relevance propagation on any network that calls torch's functions.

Bach et al. 2015. One forward pass in which each function has the gradient of its rule, then one
backward pass: relevance is the image times the gradient that arrives there.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

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
from ai.explainers.axioms import conservation_residual, incompleteness_warning
from ai.explainers.functions import Intercepted, Ruled, without_custom_gradients
from ai.explainers.lrp_linear import Epsilon, Gamma, LinearRule, ZPlus, own_gradient
from ai.explainers.lrp_rules import UNDERSTOOD, Ledger, rules_for
from ai.explainers.metering import Meter, fit_into
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: By name, as routes write them.
RULES = ("gamma", "epsilon", "zplus", "cp", "attn")
#: Of the network's sums each way: the rule's own beside the output.
_PASSES = {"gamma": 2, "zplus": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class LRP:
    """Relevance handed back through the network by rules, none of it lost on the way.

    ``gamma`` favors what speaks for an output, and gives the clearest maps on convolutional
    networks; ``epsilon`` drops what is weak; ``zplus`` follows positive contributions alone; ``cp``
    keeps attention weights constant and takes each layer's own gradient; ``attn`` also follows
    them. All but ``attn`` treat attention as ``cp`` does.
    """

    name: str = field(default="lrp", init=False)
    needs: ClassVar[Needs] = Needs.FUNCTIONS
    passes: ClassVar[str] = "2 forward, 2 backward"
    #: ``"gamma"``, ``"epsilon"``, ``"zplus"``, ``"cp"`` or ``"attn"``.
    rule: str = "gamma"
    #: How much contributions of an output's own sign are favored, by rule ``gamma``.
    gamma: float = 0.25
    #: Share of a layer's root mean square output that rule ``epsilon`` absorbs.
    epsilon: float = 0.01
    #: Edge, in voxels, of the cells over which relevance is averaged: a transformer's patch, for
    #: one, inside of which its relevance means little.
    cell: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule {self.rule!r} is not known; expected one of {', '.join(RULES)}")
        for name in ("gamma", "epsilon"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.cell < 1:
            raise ValueError(f"cell must be at least 1, got {self.cell}")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes: entries of a batch are explained one by one."""
        require_transparent(network, self.name)
        fit = fit_into(0, *admit(network, x))
        return self._cost(x, fit.entry_bytes)

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the relevance [B, C, *S] of the input, with the residual of its conservation.

        ``f_baseline`` is what the network's constants received, biases above all: the values sum
        to the target less that.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, OpaqueNetworkError, TargetError, BudgetError or
            ExplanationCancelledError; UndifferentiableError if an operation has no gradient;
            UnsuitableLayerError if no relevance reaches the input, as behind a last sigmoid.
        """
        require_transparent(network, self.name)
        require_forwards(settings, x.shape[0], self.name)
        frozen, plain = admit(network, x)
        frozen = without_custom_gradients(frozen)
        meter = Meter(settings.budget, x.shape[0])
        found = []
        for entry in torch.split(plain, 1):
            if meter.cancelled:
                raise ExplanationCancelledError(f"{self.name}: cancelled before it was complete")
            found.append(self._of_one(frozen, entry, target))
            meter.spend(1)
        values, elsewhere, f_x = (torch.cat(parts) for parts in list(zip(*found, strict=True))[:3])
        residual = conservation_residual(values, elsewhere, f_x)
        strangers = dict.fromkeys(name for each in found for name in each[3])
        return Attribution(
            values=_averaged(values.float(), self.cell),
            f_x=f_x,
            f_baseline=elsewhere.to(f_x.dtype),
            residual=residual,
            method=self.name,
            layer=None,
            baseline=None,
            seed=None,
            cost=self._cost(x, 0),
            warnings=incompleteness_warning(residual, list(strangers)),
        )

    def _of_one(
        self, network: nn.Module, x: Tensor, target: Target
    ) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
        """Return relevance of the image, relevance elsewhere, f(x), and functions not known."""
        ledger = Ledger(x)
        rules = rules_for(self._linear(), ledger, through_softmax=self.rule == "attn")
        with differentiating():
            leaf = x.clone().requires_grad_()
            ruled = Ruled(rules, UNDERSTOOD)
            with Intercepted(ruled.answer):
                # A network may work in place on what it is given, but not on a leaf.
                value = evaluate(target, network(leaf.clone()), leaf)
            if not value.requires_grad:
                raise UnsuitableLayerError(
                    f"{self.name}: no relevance reaches the input; explain the value before the "
                    "last sigmoid or softmax"
                )
            gradients = torch.autograd.grad(value.sum(), [leaf, *ledger.leaves], allow_unused=True)
        gradient = torch.zeros_like(x) if gradients[0] is None else gradients[0]
        elsewhere = ledger.received(gradients[1:]).reshape(1)
        return x * gradient, elsewhere, value.detach(), tuple(ruled.strangers)

    def _linear(self) -> LinearRule:
        known: dict[str, LinearRule] = {
            "gamma": Gamma(self.gamma),
            "epsilon": Epsilon(self.epsilon),
            "zplus": ZPlus(),
        }
        return known.get(self.rule, own_gradient)

    def _cost(self, x: Tensor, peak_bytes: int) -> Cost:
        passes = float(_PASSES.get(self.rule, 1) * x.shape[0])
        return Cost(forwards=passes, backwards=passes, peak_bytes=peak_bytes)


def _averaged(values: Tensor, cell: int) -> Tensor:
    """Return [B, C, *S] averaged inside of cells, whose sums stay as they are."""
    if cell == 1:
        return values
    axes = values.ndim - 2
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[axes]
    # Cells at the far end may be cut: they are averaged over what is there.
    means = pool(values, cell, stride=cell, ceil_mode=True, count_include_pad=False)
    for axis, extent in enumerate(values.shape[2:], start=2):
        means = means.repeat_interleave(cell, dim=axis).narrow(axis, 0, extent)
    return means

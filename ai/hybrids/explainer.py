"""The explanation that a network with an additive head carries in itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError, TargetError, UnsuitableLayerError
from ai.explainers.admission import (
    DEFAULTS,
    admit,
    differentiating,
    evaluate,
    require_forwards,
    require_transparent,
)
from ai.explainers.axioms import completeness_residual, incompleteness_warning
from ai.explainers.metering import Meter
from ai.hybrids.additive import AdditiveHead, spread
from ai.model import Attribution, Needs, Settings, Target
from ai.targets import logits_of
from dicom_io.analysis import Cost

#: Bytes per voxel of the input while a map is spread: twice float64, once float32.
_BYTES = 20
#: Largest difference between the network's output and its head's, as a share of its size.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What each place added to the decision, as the network itself summed it up.

    Only of networks that end in an evidence head or in gated attention (``ai.hybrids``). There is
    no rule, no baseline and no choice of a layer: the values are the decision's own terms, spread
    over the voxels of their places, and sum to what the image adds to the prior, the logit of an
    image without evidence. A target that is no weighted sum of logits is taken as linear around
    the output; the residual says how far that holds.
    """

    name: str = field(default="evidence", init=False)
    needs: ClassVar[Needs] = Needs.EVIDENCE
    passes: ClassVar[str] = "1 forward"

    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes: the prediction's own pass, and the map."""
        _require_head(network, self.name)
        return Cost(forwards=1.0, backwards=0.0, peak_bytes=_BYTES * x.numel())

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the map [B, 1, *S] of ``target``; of bags [B, N, C, *S].

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, OpaqueNetworkError, TargetError, BudgetError,
            ExplanationCancelledError; UnsuitableLayerError if the network has no such head, or its
            output is not what the head returned.
        """
        _require_head(network, self.name)
        require_forwards(settings, 1, self.name)
        frozen, plain = admit(network, x)
        meter = Meter(settings.budget, 1)
        if meter.cancelled:
            raise ExplanationCancelledError(f"{self.name}: cancelled before the forward pass")
        with _watched(frozen) as seen:
            # A network may work in place on what it is given.
            output = logits_of(frozen(plain.clone()))
        meter.spend(1)
        layer = _that_decides(seen, output, self.name)
        head = seen[layer]
        f_x, weights = _weighed(target, output, plain)
        f_prior = evaluate(target, head.prior.expand_as(output).clone(), plain)
        values = _on_input(torch.einsum("bk,bk...->b...", weights, head.terms), head, plain)
        residual = completeness_residual(values, f_x, f_prior)
        return Attribution(
            values=values,
            f_x=f_x,
            f_baseline=f_prior,
            residual=residual,
            method=self.name,
            layer=layer,
            baseline="no evidence",
            seed=None,
            cost=Cost(forwards=1.0, backwards=0.0, peak_bytes=_BYTES * x.numel()),
            warnings=incompleteness_warning(residual, ()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a head did in the one pass."""

    #: float64 [B, classes, *places].
    terms: Tensor
    #: [classes].
    prior: Tensor
    output: Tensor
    of_bags: bool


def _require_head(network: nn.Module, method: str) -> None:
    require_transparent(network, method)
    if not _heads(network):
        raise UnsuitableLayerError(
            f"{method} needs a network that ends in an evidence head or in gated attention "
            f"(ai.hybrids), and {type(network).__name__} has neither; use layer_cam or lrp"
        )


def _heads(network: nn.Module) -> list[str]:
    modules = network.named_modules()
    return [name for name, module in modules if isinstance(module, AdditiveHead)]


@contextmanager
def _watched(frozen: nn.Module) -> Iterator[dict[str, _Seen]]:
    """Collect what the heads of a private copy do inside the context, by the names of the heads."""
    seen: dict[str, _Seen] = {}

    def see(name: str, head: nn.Module, features: Tensor, output: object) -> None:
        if isinstance(head, AdditiveHead) and isinstance(output, Tensor):
            seen[name] = _Seen(
                terms=head.contributions(features),
                prior=head.prior.detach(),
                output=output,
                of_bags=head.of_bags,
            )

    handles = [
        frozen.get_submodule(name).register_forward_hook(
            lambda head, inputs, output, name=name: see(name, head, inputs[0], output)
        )
        for name in _heads(frozen)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _that_decides(seen: dict[str, _Seen], output: Tensor, method: str) -> str:
    """Return the name of the head whose logits are the network's output."""
    for name, head in seen.items():
        if head.output.shape == output.shape:
            apart = (head.output - output).abs().max()
            if bool(apart <= _TOLERANCE * head.output.abs().max()):
                return name
    raise UnsuitableLayerError(
        f"{method}: the network's output is not what its evidence head returned; something follows "
        "the head, so that its map is not the decision"
    )


def _weighed(target: Target, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the target [B], and how much each logit counts in it, float64 [B, classes]."""
    with differentiating():
        logits = output.detach().clone().requires_grad_()
        value = evaluate(target, logits, x)
        if not value.requires_grad:
            raise TargetError("the target does not depend on the network's output")
        (weights,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), weights.double()


def _on_input(terms: Tensor, head: _Seen, x: Tensor) -> Tensor:
    """Return terms [B, *places] on the input's grid, float32, with the same sum in each entry."""
    if not head.of_bags:
        return spread(terms, x.shape[2:])[:, None].float()
    instances = spread(terms.flatten(0, 1), x.shape[3:]).reshape(*x.shape[:2], 1, *x.shape[3:])
    return (instances / x.shape[2]).float().expand(x.shape).clone()

"""The one pass that all class activation maps share, and how their maps reach the input's grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import captured
from ai.errors import ExplanationCancelledError, UnsuitableLayerError
from ai.explainers.admission import (
    admit,
    differentiating,
    evaluate,
    require_forwards,
    require_transparent,
)
from ai.explainers.layers import Layout, layout_of
from ai.model import Settings, Target
from ai.targets import logits_of

#: ``interpolate`` knows linear interpolation by another name for each number of axes.
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Variant(Protocol):
    """What the pass needs to know of a variant."""

    @property
    def name(self) -> str:
        """Name of the method, as routes write it."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that its user named; may be empty."""
        ...

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layers to explain at where nobody names them, earliest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which layers each variant reads."""

    #: Variant to its layers, earliest first.
    layers: Mapping[str, tuple[str, ...]]
    #: What choosing them cost, in forward passes; 0 where the caller named them.
    forwards: float
    #: Bytes of the maps that the gradient graph will keep; 0 where not known.
    peak_bytes: int

    @property
    def all_layers(self) -> tuple[str, ...]:
        """Return every layer once."""
        return tuple(dict.fromkeys(name for names in self.layers.values() for name in names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One forward pass and the gradients at its layers."""

    #: The network's output, detached: the prediction comes for free.
    output: Tensor
    #: [B], the target's value.
    f_x: Tensor
    #: Layer to (A, G), both [B, K, *s], detached.
    layers: Mapping[str, tuple[Tensor, Tensor]]


def planned(
    network: nn.Module,
    x: Tensor,
    variants: Sequence[Variant],
    *,
    settings: Settings,
    method: str,
) -> Plan:
    """Return the layers of each variant: the caller's, or the variant's own choice.

    Raises
    ------
    OpaqueNetworkError
        If the network is TorchScript or compiled.
    BudgetError
        If the budget has no forward pass.
    UnsuitableLayerError
        If the network has no feature map to choose from.
    """
    require_transparent(network, method)
    require_forwards(settings, 1, method)
    named = {each.name: tuple(settings.layers or each.layers) for each in variants}
    if all(named.values()):
        return Plan(layers=named, forwards=0.0, peak_bytes=0)
    frozen, plain = admit(network, x)
    layout = layout_of(frozen, plain)
    layers = {each.name: named[each.name] or each.choose_layers(layout) for each in variants}
    kept = max(layout.bytes_from(names[0]) for names in layers.values())
    return Plan(layers=layers, forwards=layout.forwards, peak_bytes=kept * x.shape[0])


def run(
    network: nn.Module, x: Tensor, target: Target, *, layers: Sequence[str], settings: Settings
) -> Pass:
    """Return activations and gradients of the target at the layers, in one pass each way.

    Raises
    ------
    ExplanationCancelledError
        If the caller cancelled before the pass.
    UnsuitableLayerError
        If a layer did not run, returned no feature map, or does not lead to the target.
    """
    budget = settings.budget
    if budget and budget.cancelled and budget.cancelled():
        raise ExplanationCancelledError("cancelled before the forward pass")
    frozen, plain = admit(network, x)
    with differentiating(), captured(frozen, layers) as activations:
        output = frozen(plain)
        value = evaluate(target, output, plain)
        for layer in layers:
            _require_map(layer, activations.get(layer), plain)
        held = [activations[layer] for layer in layers]
        gradients = _gradients(value, held, layers)
    if budget and budget.report:
        budget.report(1, 1)
    return Pass(
        output=logits_of(output).detach(),
        f_x=value.detach(),
        layers={
            layer: (activation.detach(), gradient)
            for layer, activation, gradient in zip(layers, held, gradients, strict=True)
        },
    )


def fused(maps: Sequence[Tensor], *, extents: Sequence[int], signed: bool) -> Tensor:
    """Return maps [B, *s] of one or more layers as one, float32 [B, 1, *S].

    Each is cut at zero (unless signed) and interpolated linearly. Maps of several layers have no
    common unit: each is divided by its greatest size, they are averaged, and the last layer's size
    is given back, so that a fused map of one layer is that layer's map.
    """
    mode = _LINEAR[len(extents)]
    grids = [
        functional.interpolate(
            (each if signed else each.clamp(min=0)).float()[:, None],
            size=tuple(extents),
            mode=mode,
            align_corners=False,
        )
        for each in maps
    ]
    if len(grids) == 1:
        return grids[0]
    sizes = [grid.abs().amax(dim=tuple(range(1, grid.ndim)), keepdim=True) for grid in grids]
    shares = [grid / size.where(size > 0, 1) for grid, size in zip(grids, sizes, strict=True)]
    return torch.stack(shares).mean(dim=0) * sizes[-1]


def _require_map(layer: str, activation: Tensor | None, x: Tensor) -> None:
    if activation is None:
        raise UnsuitableLayerError(f"layer {layer!r} did not run in the forward pass")
    if activation.ndim != x.ndim or activation.shape[0] != x.shape[0]:
        raise UnsuitableLayerError(
            f"layer {layer!r} returns {tuple(activation.shape)}, which is no feature map of an "
            f"input {tuple(x.shape)}"
        )


def _gradients(value: Tensor, held: list[Tensor], layers: Sequence[str]) -> tuple[Tensor, ...]:
    if not value.requires_grad:
        raise UnsuitableLayerError(f"the target does not depend on {', '.join(layers)}")
    gradients = torch.autograd.grad(value.sum(), held, allow_unused=True)
    for layer, gradient in zip(layers, gradients, strict=True):
        if gradient is None:
            raise UnsuitableLayerError(f"the target does not depend on layer {layer!r}")
    return gradients

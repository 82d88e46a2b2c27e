"""The one pass that all class activation maps share, and how their maps reach the input's grid."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import find_layers
from ai.errors import UnsuitableLayerError
from ai.explainers.admission import differentiating, evaluate
from ai.explainers.feature_maps import MapReader, Reading, is_attention, is_bag, pooled
from ai.explainers.layers import deepest_layer
from ai.explainers.layout import Layout, layout_of
from ai.model import Settings, Target
from ai.targets import logits_of


class Variant(Protocol):
    """What the pass needs to know of a variant."""

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

    #: The layers of each variant, earliest first, in the order of the variants.
    layers: tuple[tuple[str, ...], ...]
    #: What the deepest layer is; None where the caller named all layers, and nobody searched.
    deepest: str | None = None
    #: How often a layer runs in one pass, if more than once.
    reruns: Mapping[str, int] = field(default_factory=dict)
    #: What choosing the layers cost, in forward passes; 0 where the caller named them.
    forwards: float = 0.0
    #: Bytes of the maps that the gradient graph will keep; 0 where not known.
    peak_bytes: int = 0

    @property
    def all_layers(self) -> tuple[str, ...]:
        """Return every layer once."""
        return tuple(dict.fromkeys(name for names in self.layers for name in names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one layer holds, and how the target depends on it."""

    #: A, [R, K, *s]; R entries of the batch, or all instances of all its bags.
    activation: Tensor
    #: G, of the same shape.
    gradient: Tensor


def planned(network: nn.Module, x: Tensor, variants: Sequence[Variant], settings: Settings) -> Plan:
    """Return the layers of each variant: the caller's, or the variant's own choice.

    Raises
    ------
    UnsuitableLayerError
        If the network has no feature map to choose from.
    """
    named = [tuple(settings.layers or each.layers) for each in variants]
    if all(named):
        return Plan(layers=tuple(named))
    layout = layout_of(network, x)
    layers = [
        names or each.choose_layers(layout) for names, each in zip(named, variants, strict=True)
    ]
    kept = max(layout.bytes_from(names[0]) for names in layers)
    return Plan(
        layers=tuple(layers),
        deepest=deepest_layer(layout),
        reruns=dict(layout.reruns),
        forwards=layout.forwards,
        peak_bytes=kept * x.shape[0],
    )


class Pass:
    """One forward pass whose gradient graph begins at the earliest of its layers."""

    def __init__(self, *, network: nn.Module, x: Tensor, reader: MapReader) -> None:
        #: The private copy that ran.
        self.network = network
        #: [B, C, *S].
        self.x = x
        #: Reads what the layers returned.
        self.reader = reader
        #: What the network returned, with its gradient graph.
        self.output: object = None
        #: How often each layer has run.
        self.runs: dict[str, int] = {}
        self._activations: dict[str, Tensor] = {}
        #: The deepest map's mean over space, float32 [B, K]; None where nobody asked for it.
        self.features: Tensor | None = None

    @property
    def output_tensor(self) -> Tensor:
        """The first tensor of the output, detached: the prediction."""
        return logits_of(self.output).detach()

    def keep(self, name: str, output: object, *, reruns: int) -> Tensor | None:
        """Hold the last of a layer's runs; return what the network shall go on with."""
        self.runs[name] = self.runs.get(name, 0) + 1
        if self.runs[name] < reruns or not isinstance(output, Tensor):
            return None
        if not output.is_floating_point():
            return None
        held = output if output.requires_grad else output.detach().requires_grad_()
        self._activations[name] = held
        # What follows gets a clone: an in-place ReLU would overwrite the activation.
        return held.clone()

    def keep_features(self, output: object) -> None:
        """Hold the mean of the last map that the deepest layer returned."""
        reading = self.reader.read(output)
        if reading is not None:
            self.features = pooled(reading, self.reader).detach().float()

    def activation(self, layer: str) -> Tensor:
        """Return the map that a layer returned, [R, K, *s], detached; raises as ``towards``."""
        return self._reading(layer).values.detach()

    def towards(
        self, target: Target, layers: Sequence[str], *, keep_graph: bool
    ) -> tuple[Tensor, dict[str, Evidence]]:
        """Return the target's value, [B], and the evidence at the layers, from one backward pass.

        Parameters
        ----------
        keep_graph
            Whether another target will be asked for.

        Raises
        ------
        UnsuitableLayerError
            If a layer did not run, returned no feature map, or does not lead to the target.
        """
        readings = [self._reading(layer) for layer in layers]
        with differentiating():
            value = evaluate(target, self.output, self.x)
            gradients = self._gradients(value, layers, keep_graph=keep_graph)
        found = {}
        for layer, reading, gradient in zip(layers, readings, gradients, strict=True):
            slope = self.reader.read(gradient)
            if slope is None or (reading.leading and not slope.values.any()):
                raise UnsuitableLayerError(
                    f"only the class token of layer {layer!r} leads to the target, its patches do "
                    "not; take the normalization in front of the last attention"
                )
            found[layer] = Evidence(activation=reading.values.detach(), gradient=slope.values)
        return value.detach(), found

    def _reading(self, layer: str) -> Reading:
        if layer not in self._activations:
            runs = self.runs.get(layer, 0)
            what = f"returned no floating tensor in {runs} run(s)" if runs else "did not run"
            raise UnsuitableLayerError(f"layer {layer!r} {what} in the forward pass")
        output = self._activations[layer]
        reading = self.reader.read(output)
        if reading is None or is_attention(output):
            raise UnsuitableLayerError(
                f"layer {layer!r} returns {tuple(output.shape)}, which is no feature map of an "
                f"input {tuple(self.x.shape)}"
            )
        return reading

    def _gradients(
        self, value: Tensor, layers: Sequence[str], *, keep_graph: bool
    ) -> tuple[Tensor, ...]:
        if not value.requires_grad:
            raise UnsuitableLayerError(f"the target does not depend on {', '.join(layers)}")
        held = [self._activations[layer] for layer in layers]
        gradients = torch.autograd.grad(
            value.sum(), held, allow_unused=True, retain_graph=keep_graph
        )
        for layer, gradient in zip(layers, gradients, strict=True):
            if gradient is None:
                raise UnsuitableLayerError(f"the target does not depend on layer {layer!r}")
        return gradients


class _Current(threading.local):
    """The pass that this thread is in."""

    running: Pass | None = None


class Watched:
    """A private copy of a network that keeps what some of its layers return.

    Made once, it runs for any number of images, in any number of threads.

    Parameters
    ----------
    network
        A private copy that nobody else uses, see ``admit``.
    x
        An input like those to come.
    plan
        Names the layers.
    features
        The layer that features are read from; None for none.

    Raises
    ------
    UnknownLayerError
        If the network has no layer of a name; the message suggests the nearest.
    """

    def __init__(
        self, network: nn.Module, x: Tensor, plan: Plan, *, features: str | None = None
    ) -> None:
        self._network = network
        self._bag = is_bag(network, x)
        self._current = _Current()
        self._reruns = dict(plan.reruns)
        for name, module in find_layers(network, plan.all_layers).items():
            self._watch(module, name)
        if features is not None:
            find_layers(network, [features])[features].register_forward_hook(self._see_deepest)

    def run(self, x: Tensor) -> Pass:
        """Return the forward pass of an input like the first, admitted.

        Raises
        ------
        UndifferentiableError
            If the network cannot be run with gradients.
        """
        reader = MapReader(self._network, x, bag=self._bag)
        running = Pass(network=self._network, x=x, reader=reader)
        self._current.running = running
        try:
            with differentiating():
                # A network may work in place on what it is given.
                running.output = self._network(x.clone())
        finally:
            self._current.running = None
        # From the next pass on, the graph begins at a layer's last run.
        self._reruns.update(running.runs)
        return running

    def _watch(self, module: nn.Module, name: str) -> None:
        def see(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
            running = self._current.running
            if running is None:
                return None
            return running.keep(name, output, reruns=self._reruns.get(name, 1))

        module.register_forward_hook(see)

    def _see_deepest(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if self._current.running:
            self._current.running.keep_features(output)


def fused(maps: Sequence[Tensor], *, extents: Sequence[int], signed: bool) -> Tensor:
    """Return maps [B, *s], or [B, N, *s] of bags, of one or more layers as one, float32 [B, N, *S].

    Each is cut at zero (unless signed) and interpolated linearly. Maps of several layers have no
    common unit: each is divided by its greatest size, they are averaged, and the last layer's size
    is given back, so that a fused map of one layer is that layer's map. The size is that of the
    whole bag, so that its instances compare.
    """
    grids = [
        enlarged(
            (each if signed else each.clamp(min=0)).float().reshape(_with_instances(each, extents)),
            extents,
        )
        for each in maps
    ]
    if len(grids) == 1:
        return grids[0]
    sizes = [grid.abs().amax(dim=tuple(range(1, grid.ndim)), keepdim=True) for grid in grids]
    shares = [grid / size.where(size > 0, 1) for grid, size in zip(grids, sizes, strict=True)]
    return torch.stack(shares).mean(dim=0) * sizes[-1]


def enlarged(maps: Tensor, extents: Sequence[int]) -> Tensor:
    """Return maps [B, N, *s] interpolated linearly to [B, N, *S], cells laid evenly over the image.

    As ``torch.nn.functional.interpolate`` without aligned corners, but one axis at a time, each a
    product with a small matrix: six times faster from 6 to 96 cells in three dimensions.
    """
    for axis, extent in enumerate(extents, start=2):
        cells = maps.shape[axis]
        if cells != extent:
            unit = torch.eye(cells, dtype=maps.dtype, device=maps.device)[None]
            onto = functional.interpolate(unit, size=extent, mode="linear", align_corners=False)
            maps = (maps.movedim(axis, -1) @ onto[0]).movedim(-1, axis)
    return maps.contiguous()


def _with_instances(maps: Tensor, extents: Sequence[int]) -> tuple[int, ...]:
    return (maps.shape[0], -1, *maps.shape[maps.ndim - len(extents) :])

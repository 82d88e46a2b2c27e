"""Which layer to explain at: found by the stride of its feature map, not by its name.

The layer matters more than the CAM variant: the map must be fine enough to point and deep enough
to mean something. A network is probed once on a reduced input, a few percent of a forward pass,
and every module that returns a feature map is listed with its stride.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import private_copy
from ai.errors import UnsuitableLayerError

#: Extents of the reduced input, tried in turn: networks with many strides need the larger one.
_PROBE_EXTENTS = (32, 64)
#: Below this many cells along the longest axis a map is too coarse to point at anything.
_LEAST_CELLS = 6
#: The same for methods that are defined on the last feature map.
_LEAST_CELLS_COARSEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """What one module of a network returned, as far as choosing a layer needs it."""

    #: As in ``network.named_modules()``.
    name: str
    #: Input cells per map cell, along the axis where they are most.
    stride: int
    channels: int
    #: Whether no value was negative, as after a ReLU.
    rectified: bool
    #: Whether the module has children: a block or a stage.
    composite: bool
    #: Bytes of the map for one input of the full extent.
    full_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The feature maps of a network in the order they were computed, for inputs of one shape."""

    maps: tuple[FeatureMap, ...]
    #: The longest spatial extent of the input.
    extent: int
    #: What finding them cost, in forward passes of the full input.
    forwards: float

    @property
    def way_down(self) -> tuple[FeatureMap, ...]:
        """Return the maps up to the last one of the greatest stride.

        A decoder that goes up again is left out: its maps repeat the outline more than they tell
        where it comes from. So are attention matrices, which look like maps and are none.
        """
        deepest = max(each.stride for each in self.maps)
        end = max(index for index, each in enumerate(self.maps) if each.stride == deepest)
        return self.maps[: end + 1]

    def bytes_from(self, layer: str) -> int:
        """Return about how many bytes a gradient graph from a layer on holds, per input."""
        names = [each.name for each in self.maps]
        start = names.index(layer) if layer in names else 0
        return sum(each.full_bytes for each in self.maps[start:])


#: Chooses layers, earliest first.
LayerRule = Callable[[Layout], tuple[str, ...]]


def layout_of(network: nn.Module, x: Tensor) -> Layout:
    """Return the feature maps of a network for inputs like ``x``.

    The first of the batch is reduced to 32 or 64 cells along its longest axes where the network
    takes that; a network of fixed input size runs in full.

    Parameters
    ----------
    network
        In evaluation mode; left as it is.
    x
        float [B, C, *S].

    Raises
    ------
    UnsuitableLayerError
        If no module returns a feature map with the input's number of axes.
    """
    layout = reduced_layout_of(network, x)
    if not layout.maps:
        whole = _feature_maps(private_copy(network), x[:1], x)
        layout = replace(layout, maps=tuple(whole), forwards=layout.forwards + 1.0)
    if not layout.maps:
        raise UnsuitableLayerError(
            f"no module of the network returns a feature map with {x.ndim - 2} spatial axes"
        )
    return layout


def reduced_layout_of(network: nn.Module, x: Tensor) -> Layout:
    """Return the feature maps as far as a reduced input shows them; parameters as ``layout_of``.

    Without maps if the input is small already, or the network takes no other size than its own.
    """
    probe = private_copy(network)
    maps: list[FeatureMap] = []
    forwards = 0.0
    for reduced in _reduced(x[:1]):
        forwards += reduced.numel() / x[:1].numel()
        try:
            maps = _feature_maps(probe, reduced, x)
        except (RuntimeError, ValueError, AssertionError):
            # Networks say in many ways that an input is too small for them.
            continue
        break
    return Layout(maps=tuple(maps), extent=max(x.shape[2:]), forwards=forwards)


def fine_layers(layout: Layout, *, depth: float = 0.5) -> tuple[str, ...]:
    """Return the layers at stride 8 and 16, finer for small inputs; the middle one if no stride.

    For methods that weigh each place by itself (LayerCAM, HiResCAM).
    """
    strides = _usable(layout, _LEAST_CELLS)
    if not strides:
        return middle_layer(layout, depth=depth)
    first = max((stride for stride in strides if stride <= 8), default=min(strides))
    chosen = [stride for stride in strides if stride in {first, 16} and first <= stride]
    return tuple(_last(_preferred(layout, stride)) for stride in sorted(chosen))


def coarsest_layer(layout: Layout, *, depth: float = 0.5) -> tuple[str, ...]:
    """Return the layer with the coarsest map of at least four cells; the middle one if no stride.

    For methods that weigh whole channels (Grad-CAM, as its paper defines it).
    """
    strides = _usable(layout, _LEAST_CELLS_COARSEST)
    if not strides:
        return middle_layer(layout, depth=depth)
    stride = max(strides)
    if stride < max(each.stride for each in layout.maps):
        return (_last(_preferred(layout, stride)),)
    # At the very end the last map is what the classifier reads, whatever module made it.
    maps = [each for each in layout.way_down if each.stride == stride]
    return (_last([each for each in maps if each.rectified] or maps),)


def middle_layer(layout: Layout, *, depth: float = 0.5) -> tuple[str, ...]:
    """Return the layer at ``depth`` (0 first, 1 last) among the maps of stride 1.

    A network without strides keeps every map at full extent: its graph from the middle on can
    take gigabytes. A greater depth costs less time and memory.
    """
    maps = [each for each in layout.maps if each.stride == 1]
    maps = [each for each in maps if each.rectified] or maps
    return (maps[round(depth * (len(maps) - 1))].name,)


def _reduced(x: Tensor) -> list[Tensor]:
    extents = _PROBE_EXTENTS if max(x.shape[2:]) < 128 else _PROBE_EXTENTS[1:]
    shapes = [tuple(min(extent, size) for size in x.shape[2:]) for extent in extents]
    smaller = [shape for shape in dict.fromkeys(shapes) if shape != tuple(x.shape[2:])]
    return [functional.interpolate(x, shape, mode="area") for shape in smaller]


def _feature_maps(probe: nn.Module, reduced: Tensor, x: Tensor) -> list[FeatureMap]:
    maps: dict[str, FeatureMap] = {}

    def note(name: str, module: nn.Module, output: object) -> None:
        maps.pop(name, None)
        if _is_map(output, reduced):
            maps[name] = _described(name, module, cast("Tensor", output), reduced, x)

    handles = [
        module.register_forward_hook(
            lambda module, _inputs, output, name=name: note(name, module, output)
        )
        for name, module in probe.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        with torch.no_grad():
            probe(reduced)
    finally:
        for handle in handles:
            handle.remove()
    return list(maps.values())


def _is_map(output: object, reduced: Tensor) -> bool:
    return (
        isinstance(output, Tensor)
        and output.is_floating_point()
        and output.ndim == reduced.ndim
        and output.shape[0] == 1
        and output.shape[1] > 1
        and max(output.shape[2:]) > 1
    )


def _described(
    name: str, module: nn.Module, output: Tensor, reduced: Tensor, x: Tensor
) -> FeatureMap:
    extents = zip(reduced.shape[2:], output.shape[2:], strict=True)
    growth = math.prod(x.shape[2:]) / math.prod(reduced.shape[2:])
    return FeatureMap(
        name=name,
        stride=max(1, 2 ** round(math.log2(max(whole / part for whole, part in extents)))),
        channels=output.shape[1],
        rectified=bool((output >= 0).all()),
        composite=any(True for _ in module.children()),
        full_bytes=int(output.numel() * output.element_size() * growth),
    )


def _usable(layout: Layout, least_cells: int) -> Sequence[int]:
    """Return the strides above 1 whose maps have enough cells; the finest if none has."""
    strides = sorted({each.stride for each in layout.way_down} - {1})
    return [stride for stride in strides if layout.extent >= least_cells * stride] or strides[:1]


def _preferred(layout: Layout, stride: int) -> Sequence[FeatureMap]:
    """Return the maps of a stride that say most: after a ReLU, else whole blocks, else all."""
    maps = [each for each in layout.way_down if each.stride == stride]
    rectified = [each for each in maps if each.rectified]
    return rectified or [each for each in maps if each.composite] or maps


def _last(maps: Sequence[FeatureMap]) -> str:
    return maps[-1].name

"""The feature maps of a network, found by running it once on a reduced input.

Every module that returns a map of the image is listed with its stride, so that a layer can be
chosen by what it is and not by its name.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import gradients_on, private_copy
from ai.errors import UnsuitableLayerError
from ai.explainers.feature_maps import MapReader, Reading, is_attention, is_bag
from ai.explainers.heads import head_widths, is_read_linearly

#: Extents of the reduced input, the longest axis and the others, tried in turn: networks with many
#: strides need more, and show two cells of their coarsest map along one axis.
_PROBE_EXTENTS = ((32, 32), (64, 32), (64, 64))
#: For inputs from this extent on the largest is cheap.
_LARGE = 128
#: Normalizations at the end of a network whose class token may be all that is read.
_LAST_NORMALIZATIONS = 6
#: A map finer than the coarsest by this factor lies in a decoder, or in another branch.
_WAY_UP = 4


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
    #: Whether the module is a normalization.
    normalizing: bool
    #: Whether the map is a row of tokens, laid out on the grid of their patches.
    is_tokens: bool
    #: Tokens of the row that stand for no place.
    leading: int
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
    #: Name of the last map that a linear layer turns into the output, pooled or at each place.
    read_linearly: str | None = None
    #: Whether the last map is the last one at full extent too: none shrank to a single cell.
    is_complete: bool = True
    #: How often each module with a map ran, if more than once; its last run counts.
    reruns: tuple[tuple[str, int], ...] = ()

    @property
    def way_down(self) -> tuple[FeatureMap, ...]:
        """Return the maps up to the last one of the greatest stride, before the way up.

        A decoder that goes up again is left out: its maps repeat the outline more than they tell
        where it comes from.
        """
        deepest = max(each.stride for each in self.maps)
        strides = [each.stride for each in self.maps]
        first = strides.index(deepest)
        up = next((i for i in range(first, len(strides)) if _WAY_UP * strides[i] <= deepest), None)
        end = max(index for index, stride in enumerate(strides[:up]) if stride == deepest)
        return self.maps[: end + 1]

    def bytes_from(self, layer: str) -> int:
        """Return about how many bytes a gradient graph from a layer on holds, per input."""
        names = [each.name for each in self.maps]
        start = names.index(layer) if layer in names else 0
        return sum(each.full_bytes for each in self.maps[start:])


def layout_of(network: nn.Module, x: Tensor) -> Layout:
    """Return the feature maps of a network for inputs like ``x``.

    The first of the batch is reduced to 32 or 64 cells along its longest axes where the network
    takes that; a network of fixed input size runs in full. Of tokens that follow a class token
    only those are listed whose patches the output depends on.

    Parameters
    ----------
    network
        In evaluation mode; left as it is.
    x
        float [B, C, *S], or a bag [B, N, C, *S].

    Raises
    ------
    UnsuitableLayerError
        If no module returns a map over the input's spatial axes.
    """
    probe, bag = private_copy(network), is_bag(network, x)
    layout = _reduced_layout(probe, x, bag=bag, whole=True)
    if not layout.maps:
        axes = x.ndim - 3 if bag else x.ndim - 2
        raise UnsuitableLayerError(
            f"no module of the network returns a feature map with {axes} spatial axes"
        )
    return layout


def reduced_layout_of(network: nn.Module, x: Tensor) -> Layout:
    """Return the feature maps as far as a reduced input shows them; parameters as ``layout_of``.

    Without maps if the input is small already, or the network takes no other size than its own.
    """
    return _reduced_layout(private_copy(network), x, bag=is_bag(network, x), whole=False)


def _reduced_layout(probe: nn.Module, x: Tensor, *, bag: bool, whole: bool) -> Layout:
    """Return the layout from the smallest input that shows one; if ``whole``, to its end."""
    layout = Layout(maps=(), extent=_longest(x, bag=bag), forwards=0.0)
    forwards = 0.0
    for reduced, is_cube in _reduced(x[:1], bag=bag):
        if not is_cube and not layout.maps:
            # What refuses a small cube is not asked about half of the next.
            continue
        forwards += reduced.numel() / x[:1].numel()
        try:
            layout = _probed(probe, reduced, x, bag=bag)
        except (RuntimeError, ValueError, AssertionError):
            # Networks say in many ways that an input is too small for them.
            continue
        if layout.is_complete or not whole:
            return replace(layout, forwards=forwards)
    if whole:
        layout = _probed(probe, x[:1], x, bag=bag)
        forwards += 1.0
    return replace(layout, forwards=forwards)


def _longest(x: Tensor, *, bag: bool) -> int:
    return max(x.shape[3:] if bag else x.shape[2:])


def _reduced(x: Tensor, *, bag: bool) -> list[tuple[Tensor, bool]]:
    """Return smaller copies of an input, and whether all their axes are reduced alike."""
    images = x.flatten(0, 1) if bag else x
    extents = tuple(images.shape[2:])
    longest = extents.index(max(extents))
    tried = _PROBE_EXTENTS if max(extents) < _LARGE else _PROBE_EXTENTS[2:]
    shapes = {
        tuple(
            min(long if axis == longest else short, size) for axis, size in enumerate(extents)
        ): long == short
        for long, short in reversed(tried)
    }
    return [
        (
            functional.interpolate(images, shape, mode="area").reshape(
                *x.shape[: x.ndim - len(shape)], *shape
            ),
            is_cube,
        )
        for shape, is_cube in reversed(shapes.items())
        if shape != extents
    ]


def _probed(probe: nn.Module, reduced: Tensor, x: Tensor, *, bag: bool) -> Layout:
    """Return the layout that one pass of the reduced input shows; its cost is the caller's."""
    reader = MapReader(probe, reduced, bag=bag)
    notes = _Notes(probe, reader, growth=x[:1].numel() / reduced.numel())
    with gradients_on():
        with notes.taken():
            output = probe(reduced)
        first = output[0] if isinstance(output, tuple | list) and output else output
        found = first if isinstance(first, Tensor) else reduced.new_zeros(0)
        maps = notes.leading_to(found)
    return Layout(
        maps=maps,
        extent=_longest(x, bag=bag),
        forwards=0.0,
        read_linearly=notes.read_linearly(found.detach()),
        is_complete=notes.is_complete,
        reruns=tuple((name, runs) for name, runs in notes.runs.items() if runs > 1),
    )


class _Notes:
    """What the modules of a network return in one pass.

    The network is frozen, so no gradient graph is recorded, but for one case: behind a class token
    it begins at one of the last normalizations, to see whether the output depends on the patches.
    """

    def __init__(self, probe: nn.Module, reader: MapReader, *, growth: float) -> None:
        self._probe, self._reader, self._growth = probe, reader, growth
        self._widths = head_widths(probe)
        norms = [name for name, module in probe.named_modules() if _is_normalization(module)]
        self._last_norms = frozenset(norms[-_LAST_NORMALIZATIONS:])
        self._maps: dict[str, FeatureMap] = {}
        #: By number of channels: the last map that a linear layer could read.
        self._readable: dict[int, tuple[str, Tensor]] = {}
        #: Outputs of the last normalizations behind a class token, with gradients.
        self._watched: dict[str, Tensor] = {}
        self.runs: dict[str, int] = {}
        self.is_complete = True

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take notes while the network runs inside the context."""
        handles = [
            module.register_forward_hook(
                lambda module, _inputs, output, name=name: self._note(name, module, output)
            )
            for name, module in self._probe.named_modules()
            if name and not isinstance(module, torch.jit.ScriptModule)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def leading_to(self, output: Tensor) -> tuple[FeatureMap, ...]:
        """Return the maps; those behind a class token only up to the last that has a say."""
        maps = tuple(self._maps.values())
        if not self._watched or not output.requires_grad:
            return maps
        # The square, since the sum of probabilities has no gradient.
        asked = list(self._watched.values())
        gradients = torch.autograd.grad(output.square().sum(), asked, allow_unused=True)
        reached = [
            name
            for name, gradient in zip(self._watched, gradients, strict=True)
            if gradient is not None and self._patches(gradient).any()
        ]
        names = [each.name for each in maps]
        end = names.index(reached[-1]) if reached else names.index(next(iter(self._watched))) - 1
        return tuple(each for at, each in enumerate(maps) if at <= end or not each.leading)

    def read_linearly(self, output: Tensor) -> str | None:
        """Return the last map that a linear layer turns into the output; None if there is none."""
        if output.ndim < 2 or output.shape[0] != 1:
            return None
        order = list(self._maps)
        # A module that ran again, and returned no map then, is no longer listed.
        readable = {name: values for name, values in self._readable.values() if name in order}
        for name in sorted(readable, key=order.index, reverse=True):
            if is_read_linearly(self._probe, self._reader.apart(readable[name]), output):
                return name
        return None

    def _note(self, name: str, module: nn.Module, output: object) -> Tensor | None:
        self.runs[name] = self.runs.get(name, 0) + 1
        self._maps.pop(name, None)
        reading = None if _is_padding(module) else self._reader.read(output)
        if reading is None or not isinstance(output, Tensor):
            self.is_complete = self.is_complete and not _looks_around(module)
            return None
        if is_attention(output):
            return None
        self.is_complete = True
        self._maps[name] = self._described(name, module, reading)
        values = reading.values.detach()
        if values.shape[1] in self._widths:
            self._readable[values.shape[1]] = (name, values)
        if not reading.leading or name not in self._last_norms:
            return None
        held = output if output.requires_grad else output.detach().requires_grad_()
        self._watched[name] = held
        return held.clone()

    def _described(self, name: str, module: nn.Module, reading: Reading) -> FeatureMap:
        values, extents = reading.values, self._reader.extents
        strides = [whole / part for whole, part in zip(extents, values.shape[2:], strict=True)]
        return FeatureMap(
            name=name,
            stride=max(1, 2 ** round(math.log2(max(strides)))),
            channels=values.shape[1],
            rectified=bool((values >= 0).all()),
            composite=any(True for _ in module.children()),
            normalizing=_is_normalization(module),
            is_tokens=reading.is_tokens,
            leading=reading.leading,
            full_bytes=int(values.numel() * values.element_size() * self._growth),
        )

    def _patches(self, gradient: Tensor) -> Tensor:
        reading = self._reader.read(gradient)
        return gradient if reading is None else reading.values


def _is_normalization(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def _is_padding(module: nn.Module) -> bool:
    """Return whether a module only adds a border: its cells do not lie evenly over the image."""
    return type(module).__module__ == "torch.nn.modules.padding"


def _looks_around(module: nn.Module) -> bool:
    """Return whether a module is a convolution of more than one cell, which makes a map."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(module, kinds) and module.weight[0, 0].numel() > 1

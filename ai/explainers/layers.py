"""Which layer to explain at: found by the stride of its feature map, not by its name.

The layer matters more than the CAM variant: the map must be fine enough to point and deep enough
to mean something.
"""

from collections.abc import Callable, Sequence

from ai.explainers.layout import FeatureMap, Layout

#: Below this many cells along the longest axis a map is too coarse to point at anything.
_LEAST_CELLS = 6
#: The same for methods that are defined on the last feature map.
_LEAST_CELLS_COARSEST = 4

#: Chooses layers, earliest first.
LayerRule = Callable[[Layout], tuple[str, ...]]


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
    return (_last(_at_the_end(layout, max(strides))),)


def deepest_layer(layout: Layout) -> str:
    """Return the layer of the coarsest map, however coarse: what the network has made of an image.

    In a network without strides the last layer that is rectified, if any is.
    """
    stride = max(each.stride for each in layout.maps)
    return middle_layer(layout, depth=1.0)[0] if stride == 1 else _last(_at_the_end(layout, stride))


def middle_layer(layout: Layout, *, depth: float = 0.5) -> tuple[str, ...]:
    """Return the layer at ``depth`` (0 first, 1 last) among the maps of stride 1.

    A network without strides keeps every map at full extent: its graph from the middle on can
    take gigabytes. A greater depth costs less time and memory.
    """
    maps = [each for each in layout.maps if each.stride == 1]
    maps = [each for each in maps if each.rectified] or maps
    return (maps[round(depth * (len(maps) - 1))].name,)


def _usable(layout: Layout, least_cells: int) -> Sequence[int]:
    """Return the strides above 1 whose maps have enough cells; the finest if none has."""
    strides = sorted({each.stride for each in layout.way_down} - {1})
    return [stride for stride in strides if layout.extent >= least_cells * stride] or strides[:1]


def _at_the_end(layout: Layout, stride: int) -> Sequence[FeatureMap]:
    """Return the maps of a stride that say most, if they are the last: what is read from them.

    At the very end the last map is what a classifier reads, whatever module made it.
    """
    preferred = _preferred(layout, stride)
    ends = stride == layout.way_down[-1].stride and layout.is_complete
    if not ends or preferred[-1].rectified or preferred[-1].is_tokens:
        return preferred
    return [each for each in layout.way_down if each.stride == stride]


def _preferred(layout: Layout, stride: int) -> Sequence[FeatureMap]:
    """Return the maps of a stride that say most: after a ReLU, else whole blocks, else all.

    Of tokens, those that a block or a normalization returns: in front of the last attention, where
    a class token looks at the patches, it is the latter.
    """
    maps = [each for each in layout.way_down if each.stride == stride]
    tokens = [each for each in maps if each.is_tokens and (each.composite or each.normalizing)]
    grids = [each for each in maps if not each.is_tokens]
    rectified = [each for each in grids if each.rectified]
    grids = rectified or [each for each in grids if each.composite] or grids
    if tokens and grids:
        return max(tokens, grids, key=lambda each: maps.index(each[-1]))
    return tokens or grids or maps


def _last(maps: Sequence[FeatureMap]) -> str:
    return maps[-1].name

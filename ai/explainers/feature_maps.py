"""What a layer returns, read as a map over the image: channels first, then the image's axes.

Convolutional networks return such maps. Transformers return rows of tokens, or maps with their
channels last; a network that sees a bag of instances returns one map for each instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ai.errors import UnsuitableLayerError
from ai.explainers.tokens import TokenGrid, grid_in

#: By the number of their axes in space.
_CONVOLUTIONS = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
#: Rows of an attention matrix sum to 1 within this.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A layer's output, read as a map."""

    #: [R, K, *s], a view: R entries, or all instances of all bags.
    values: Tensor
    #: Tokens in front that stand for no place; 0 for what is no row of tokens.
    leading: int = 0
    #: Whether the output is a row of tokens [R, N, K].
    is_tokens: bool = False


class MapReader:
    """Reads what the layers of one network return for one input.

    Parameters
    ----------
    network
        Looked at for its patch size, never run.
    x
        [B, C, *S]; a bag of instances is [B, N, C, *S].
    bag
        Whether it is a bag, see ``is_bag``.
    """

    def __init__(self, network: nn.Module, x: Tensor, *, bag: bool) -> None:
        self._network = network
        self._grids: dict[int, TokenGrid | None] = {}
        self._shape = tuple(x.shape)
        self.bag = bag
        #: Instances in each entry; 1 for images.
        self.instances = x.shape[1] if bag else 1
        #: Entries of a layer's batch.
        self.rows = x.shape[0] * self.instances
        #: Spatial extents of an image or an instance.
        self.extents = tuple(x.shape[3:] if bag else x.shape[2:])

    def read(self, output: object) -> Reading | None:
        """Return the output as a map; None if it is none, or has a single cell or channel."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        if output.shape[:1] != (self.rows,):
            return None
        axes = len(self.extents)
        reading = None
        if output.ndim == axes + 2:
            last = self._channels_come_last(output)
            reading = Reading(values=output.movedim(-1, 1) if last else output)
        elif output.ndim == 3:
            reading = self._tokens(output)
        if reading is None or reading.values.shape[1] < 2 or max(reading.values.shape[2:]) < 2:
            return None
        return reading

    def apart(self, rows: Tensor) -> Tensor:
        """Return [R, ...] as [B, N, ...]; N is 1 for images."""
        return rows.reshape(self._shape[0], self.instances, *rows.shape[1:])

    def on_input(self, maps: Tensor) -> Tensor:
        """Return maps [B, N, *S] as values on the input's grid.

        [B, 1, *S] for images; [B, N, C, *S] for bags, each channel of an instance with its map.
        """
        return maps.unsqueeze(2).repeat_interleave(self._shape[2], dim=2) if self.bag else maps

    def _channels_come_last(self, output: Tensor) -> bool:
        """Return whether the last axis is no axis of the image, judged by equal strides."""
        first, last = output.shape[2:], output.shape[1:-1]
        return self._unevenness(last) < self._unevenness(first)

    def _unevenness(self, cells: Sequence[int]) -> float:
        strides = [whole / part for whole, part in zip(self.extents, cells, strict=True)]
        return max(strides) / min(strides)

    def _tokens(self, output: Tensor) -> Reading | None:
        count = output.shape[1]
        if count not in self._grids:
            try:
                self._grids[count] = grid_in(self._network, count, self.extents)
            except UnsuitableLayerError:
                # So many rows are no tokens of this image: the output is something else.
                self._grids[count] = None
        grid = self._grids[count]
        if grid is None:
            return None
        return Reading(values=grid.as_map(output), leading=grid.leading, is_tokens=True)


def is_bag(network: nn.Module, x: Tensor) -> bool:
    """Return whether an input is a bag of images, [B, N, C, *S], for this network.

    It is if the network's convolutions have one axis less than the input has in space: a network
    of 2D convolutions that takes [B, N, C, H, W] sees each instance as an image of a batch B N.
    """
    return not _convolves(network, x.ndim - 2) and _convolves(network, x.ndim - 3)


def is_attention(output: Tensor) -> bool:
    """Return whether an output looks like attention weights: rows that are shares of 1."""
    if output.shape[-1] < 2 or bool((output < 0).any()):
        return False
    return bool(((output.sum(dim=-1) - 1).abs() < _SUM_TOLERANCE).all())


def pooled(reading: Reading, reader: MapReader) -> Tensor:
    """Return the mean of a map over places and instances, [B, K]."""
    means = reading.values.flatten(2).mean(dim=2)
    return torch.mean(reader.apart(means), dim=1)


def _convolves(network: nn.Module, axes: int) -> bool:
    kinds = _CONVOLUTIONS.get(axes, ())
    return any(isinstance(module, kinds) for module in network.modules())

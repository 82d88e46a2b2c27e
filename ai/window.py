"""The part of a prepared tensor that a network sees at once, and the way back into the whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ai.model import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One window of a prepared tensor, or all of it."""

    #: float32 [1, C, *W].
    tensor: Tensor
    #: First index in the whole, per axis.
    start: tuple[int, ...]
    #: Size of the whole, per axis.
    whole: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the prepared tensor lies outside of the view."""
        sizes = self.tensor.shape[2:]
        return all(size >= whole for size, whole in zip(sizes, self.whole, strict=True))

    def seen(self, mask: Tensor) -> Tensor:
        """Return a mask [*S] of the whole as the view shows it, [*W]; False where padded."""
        return _padded(mask[_box(self.start, self.tensor.shape[2:])], tuple(self.tensor.shape[2:]))

    def spread(self, values: Tensor) -> Tensor:
        """Return values [C, *W] of the view in the whole, [C, *S]; zero elsewhere."""
        result = values.new_zeros((values.shape[0], *self.whole))
        target = result[(slice(None), *_box(self.start, self.tensor.shape[2:]))]
        target.copy_(values[(slice(None), *(slice(size) for size in target.shape[1:]))])
        return result


def view_around(prepared: Prepared, mask: Tensor | None) -> View:
    """Return what the network sees of a structure: all, or the window around the mask's center.

    Parameters
    ----------
    mask
        bool [*S]; None or without voxels: the middle of the tensor. Of a structure in several parts
        whose common center lies between them, the voxel nearest to it is the center.
    """
    whole = tuple(prepared.tensor.shape[2:])
    if prepared.window is None:
        return View(tensor=prepared.tensor, start=(0,) * len(whole), whole=whole)
    start = _start([size / 2 for size in whole], prepared.window, whole)
    if mask is not None and bool(mask.any()):
        voxels = torch.nonzero(mask).to(torch.float64)
        mean = voxels.mean(dim=0)
        start = _start(mean.tolist(), prepared.window, whole)
        if not bool(mask[_box(start, prepared.window)].any()):
            nearest = voxels[(voxels - mean).square().sum(dim=1).argmin()]
            start = _start(nearest.tolist(), prepared.window, whole)
    part = prepared.tensor[(slice(None), slice(None), *_box(start, prepared.window))]
    return View(tensor=_padded(part, prepared.window), start=start, whole=whole)


def _start(
    center: Sequence[float], window: tuple[int, ...], whole: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the first index of the window around a center, moved inside the whole."""
    return tuple(
        min(max(round(middle - width / 2), 0), max(size - width, 0))
        for middle, width, size in zip(center, window, whole, strict=True)
    )


def _box(start: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(start, sizes, strict=True))


def _padded(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return values with their last axes filled up with zeros to ``size`` at the far end."""
    missing = [want - have for want, have in zip(size, values.shape[-len(size) :], strict=True)]
    if not any(missing):
        return values
    pairs = [amount for axis in reversed(missing) for amount in (0, axis)]
    return functional.pad(values, pairs)

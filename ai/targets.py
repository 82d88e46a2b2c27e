"""Targets: the one number of a network's output that an explanation is about, before softmax."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ai.errors import TargetError


@dataclass(frozen=True, slots=True)
class ClassLogit:
    """The logit of one output channel of a classifier, whose output is [B, K].

    Raises
    ------
    TargetError
        When called with an output of another rank, or without this channel.
    """

    channel: int

    def __call__(self, output: Tensor, _x: Tensor) -> Tensor:
        """Return the channel's logit, [B]."""
        if output.ndim != 2:
            raise TargetError(
                f"a class logit wants an output [B, K], the network gave {tuple(output.shape)}; "
                "explain a segmentation through SegmentMass"
            )
        _require_channel(output, self.channel)
        return output[:, self.channel]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentMass:
    """The mean logit of one output channel of a segmenter over a mask that does not move.

    The mask is what the network outlined in the unchanged image. It is frozen: were it taken from
    each perturbed output, the target would jump with it and have no gradient. The *mean* keeps the
    target in the unit of a logit, so that structures of different size compare and half precision
    does not overflow; the sum would only scale every relevance by the number of voxels.

    Raises
    ------
    TargetError
        When made with a mask that is not bool or is empty; when called with an output whose grid
        is not the mask's, or without this channel.
    """

    channel: int
    #: bool [*S], on the grid of the network's output.
    frozen_mask: Tensor

    def __post_init__(self) -> None:
        if self.frozen_mask.dtype != torch.bool or not bool(self.frozen_mask.any()):
            raise TargetError(
                f"the mask of a segment must be bool with at least one voxel set, got "
                f"{self.frozen_mask.dtype} with {int(torch.count_nonzero(self.frozen_mask))}"
            )

    def __call__(self, output: Tensor, _x: Tensor) -> Tensor:
        """Return the channel's mean logit over the mask, [B]."""
        grid = tuple(self.frozen_mask.shape)
        if tuple(output.shape[2:]) != grid:
            raise TargetError(
                f"a mask on the grid {grid} does not fit an output of shape {tuple(output.shape)}"
            )
        _require_channel(output, self.channel)
        mask = self.frozen_mask.to(output.device)
        # Autograd keeps the mask, and refuses one that was made under torch.inference_mode.
        mask = mask.clone() if mask.is_inference() else mask
        return output[:, self.channel][:, mask].mean(dim=1)


def logits_of(output: object) -> Tensor:
    """Return the tensor of a network's output: itself, or the first of a tuple or list.

    MONAI's ViT, for one, returns (logits, hidden states).

    Raises
    ------
    TargetError
        If there is no tensor in that place.
    """
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor):
        raise TargetError(f"the network returned {type(output).__name__}, expected a tensor")
    return first.as_subclass(Tensor)


def _require_channel(output: Tensor, channel: int) -> None:
    channels = output.shape[1]
    if not 0 <= channel < channels:
        raise TargetError(f"channel {channel} is out of range: the network has {channels} (from 0)")

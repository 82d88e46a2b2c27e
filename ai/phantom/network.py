"""The phantom classifier: a small convolutional network that says lesion or not, and may say where.

Its feature map has a stride of 4, and one number per place of that map is pooled to the logit, so
that class activation maps are as fine as the smallest lesion. Kernels of its strided convolutions
are even: so the middle of place i of a feature map is the middle of the voxels 4 i to 4 i + 3, and
a map that is enlarged to the input lies where its evidence does.
"""

from typing import cast

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional

#: Voxels per place of the evidence map, along each axis; input sizes are multiples of it.
STRIDE = 4
_DIMENSIONS = 3
#: Voxels across; the network looks at what differs from the mean of so wide a cube.
_SURROUNDINGS = 5
#: How much the pooled logit listens to the strongest places: 0 is the mean, infinite the maximum.
_SHARPNESS = 1.0
#: Starting value of every place's evidence: no lesion.
_PRIOR = -4.0


class PhantomNetwork(nn.Module):
    """Four convolutions with batch norm and ReLU, and one evidence map, pooled to one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _stage(1, 16, kernel_size=6, strides=2, padding=2)
        self.middle = _stage(16, 32, kernel_size=4, strides=2, padding=1)
        self.context = _stage(32, 32, kernel_size=3, strides=1, padding=1)
        self.features = _stage(32, 32, kernel_size=3, strides=1, padding=1)
        self.head = nn.Conv3d(32, 1, kernel_size=1)
        nn.init.constant_(cast("Tensor", self.head.bias), _PRIOR)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit [B, 1] of a head [B, 1, slice, row, column]."""
        return pooled(self.evidence(x))

    def evidence(self, x: Tensor) -> Tensor:
        """Return how much each place speaks for a lesion: [B, 1, *S / STRIDE]."""
        stem = self.stem(detail(x))
        return cast("Tensor", self.head(self.features(self.context(self.middle(stem)))))


def detail(x: Tensor) -> Tensor:
    """Return what is brighter or darker than its surroundings of 5 voxels' width: the texture."""
    surroundings = functional.avg_pool3d(
        x, _SURROUNDINGS, stride=1, padding=_SURROUNDINGS // 2, count_include_pad=False
    )
    return x - surroundings


def pooled(evidence: Tensor) -> Tensor:
    """Return one logit [B, 1] of the evidence [B, 1, *s]: a smooth maximum over all places."""
    places = evidence.flatten(start_dim=1) * _SHARPNESS
    return torch.logsumexp(places, dim=1, keepdim=True) / _SHARPNESS


def _stage(inputs: int, outputs: int, *, kernel_size: int, strides: int, padding: int) -> nn.Module:
    stage: nn.Module = Convolution(
        _DIMENSIONS,
        inputs,
        outputs,
        kernel_size=kernel_size,
        strides=strides,
        padding=padding,
        act="RELU",
        norm="BATCH",
    )
    return stage

"""The phantom classifier: a small convolutional network that says lesion or not, and may say where.

Its feature map has a stride of 4, and one number per place of that map is pooled to the logit, so
that class activation maps are as fine as the smallest lesion. Kernels of its strided convolutions
are even: so the middle of place i of a feature map is the middle of the voxels 4 i to 4 i + 3, and
a map that is enlarged to the input lies where its evidence does.
"""

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn

_DIMENSIONS = 3
#: How much the pooled logit listens to the strongest places: 0 is the mean, infinite the maximum.
_SHARPNESS = 2.0
#: Starting value of every place's evidence: no lesion.
_PRIOR = -4.0


class PhantomNetwork(nn.Module):
    """Two strided stages, a residual one and one evidence map, pooled to one logit."""

    def __init__(self) -> None:
        super().__init__()
        shared = {"act": "RELU", "norm": "BATCH"}
        self.stem = Convolution(_DIMENSIONS, 1, 16, strides=2, kernel_size=6, padding=2, **shared)
        self.middle = Convolution(
            _DIMENSIONS, 16, 32, strides=2, kernel_size=4, padding=1, **shared
        )
        self.features = ResidualUnit(_DIMENSIONS, 32, 32, subunits=2, **shared)
        self.evidence = nn.Conv3d(32, 1, kernel_size=1)
        nn.init.constant_(self.evidence.bias, _PRIOR)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit [B, 1] of a head [B, 1, slice, row, column]."""
        evidence = self.evidence(self.features(self.middle(self.stem(x))))
        places = evidence.flatten(start_dim=1) * _SHARPNESS
        return torch.logsumexp(places, dim=1, keepdim=True) / _SHARPNESS

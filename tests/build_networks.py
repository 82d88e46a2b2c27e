"""Small networks for tests of explainers: each is as simple as its question allows."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """The output is w . x + b for each of K classes; ``weight`` is [K, C, *S]."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.full((weight.shape[0],), bias))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.flatten(1).T + self.bias


class LinearAfterIdentity(nn.Module):
    """As ``Linear``, behind a layer ``seen`` that lets its input through."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.seen = nn.Identity()
        self.head = Linear(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.seen(x))


class Failing(nn.Module):
    """Raises when it runs."""

    def forward(self, x: Tensor) -> Tensor:
        raise FloatingPointError("injected")


class FailingBackward(torch.autograd.Function):
    """Lets its input through and raises on the way back."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> Tensor:
        raise FloatingPointError("injected")


class FailingOnTheWayBack(nn.Module):
    """Raises in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return FailingBackward.apply(x)


def classifier(
    *, axes: int = 2, channels: int = 1, classes: int = 3, seed: int = 0
) -> nn.Sequential:
    """Return a network of three strided blocks with in-place ReLUs, in evaluation mode."""
    torch.manual_seed(seed)
    convolution = nn.Conv3d if axes == 3 else nn.Conv2d
    normalization = nn.BatchNorm3d if axes == 3 else nn.BatchNorm2d
    pooling = nn.AdaptiveAvgPool3d if axes == 3 else nn.AdaptiveAvgPool2d
    blocks: list[nn.Module] = []
    width = channels
    for wider in (4, 6, 8):
        blocks += [
            convolution(width, wider, 3, stride=2, padding=1),
            normalization(wider),
            nn.ReLU(inplace=True),
        ]
        width = wider
    network = nn.Sequential(*blocks, pooling(1), nn.Flatten(), nn.Linear(width, classes))
    return network.eval()


def meshnet(*, width: int = 5, classes: int = 3, seed: int = 0) -> nn.Sequential:
    """Return a small network of dilated convolutions without strides, in evaluation mode."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for index, dilation in enumerate((1, 2, 4, 2, 1)):
        layers += [
            nn.Conv3d(width if index else 1, width, 3, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv3d(width, classes, 1)).eval()


def image(*shape: int, seed: int = 0) -> Tensor:
    """Return float32 noise of ``shape`` around 0."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

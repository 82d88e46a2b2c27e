"""Small networks for tests of explainers: each is as simple as its question allows."""

import torch
from monai.networks.blocks import PatchEmbeddingBlock, TransformerBlock
from torch import Tensor, nn

from ai.hybrids.evidence import EvidenceHead


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


class ClassTokenInFront(nn.Module):
    """Puts a token in front of [B, N, K] that stands for no place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat((self.token.expand(tokens.shape[0], -1, -1), tokens), dim=1)


class FirstToken(nn.Module):
    """Returns the first of the tokens [B, N, K]."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class TokensAsMap(nn.Module):
    """Lays tokens [B, N, K] out on a grid, [B, K, *s]."""

    def __init__(self, *extents: int) -> None:
        super().__init__()
        self.extents = extents

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, self.extents)


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


def evident(
    *, axes: int = 2, channels: int = 1, classes: int = 3, sharpness: float = 0.0, seed: int = 0
) -> nn.Sequential:
    """Return the blocks of ``classifier`` with an evidence head, in evaluation mode."""
    blocks = list(classifier(axes=axes, channels=channels, seed=seed))[:-3]
    head = EvidenceHead(8, classes, spatial_dims=axes, sharpness=sharpness, prior=-0.5)
    return nn.Sequential(*blocks, head).eval()


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


def transformer(
    extents: tuple[int, ...] = (48, 48), *, channels: int = 1, classes: int = 3, seed: int = 0
) -> nn.Sequential:
    """Return a vision transformer of two layers that reads a class token, in evaluation mode."""
    torch.manual_seed(seed)
    return nn.Sequential(
        _patches(extents, 8, channels),
        ClassTokenInFront(24),
        *_layers(),
        nn.LayerNorm(24),
        FirstToken(),
        nn.Linear(24, classes),
    ).eval()


def token_segmenter(extents: tuple[int, ...], *, classes: int = 3, seed: int = 0) -> nn.Sequential:
    """Return a network for volumes that outlines segments from tokens, in evaluation mode."""
    torch.manual_seed(seed)
    return nn.Sequential(
        _patches(extents, 4, 1),
        *_layers(),
        TokensAsMap(*(extent // 4 for extent in extents)),
        nn.ConvTranspose3d(24, classes, 4, stride=4),
    ).eval()


def _patches(extents: tuple[int, ...], edge: int, channels: int) -> nn.Module:
    return PatchEmbeddingBlock(channels, extents, edge, 24, 3, spatial_dims=len(extents))


def _layers() -> list[nn.Module]:
    blocks = [TransformerBlock(hidden_size=24, mlp_dim=48, num_heads=3) for _ in range(2)]
    for block in blocks:
        # As sharp as in a trained network: with its initial weights attention is nearly even.
        nn.init.normal_(block.attn.qkv.weight, std=0.5)
    return blocks


def image(*shape: int, seed: int = 0) -> Tensor:
    """Return float32 noise of ``shape`` around 0."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

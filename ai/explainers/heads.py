"""Whether a network ends in a linear layer that reads a feature map: what CAM is defined on."""

from typing import cast

import torch
from torch import Tensor, nn

#: Largest difference to the network's output, as a share of its size.
_TOLERANCE = 1e-4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def head_widths(network: nn.Module) -> frozenset[int]:
    """Return how many channels the linear layers of a network read."""
    weights = (_weight(module) for module in network.modules())
    return frozenset(weight.shape[1] for weight in weights if weight is not None)


def is_read_linearly(network: nn.Module, maps: Tensor, output: Tensor) -> bool:
    """Return whether one linear layer gives the network's output from a map, tried on its values.

    Either of the map's mean over space (global average pooling and a linear layer, in either
    order), or at each place (a segmenter that ends in a 1 x 1 convolution).

    Parameters
    ----------
    network
        Its linear layers and its convolutions of one cell are tried.
    maps
        [B, N, K, *s], of one pass; N is 1 for images.
    output
        [B, O] or [B, O, *S], of the same pass.
    """
    if output.ndim == 2:
        places = maps.flatten(3).mean(dim=(1, 3))
    elif maps.shape[1] == 1 and maps.shape[3:] == output.shape[2:]:
        places = maps[:, 0].flatten(2)
    else:
        return False
    wanted = output.flatten(2) if output.ndim > 2 else output
    for module in network.modules():
        weight = _weight(module)
        if weight is not None and weight.shape == (wanted.shape[1], places.shape[1]):
            given = torch.einsum("ok,bk...->bo...", weight, places)
            bias = cast("Tensor | None", module.bias)
            if bias is not None:
                given = given + bias.view(-1, *[1] * (given.ndim - 2))
            if bool((given - wanted).abs().max() <= _TOLERANCE * wanted.abs().max()):
                return True
    return False


def _weight(module: nn.Module) -> Tensor | None:
    """Return the weight [O, K] of a linear layer or a convolution of one cell, else None."""
    if isinstance(module, nn.Linear):
        return module.weight
    if (
        isinstance(module, _CONVOLUTIONS)
        and module.groups == 1
        and module.weight[0, 0].numel() == 1
    ):
        return module.weight.flatten(1)
    return None

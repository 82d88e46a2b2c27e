"""The part of a network that turns an image into a feature map, of whatever network of MONAI."""

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn

from ai.capture import gradients_off, private_copy
from ai.errors import UnknownLayerError, UnsuitableLayerError


class FeatureMap(nn.Module):
    """A backbone that returns one map of the many that it computes.

    ``ResNetFeatures``, ``EfficientNetBNFeatures`` and the Swin transformer return a list, from the
    finest map to the coarsest.

    Parameters
    ----------
    backbone
        Returns maps [B, K, *s].
    stage
        Position in the list.
    """

    def __init__(self, backbone: nn.Module, stage: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the stage, [B, K, *s]."""
        maps: list[Tensor] = self.backbone(x)
        return maps[self.stage]


@gradients_off()
def trunk(network: nn.Module, layer: str, x: Tensor) -> nn.Sequential:
    """Return a network up to and including one of its layers, on the same weights.

    Works where a network calls its children one after the other, as ResNet, DenseNet and SENet do:
    ``trunk(resnet18, "layer2", x)``, ``trunk(densenet121, "features.denseblock2", x)``. That it
    does is not believed but tried: on ``x`` the trunk must return what the layer returns.

    Parameters
    ----------
    network
        Left as it is.
    layer
        As in ``network.named_modules()``.
    x
        float [B, C, *S], an image like those to come.

    Raises
    ------
    UnknownLayerError
        If the network has no layer of the name.
    UnsuitableLayerError
        If the layer returns something else than what its predecessors and itself make of an image.
    """
    part = _up_to(network, layer)
    probe = private_copy(network).eval()
    returned: list[object] = []
    probe.get_submodule(layer).register_forward_hook(
        # What follows may overwrite it in place.
        lambda _module, _inputs, output: returned.append(copy.deepcopy(output))
    )
    probe(x.clone())
    try:
        given = private_copy(part).eval()(x.clone())
    except (RuntimeError, TypeError) as error:
        raise UnsuitableLayerError(_not_in_order(network, layer)) from error
    wanted = returned[-1] if returned else None
    if not isinstance(wanted, Tensor) or given.shape != wanted.shape:
        raise UnsuitableLayerError(_not_in_order(network, layer))
    if not torch.allclose(given, wanted):
        raise UnsuitableLayerError(_not_in_order(network, layer))
    return part


@gradients_off()
def width_of(backbone: nn.Module, x: Tensor) -> int:
    """Return the number of channels of the map that a backbone returns, without a trace on it.

    Raises
    ------
    UnsuitableLayerError
        If it returns no map [B, K, *s] of an image [B, C, *S].
    """
    found = private_copy(backbone).eval()(x.clone())
    if not isinstance(found, Tensor) or found.ndim != x.ndim or found.shape[0] != x.shape[0]:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UnsuitableLayerError(
            f"the backbone returns {shape} of an image {tuple(x.shape)}, expected a map "
            "[B, K, *s]; take one of a list with FeatureMap, or an earlier layer with trunk"
        )
    return found.shape[1]


def _up_to(network: nn.Module, layer: str) -> nn.Sequential:
    first, _, rest = layer.partition(".")
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in network.named_children():
        kept[name] = _up_to(child, rest) if name == first and rest else child
        if name == first:
            return nn.Sequential(kept)
    raise UnknownLayerError(
        f"{type(network).__name__} has no layer {first!r}, it has {', '.join(kept) or 'none'}"
    )


def _not_in_order(network: nn.Module, layer: str) -> str:
    return (
        f"{type(network).__name__} does not call its layers one after the other up to {layer!r}: "
        "give a module that returns the map"
    )

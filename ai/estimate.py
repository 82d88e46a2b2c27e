"""What an explanation would cost on a network, told before there is an image to explain."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ai.errors import ExplanationError
from ai.model import Explainer
from dicom_io.analysis import Cost

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def estimated_cost(explainer: Explainer, network: nn.Module, x: Tensor) -> Cost:
    """Return what explaining ``x`` takes at most.

    Raises
    ------
    ExplanationError
        The method does not work on this network; the message says why.
    """
    try:
        return explainer.estimate_cost(network, x)
    except ExplanationError:
        raise
    except (RuntimeError, ValueError) as error:
        # Networks say in many ways that they do not take an input of this size.
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ExplanationError(f"the network does not take this input: {said[0]}") from error


def example_input(network: nn.Module, extents: Sequence[int]) -> Tensor:
    """Return noise in the place of an image, float32 [1, C, *S], as the network's first layer asks.

    Parameters
    ----------
    network
        Its first convolution says how many channels it takes; without one, one channel.
    extents
        S, along each axis of the tensor.

    Raises
    ------
    ExplanationError
        The network's first convolution has another number of axes.
    """
    first = next((each for each in network.modules() if isinstance(each, _CONVOLUTIONS)), None)
    axes = len(extents) if first is None else len(first.kernel_size)
    if axes != len(extents):
        raise ExplanationError(f"the network takes images of {axes} axes, not of {len(extents)}")
    shape = (1, 1 if first is None else first.in_channels, *extents)
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)

"""What a bundle's post-processing makes of an output: probabilities, or masks on the source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from monai.transforms.post.dictionary import Activationsd, AsDiscreted, Invertd
from numpy.typing import NDArray
from torch import Tensor

from ai.errors import ModelUnavailableError
from ai.model import Label, Prepared
from ai.prepare import Transform, labels_to_source_grid, probabilities_to_source_grid

_PREDICTION = "pred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postprocessing:
    """A bundle's steps after the network, parted where they leave the prepared grid."""

    #: On the prepared grid.
    before: tuple[Transform, ...] = ()
    #: On the grid of the source.
    after: tuple[Transform, ...] = ()
    image_key: str = "image"

    @property
    def steps(self) -> tuple[Transform, ...]:
        """All of them, in order."""
        return (*self.before, *self.after)


def part_at_inversion(transforms: Sequence[Transform], image_key: str) -> Postprocessing:
    """Return the steps before and after ``Invertd``, which the way back by affines replaces."""
    for position, transform in enumerate(transforms):
        if isinstance(transform, Invertd):
            before, after = transforms[:position], transforms[position + 1 :]
            break
    else:
        before, after = transforms, ()
    return Postprocessing(before=tuple(before), after=tuple(after), image_key=image_key)


def class_probabilities(
    output: Tensor,
    post: Postprocessing,
    labels: Sequence[Label],
    *,
    temperature: float = 1.0,
    ends_in_activation: bool = False,
) -> dict[str, float]:
    """Return label name to probability for a classifier's output [1, K].

    Only the bundle's activation is applied. Where it has none, the network's own is enough; where
    neither has one but the most probable class is taken, classes exclude each other and softmax is
    meant.

    Parameters
    ----------
    temperature
        Divides the logits before the activation.
    ends_in_activation
        Whether the network's last layer is a sigmoid or a softmax.

    Raises
    ------
    ModelUnavailableError
        There is no activation and the output is no probability, or is one already and a
        temperature is asked for; or a label has no channel.
    """
    _require_channels(output, labels)
    logits = output[0] / temperature
    activations: list[Any] = [step for step in post.steps if isinstance(step, Activationsd)]
    if activations:
        values = _run(activations, {_PREDICTION: logits})
    elif _takes_largest(post.steps) and not ends_in_activation:
        values = torch.softmax(logits, dim=0)
    else:
        values = output[0]
    if not activations and ends_in_activation and temperature != 1.0:
        raise ModelUnavailableError(
            f"temperature {temperature:g} needs logits, and the network gives probabilities: "
            f"remove the temperature"
        )
    known = activations or ends_in_activation or _takes_largest(post.steps)
    lowest, highest = float(values.min()), float(values.max())
    # Numbers between 0 and 1 alone are no proof: small logits look the same.
    if not known or lowest < 0.0 or highest > 1.0:
        raise ModelUnavailableError(
            f"the bundle's post-processing has no activation and the network ends in none: its "
            f"{lowest:.3g} to {highest:.3g} is not a probability; add Activationsd"
        )
    return {label.name: float(values[label.channel]) for label in labels}


def source_masks(
    output: Tensor, prepared: Prepared, post: Postprocessing, labels: Sequence[Label]
) -> dict[str, NDArray[Any]]:
    """Return label name to mask, bool [slice, row, column], for an output [1, K, *S].

    Nothing is outlined outside of what the network saw: the zeros there are no answer, though an
    activation or the largest channel would make one of them.

    Raises
    ------
    ModelUnavailableError
        The post-processing does not end in classes, or in ones that cannot be told apart.
    """
    _require_channels(output, labels)
    entry = {_PREDICTION: output[0], post.image_key: prepared.tensor[0]}
    values = _run(post.before, entry)
    if _is_discrete(post.before) or not values.is_floating_point():
        values = labels_to_source_grid(values, prepared)
    else:
        values = probabilities_to_source_grid(values, prepared)
    if post.after:
        values = _run(post.after, {_PREDICTION: values})
    masks = _masks(values, post.steps, labels, channels=output.shape[1])
    seen = labels_to_source_grid(torch.ones_like(output[0, :1], dtype=torch.bool), prepared)[0]
    return {name: _read_only(mask & seen) for name, mask in masks.items()}


def _run(steps: Sequence[Transform], entry: Mapping[str, Any]) -> Tensor:
    current = dict(entry)
    for step in steps:
        if isinstance(step, AsDiscreted) and step.keys == (_PREDICTION,) and step.argmax[0]:
            current[_PREDICTION] = _discrete(step, current[_PREDICTION])
        else:
            current = step(current)
    return torch.as_tensor(current[_PREDICTION]).as_subclass(Tensor)


def _discrete(step: AsDiscreted, values: Tensor) -> Tensor:
    """Return what the step gives: over channels, torch's argmax takes ten times what max does."""
    asked = step.converter.kwargs
    largest = values.max(dim=asked.get("dim", 0), keepdim=asked.get("keepdim", True)).indices
    rest = (step.to_onehot[0], step.threshold[0], step.rounding[0])
    return cast("Tensor", step.converter(largest, False, *rest))


def _masks(
    values: Tensor, steps: Sequence[Transform], labels: Sequence[Label], *, channels: int
) -> dict[str, Tensor]:
    if _takes_largest(steps) and values.shape[0] == 1:
        return {label.name: values[0] == label.channel for label in labels}
    if not _is_discrete(steps) or values.shape[0] != channels:
        raise ModelUnavailableError(
            f"the bundle's post-processing turns {channels} channels into {values.shape[0]} "
            f"and not by AsDiscreted: what they mean cannot be told"
        )
    return {label.name: values[label.channel] > 0.5 for label in labels}


def _require_channels(output: Tensor, labels: Sequence[Label]) -> None:
    beyond = [label for label in labels if not 0 <= label.channel < output.shape[1]]
    if beyond:
        raise ModelUnavailableError(
            f"the network has {output.shape[1]} output channels and none for "
            f"{', '.join(f'{label.name} ({label.channel})' for label in beyond)}: "
            f"correct [model.labels]"
        )


def _is_discrete(steps: Sequence[Transform]) -> bool:
    return any(isinstance(step, AsDiscreted) for step in steps)


def _takes_largest(steps: Sequence[Transform]) -> bool:
    return any(isinstance(step, AsDiscreted) and any(step.argmax) for step in steps)


def _read_only(mask: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = mask.cpu().numpy()
    array.setflags(write=False)
    return array

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


@dataclass(frozen=True, slots=True)
class LogitMargin:
    """How far one class is ahead of another: why this and not that.

    Of an output [B, K] it is the difference of two logits. Of two exclusive classes it is the whole
    decision: the logarithm of their odds.

    Raises
    ------
    TargetError
        When made of a class and itself; when called with an output of another rank, or without one
        of the channels.
    """

    channel: int
    #: The channel of the class that it might have been instead.
    against: int

    def __post_init__(self) -> None:
        if self.channel == self.against:
            raise TargetError(f"channel {self.channel} has no margin over itself; name another")

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the difference of the logits, [B]."""
        return ClassLogit(self.channel)(output, x) - ClassLogit(self.against)(output, x)


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
        _require_mask(self.frozen_mask, "a segment")

    def __call__(self, output: Tensor, _x: Tensor) -> Tensor:
        """Return the channel's mean logit over the mask, [B]."""
        _require_channel(output, self.channel)
        return _mean_over(self.frozen_mask, output[:, self.channel], tuple(output.shape))


@dataclass(frozen=True, slots=True, eq=False)
class RegionMargin:
    """How far one class is ahead of another in a region of a segmenter's output, on average.

    The region is a person's: where a structure is suspected, or where two readers differ. It need
    not be what the network outlined. (For one class alone, ``SegmentMass`` takes any mask.)

    Raises
    ------
    TargetError
        As ``SegmentMass`` and ``LogitMargin``.
    """

    channel: int
    against: int
    #: bool [*S], on the grid of the network's output.
    region: Tensor

    def __post_init__(self) -> None:
        _require_mask(self.region, "a region")
        if self.channel == self.against:
            raise TargetError(f"channel {self.channel} has no margin over itself; name another")

    def __call__(self, output: Tensor, _x: Tensor) -> Tensor:
        """Return the mean difference of the logits over the region, [B]."""
        for channel in (self.channel, self.against):
            _require_channel(output, channel)
        margin = output[:, self.channel] - output[:, self.against]
        return _mean_over(self.region, margin, tuple(output.shape))


@dataclass(frozen=True, slots=True)
class BoxScore:
    """The score of one class at one place of a detector's head, before sigmoid.

    A dense head gives [B, A K, *s]: the scores of K classes for each of A anchors at each place,
    those of one anchor side by side, as RetinaNet has it (Lin et al. 2017). The place does not move
    with the image, so that the target is a function of it.

    Raises
    ------
    TargetError
        When made without classes; when called with an output whose channels are no multiple of
        ``classes``, or that has no such place, anchor or class.
    """

    #: Index along each axis of the head's map.
    place: tuple[int, ...]
    anchor: int
    channel: int
    #: How many classes each anchor scores.
    classes: int
    #: Where in the network's output the head's scores are: ``("classification", 2)`` is level 2 of
    #: MONAI's RetinaNet; empty: the first tensor.
    part: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise TargetError(f"a head scores at least one class, got classes = {self.classes}")

    def __call__(self, output: Tensor, _x: Tensor) -> Tensor:
        """Return the score, [B]."""
        extents = tuple(output.shape[2:])
        anchors, rest = divmod(output.shape[1], self.classes)
        if rest:
            raise TargetError(
                f"{output.shape[1]} channels are no multiple of {self.classes} classes"
            )
        inside = len(self.place) == len(extents) and all(
            0 <= at < extent for at, extent in zip(self.place, extents, strict=True)
        )
        if not inside or not 0 <= self.anchor < anchors or not 0 <= self.channel < self.classes:
            raise TargetError(
                f"there is no class {self.channel} of anchor {self.anchor} at {self.place}: the "
                f"head scores {self.classes} classes of {anchors} anchors on a map of {extents}"
            )
        score = output[:, self.anchor * self.classes + self.channel]
        for at in self.place:
            score = score.select(1, at)
        return score


@dataclass(frozen=True, slots=True)
class Concept:
    """The logit of one concept of a network that says what it sees before it concludes.

    A concept bottleneck (Koh et al. 2020), for one, returns (logits [B, K], concepts [B, N]).

    Raises
    ------
    TargetError
        When called with an output of another rank, or without this concept.
    """

    index: int
    #: Where in the network's output the concepts are.
    part: tuple[str | int, ...] = (1,)

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the concept's logit, [B]."""
        return ClassLogit(self.index)(output, x)


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


def part_of(output: object, part: tuple[str | int, ...]) -> Tensor:
    """Return the tensor that a target reads: ``output[part[0]][part[1]]`` and so on.

    Raises
    ------
    TargetError
        If there is none.
    """
    found = output
    for key in part:
        try:
            found = found[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError) as error:
            raise TargetError(
                f"the network's output has no {list(part)}: {type(found).__name__} has no {key!r}"
            ) from error
    return logits_of(found)


def _require_mask(mask: Tensor, what: str) -> None:
    if mask.dtype != torch.bool or not bool(mask.any()):
        raise TargetError(
            f"the mask of {what} must be bool with at least one voxel set, got "
            f"{mask.dtype} with {int(torch.count_nonzero(mask))}"
        )


def _mean_over(mask: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the mean of values [B, *S] over a mask [*S], [B]; ``shape`` is told in errors."""
    if values.shape[1:] != mask.shape:
        raise TargetError(
            f"a mask on the grid {tuple(mask.shape)} does not fit an output of shape {shape}"
        )
    mask = mask.to(values.device)
    # Autograd keeps the mask, and refuses one that was made under torch.inference_mode.
    return values[:, mask.clone() if mask.is_inference() else mask].mean(dim=1)


def _require_channel(output: Tensor, channel: int) -> None:
    channels = output.shape[1]
    if not 0 <= channel < channels:
        raise TargetError(f"channel {channel} is out of range: the network has {channels} (from 0)")

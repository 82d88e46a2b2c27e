"""Whether the network needs what an explanation points at (G3), and needs no more: look without.

Comprehensiveness and specificity remove the focus of the map, sufficiency all else. All hold it
against other places of the same shape.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import gradients_off
from ai.errors import MeasureError
from ai.explainers.admission import admit
from ai.explainers.baselines import blurred, smoothed
from ai.model import Target
from ai.quality.scoring import RESOLUTION, answers_to, require_finite
from ai.targets import ClassLogit

#: Largest share of the image that a mask takes.
TOP_SHARE = 0.1
#: Share of the positive relevance that the focus of a map holds. A tenth of the image around a
#: small focus would hide all kinds of other things with it (docs/decisions/0015-focus-by-mass.md).
FOCUS_SHARE = 0.9
#: Drops are held against at least this share of the target: what costs it a fiftieth is no need.
_NEEDED = 0.2
#: How many displaced masks the mask is held against.
DISPLACED = 3
#: Standard deviation of the masks' soft border, in cells.
_BORDER_CELLS = 1.5
#: Cells along each axis of the grid on which displacements are compared.
_COARSE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops:
    """What the target lost, in its own unit, by each removal."""

    f_x: float
    #: By the focus of the map.
    top: float
    #: By masks of the same shape elsewhere.
    displaced: tuple[float, ...]
    #: What each other class lost by the focus, less what it lost on average by the masks elsewhere;
    #: empty where the target is no class or the only one.
    others: tuple[float, ...] = ()

    @property
    def contrast(self) -> float:
        """(top - mean of displaced) / (size of top + mean size of displaced), from -1 to 1.

        The divisor is at least a fifth of the target's own size, so that drops that are nothing
        to the target do not look like a contrast; 0 if nothing changed it at all.
        """
        return _contrast(self.top, self.displaced, self.f_x)

    @property
    def specificity(self) -> float | None:
        """(own - other) / (own + other), from -1 to 1; None where there is no other class.

        Own is what the target lost by the focus more than by the masks elsewhere, other the same
        of the class that lost most; gains count as 0. 0 if neither lost anything.
        """
        if not self.others:
            return None
        own = max(0.0, self.top - sum(self.displaced) / len(self.displaced))
        other = max(0.0, *self.others)
        if own + other <= RESOLUTION * abs(self.f_x):
            return 0.0
        return (own - other) / (own + other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """What the target has above that of the blurred image, in its own unit, by each sharp part."""

    f_x: float
    #: Of the image that is blurred everywhere.
    f_blurred: float
    #: With the focus of the map.
    top: float
    #: With masks of the same shape elsewhere.
    displaced: tuple[float, ...]

    @property
    def contrast(self) -> float:
        """(top - mean of displaced) / (size of top + mean size of displaced), from -1 to 1.

        As of ``Drops``; the divisor is at least a fifth of all that there is to gain, too.
        """
        return _contrast(
            self.top, self.displaced, max(abs(self.f_x), abs(self.f_x - self.f_blurred))
        )

    @property
    def missing(self) -> float:
        """What the target lacks with the focus of the map alone: the paper's sufficiency."""
        return self.f_x - self.f_blurred - self.top


def comprehensiveness(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    f_x: float | None = None,
) -> float:
    """Return how much more the target loses by the focus of the map than by other places.

    Comprehensiveness as in DeYoung et al. 2020, against a control: the focus (see ``focus_mask``)
    is blurred away, and so are three displaced copies of that very mask. The value is the contrast
    of the drops, from -1 to 1, and higher is better: above 0, the place matters more than others;
    1, only it matters; 0 or less, the map points beside what the network uses. It has no unit, so
    networks compare. It takes 5 forward passes, 4 where ``f_x`` is known.

    Parameters
    ----------
    network
        In evaluation mode; left as it is.
    x
        float [1, C, *S].
    target
        What was explained.
    values
        The attribution, [1, C, *S] or [1, 1, *S]; channels are summed. A map without positive
        relevance points nowhere and has the value 0.
    f_x
        The target's value of ``x``, as an attribution has it; None: the network is asked.

    Raises
    ------
    MeasureError
        If the attribution does not fit the input or is not finite, or the image has one cell.
    ExplanationError
        As ``ai.explainers.admission.admit``, and if the target does not fit the output.
    """
    if not bool((values.sum(dim=1) > 0).any()) and bool(torch.isfinite(values).all()):
        return 0.0
    return measure_drops(network, x, target, values, f_x=f_x).contrast


def specificity(
    network: nn.Module,
    x: Tensor,
    target: ClassLogit,
    values: Tensor,
    *,
    f_x: float | None = None,
) -> float | None:
    """Return whether the focus of the map matters to its class more than to any other.

    On the images of ``comprehensiveness``, and of every class of the output: what its logit loses
    by the focus, less what it loses on average by the displaced masks. The value is the contrast
    of the target's loss with the greatest of the others, from -1 to 1, and higher is better: 1, no
    other class loses anything; 0, another loses as much, or none does; -1, only another does: the
    map is that one's. None where the network has one class alone. Logits are held against each
    other as the network gives them: classes that share a place, or differ much in scale, lower it.
    It takes 5 forward passes, 4 where ``f_x`` is known, and none beside those of
    ``comprehensiveness``: ``measure_drops`` gives both. Parameters and errors as there.
    """
    if not bool((values.sum(dim=1) > 0).any()) and bool(torch.isfinite(values).all()):
        return 0.0
    drops = measure_drops(network, x, target, values, f_x=f_x, channel=target.channel)
    return drops.specificity


@gradients_off()
def measure_drops(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    f_x: float | None = None,
    channel: int | None = None,
) -> Drops:
    """Return the drops behind ``comprehensiveness``; parameters and errors as there.

    Parameters
    ----------
    channel
        Of the class whose logit is the target: what the others lose is noted, too.
    """
    frozen, plain = admit(network, x)
    _require_measurable(plain, values)
    fill = blurred(plain)
    masks = _masks(plain, fill, values)
    removed = (_removed(plain, fill, each) for each in masks)
    unknown = [plain] if f_x is None else []
    noting = _NotingOthers(target=target, channel=channel)
    answers = answers_to(frozen, noting, itertools.chain(unknown, removed), plain)
    whole = answers.pop(0) if f_x is None else f_x
    top, *displaced = (whole - answer for answer in answers)
    others = torch.cat(noting.others)[-len(masks) :]
    lost = others[1:].mean(dim=0) - others[0]
    return Drops(f_x=whole, top=top, displaced=tuple(displaced), others=tuple(lost.tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _NotingOthers:
    """A target that notes the logits of the classes beside it as it is asked."""

    target: Target
    #: None: no class, which has none beside it.
    channel: int | None
    #: float64 [B, K - 1] of each batch.
    others: list[Tensor] = field(default_factory=list)

    @property
    def part(self) -> tuple[str | int, ...]:
        return tuple(getattr(self.target, "part", ()))

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        value = self.target(output, x)
        beside = [] if self.channel is None else range(output.shape[1])
        kept = [index for index in beside if index != self.channel]
        self.others.append(output.flatten(1)[:, kept].double())
        return value


def sufficiency(network: nn.Module, x: Tensor, target: Target, values: Tensor) -> float:
    """Return how much more the target has of the focus of the map alone than of other places.

    Sufficiency as in DeYoung et al. 2020, against a control: all but the focus (``focus_mask``) is
    blurred away, and all but three displaced copies of that very mask. The value is the contrast
    of what each brings back above the image that is blurred everywhere, from -1 to 1; higher is
    better. 1: the place alone speaks for the target, other places do not; 0 or less: it does not
    suffice, or others do as well. It takes 6 forward passes. Parameters and errors as of
    ``comprehensiveness``.
    """
    if not bool((values.sum(dim=1) > 0).any()) and bool(torch.isfinite(values).all()):
        return 0.0
    return measure_gains(network, x, target, values).contrast


@gradients_off()
def measure_gains(network: nn.Module, x: Tensor, target: Target, values: Tensor) -> Gains:
    """Return the gains behind ``sufficiency``; parameters and errors as there."""
    frozen, plain = admit(network, x)
    _require_measurable(plain, values)
    fill = blurred(plain)
    masks = _masks(plain, fill, values)
    kept = (_removed(fill, plain, each) for each in masks)
    f_x, f_blurred, *answers = answers_to(frozen, target, (plain, fill, *kept), plain)
    top, *displaced = (answer - f_blurred for answer in answers)
    return Gains(f_x=f_x, f_blurred=f_blurred, top=top, displaced=tuple(displaced))


def focus_mask(relevance: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Return the smallest part of a map [*S] that holds most of its positive relevance, bool [*S].

    That is ``FOCUS_SHARE`` of it, but at most ``share`` of the image; equal cells as in
    ``top_mask``.
    """
    mask = top_mask(relevance, share)
    held = relevance[mask].double().sort(descending=True).values.cumsum(0)
    total = relevance.clamp_min(0).double().sum()
    count = int((held < FOCUS_SHARE * total).sum()) + 1
    return mask if count >= held.numel() else _greatest(relevance, count)


def top_mask(relevance: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Return where relevance [*S] is among the greatest ``share`` and positive, bool [*S].

    Cells that share the limit are taken in the order of the grid, so that the mask is never larger
    than asked and always the same.
    """
    count = min(math.ceil(share * relevance.numel()), int((relevance > 0).sum()))
    if count == 0:
        return torch.zeros_like(relevance, dtype=torch.bool)
    return _greatest(relevance, count)


def _greatest(relevance: Tensor, count: int) -> Tensor:
    flat = relevance.flatten()
    limit = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > limit
    tied = torch.nonzero(flat == limit)[: count - int(mask.sum()), 0]
    mask[tied] = True
    return mask.reshape(relevance.shape)


def _contrast(top: float, displaced: tuple[float, ...], f_x: float) -> float:
    mean = sum(displaced) / len(displaced)
    size = abs(top) + sum(abs(other) for other in displaced) / len(displaced)
    if size <= RESOLUTION * abs(f_x):
        return 0.0
    return (top - mean) / max(size, _NEEDED * abs(f_x))


def _masks(x: Tensor, fill: Tensor, values: Tensor) -> list[Tensor]:
    """Return the mask of the focus, and the same mask in other places."""
    mask = focus_mask(values.sum(dim=1)[0])
    return [mask, *_displaced(mask, (x - fill).abs().sum(dim=1)[0])]


def _removed(x: Tensor, fill: Tensor, mask: Tensor) -> Tensor:
    """Return the image with the mask filled, across a soft border.

    A hard one would draw an outline of its own, which a network that looks for edges or texture
    answers to more than to what was removed (Fong and Vedaldi 2017 smooth theirs as well).
    """
    share = smoothed(mask.to(x.dtype)[None, None], _BORDER_CELLS)
    return x + share * (fill - x)


def _displaced(mask: Tensor, change: Tensor) -> list[Tensor]:
    """Return the mask moved by quarters of each extent, around the edges, three times.

    Of all such moves those are chosen that remove about as much of the image (``change``, [*S])
    as the mask itself and overlap it least: a mask moved into empty air would be no rival.
    """
    shape = [min(_COARSE, extent) for extent in mask.shape]
    pooled = functional.interpolate(
        torch.stack([mask.to(change.dtype), change])[None], shape, mode="area"
    )[0]
    moves = [
        move
        for move in itertools.product(range(4), repeat=mask.ndim)
        if any(extent * step // 4 for extent, step in zip(mask.shape, move, strict=True))
    ]
    if not moves:
        raise MeasureError(f"an image of shape {tuple(mask.shape)} has no other place to compare")
    rivals = sorted(moves, key=lambda move: -_rivalry(pooled[0], pooled[1], move))[:DISPLACED]
    return [_moved(mask, move) for move in rivals]


def _rivalry(mask: Tensor, change: Tensor, move: tuple[int, ...]) -> float:
    moved = _moved(mask, move)
    removed = float((moved * change).sum()) / max(float((mask * change).sum()), 1e-12)
    overlap = float((moved * mask).sum()) / max(float((mask * mask).sum()), 1e-12)
    return min(removed, 1.0) - overlap


def _moved(mask: Tensor, move: tuple[int, ...]) -> Tensor:
    steps = [extent * step // 4 for extent, step in zip(mask.shape, move, strict=True)]
    return torch.roll(mask, steps, dims=list(range(mask.ndim)))


def _require_measurable(x: Tensor, values: Tensor) -> None:
    fits = values.ndim == x.ndim and values.shape[2:] == x.shape[2:]
    if x.shape[0] != 1 or not fits or values.shape[0] != 1:
        raise MeasureError(
            f"an attribution {tuple(values.shape)} of an input {tuple(x.shape)}: expected one "
            "entry each, on one grid"
        )
    require_finite(values)

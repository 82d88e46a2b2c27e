"""Insertion and deletion: how the target falls and rises as the image goes, cell by cell.

Cells go or come in the order of their relevance. What is removed is blurred: an image in black is
one that no network was made for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import MeasureError
from ai.explainers.admission import admit
from ai.explainers.baselines import blurred
from ai.model import Target
from ai.quality.scoring import NOTICEABLE, answers_to, ranks_of, require_on_grid

#: Equal parts that the image is taken away or laid down in.
STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the target was while the most relevant cells came or went."""

    #: float64 [K + 1], the share of cells that came or went so far, from 0 to 1.
    shares: Tensor
    #: float64 [B, K + 1], in the target's own unit.
    scores: Tensor
    #: float64 [B], of the image.
    f_x: Tensor
    #: float64 [B], of the blurred image.
    f_blurred: Tensor

    @property
    def area(self) -> Tensor:
        """The area under the curve, [B], in the target's own unit."""
        return torch.trapezoid(self.scores, self.shares, dim=1)

    @property
    def relative(self) -> Tensor:
        """The scores where the image is 1 and the blurred image 0, [B, K + 1].

        NaN for an image that the target does not prefer to its blur by a twentieth of its size or
        more: there is nothing that cells could bring, and noise would be measured in its place.
        """
        gain = self.f_x - self.f_blurred
        least = NOTICEABLE * torch.maximum(self.f_x.abs(), self.f_blurred.abs())
        known = torch.where(gain > least, gain, torch.nan)
        return (self.scores - self.f_blurred[:, None]) / known[:, None]

    @property
    def relative_area(self) -> Tensor:
        """The area under the relative curve, [B]."""
        return torch.trapezoid(self.relative, self.shares, dim=1)


def deletion(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    generator: torch.Generator,
    steps: int = STEPS,
) -> Tensor:
    """Return the area under the curve of the target as the most relevant cells go, [B].

    Deletion as in Petsiuk et al. 2018, with a blurred image for what is removed, relative: 1 is the
    target of the image, 0 that of the blurred one. Lower is better: near 0, the target is lost with
    the first cells. Mostly from 0 to 1, but nothing holds a network between them. What chance gives
    depends on the network (a linear one: about 1/2), so it is read beside the controls'. NaN for an
    image that the target does not clearly prefer to its blur. It takes ``steps`` + 1 forward passes
    for each entry.

    Parameters
    ----------
    network
        In evaluation mode; left as it is.
    x
        float [B, C, *S]; each entry is measured as if alone.
    target
        What was explained.
    values
        The attribution, [B, C, *S] or [B, 1, *S]; channels are summed.
    generator
        Orders cells of equal relevance, in the same way for each entry.
    steps
        Equal parts that the image is taken away in, at least 1.

    Raises
    ------
    MeasureError
        If the attribution does not fit the input or is not finite, or there are fewer cells than
        steps.
    ExplanationError
        As ``ai.explainers.admission.admit``, and if the target does not fit the output.
    """
    curve = deletion_curve(network, x, target, values, generator=generator, steps=steps)
    return curve.relative_area


def insertion(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    generator: torch.Generator,
    steps: int = STEPS,
) -> Tensor:
    """Return the area under the curve of the target as the most relevant cells come, [B].

    Insertion as in Petsiuk et al. 2018: the image begins blurred, and its most relevant cells are
    laid down first. Relative as ``deletion``. Higher is better: near 1, the first cells bring the
    whole target. It takes ``steps`` + 1 forward passes for each entry; all else as of ``deletion``.
    """
    curve = insertion_curve(network, x, target, values, generator=generator, steps=steps)
    return curve.relative_area


@gradients_off()
def deletion_curve(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    generator: torch.Generator,
    steps: int = STEPS,
) -> Curve:
    """Return the curve behind ``deletion``; parameters and errors as there."""
    frozen, plain = admit(network, x)
    ranks = _ranks(plain, values, generator, steps)
    ask = partial(answers_to, frozen, target)
    shares, scores = _walked(ask, plain, blurred(plain), ranks, steps)
    return Curve(shares=shares, scores=scores, f_x=scores[:, 0], f_blurred=scores[:, -1])


@gradients_off()
def insertion_curve(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    generator: torch.Generator,
    steps: int = STEPS,
) -> Curve:
    """Return the curve behind ``insertion``; parameters and errors as there."""
    frozen, plain = admit(network, x)
    ranks = _ranks(plain, values, generator, steps)
    ask = partial(answers_to, frozen, target)
    shares, scores = _walked(ask, blurred(plain), plain, ranks, steps)
    return Curve(shares=shares, scores=scores, f_x=scores[:, -1], f_blurred=scores[:, 0])


def _ranks(x: Tensor, values: Tensor, generator: torch.Generator, steps: int) -> Tensor:
    require_on_grid(values, x)
    cells = values[0, 0].numel()
    if not 1 <= steps <= cells:
        raise MeasureError(f"{steps} steps through {cells} cells: expected 1 to {cells}")
    return ranks_of(values.sum(dim=1), generator)


def _walked(
    ask: Callable[[Iterable[Tensor], Tensor], list[float]],
    begin: Tensor,
    end: Tensor,
    ranks: Tensor,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Return shares [K + 1] and scores [B, K + 1] on the way from one image to the other."""
    cells = ranks[0].numel()
    counts = [round(cells * step / steps) for step in range(steps + 1)]
    scores = []
    for entry, rank in enumerate(ranks):
        old, new = begin[entry : entry + 1], end[entry : entry + 1]
        images = (torch.where(rank < count, new, old) for count in counts)
        scores.append(ask(images, old))
    shares = torch.tensor(counts, dtype=torch.float64) / cells
    return shares, torch.tensor(scores, dtype=torch.float64)

"""ROAD: what is removed is filled from its neighbors, so that no outline of it gives it away.

A mask filled with one color or a blur is a shape that the network sees, and the score tells of the
shape as well as of what is gone (Rong et al. 2022). Here a removed cell is the weighted mean of its
neighbors, with a little noise (``ai.quality.imputation``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import MeasureError
from ai.explainers.admission import admit
from ai.model import Target
from ai.quality.imputation import filled
from ai.quality.scoring import NOTICEABLE, RESOLUTION, answers_to, ranks_of, require_on_grid

#: Shares of the cells that are removed.
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Standard deviation of the noise on what is filled, as a share of each channel's own.
NOISE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What the target was without so many of the most, and of the least relevant cells."""

    #: float64 [K], of the cells that were removed.
    shares: Tensor
    #: float64 [B, K], in the target's own unit: the most relevant first.
    most: Tensor
    #: float64 [B, K], the least relevant first.
    least: Tensor
    #: float64 [B], of the image.
    f_x: Tensor

    @property
    def gap(self) -> Tensor:
        """The mean over the shares of least - most, [B], in the target's own unit."""
        return (self.least - self.most).mean(dim=1)

    @property
    def contrast(self) -> Tensor:
        """The gap over the mean size of both changes, [B], from -1 to 1.

        The divisor is at least a twentieth of the target's own size; 0 if nothing changed it.
        """
        origin = self.f_x[:, None]
        size = ((self.least - origin).abs() + (self.most - origin).abs()).mean(dim=1)
        value = self.gap / torch.maximum(size, NOTICEABLE * self.f_x.abs())
        return torch.where(size <= RESOLUTION * self.f_x.abs(), 0.0, value)


def road(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    generator: torch.Generator,
    shares: tuple[float, ...] = SHARES,
) -> Tensor:
    """Return how much more the target loses by the most relevant cells than by the least, [B].

    ROAD as in Rong et al. 2022, in both orders: the same share of the cells is removed once from
    the most relevant on, once from the least relevant on, and filled from the neighbors. The value
    is the contrast of the changes over all shares, from -1 to 1; higher is better. 1: the target
    falls with the most relevant cells and stays as it is without the others; 0: chance; below, the
    map points away from what the network uses. It takes 2 K + 1 forward passes for each entry with
    K shares, and 2 K fillings: 1 to 2 s each in a volume of a million cells, on one thread.

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
        Draws the noise and orders cells of equal relevance, in the same way for each entry.
    shares
        Of the cells, between 0 and 1, neither included.

    Raises
    ------
    MeasureError
        If the attribution does not fit the input or is not finite, or a share leaves nothing or
        removes nothing.
    ExplanationError
        As ``ai.explainers.admission.admit``, and if the target does not fit the output.
    """
    return measure_removal(network, x, target, values, generator=generator, shares=shares).contrast


@gradients_off()
def measure_removal(
    network: nn.Module,
    x: Tensor,
    target: Target,
    values: Tensor,
    *,
    generator: torch.Generator,
    shares: tuple[float, ...] = SHARES,
) -> Removal:
    """Return the curves behind ``road``; parameters and errors as there."""
    frozen, plain = admit(network, x)
    require_on_grid(values, plain)
    counts = _counts(plain, shares)
    ranks = ranks_of(values.sum(dim=1), generator)
    noise = torch.randn(plain.shape[1:], generator=generator, device=generator.device).to(plain)
    scores = torch.tensor(
        [
            answers_to(frozen, target, _images(image, rank, counts, noise), plain)
            for image, rank in zip(plain, ranks, strict=True)
        ],
        dtype=torch.float64,
    )
    k = len(counts)
    return Removal(
        shares=torch.tensor(counts, dtype=torch.float64) / ranks[0].numel(),
        most=scores[:, 1 : 1 + k],
        least=scores[:, 1 + k :],
        f_x=scores[:, 0],
    )


def _counts(x: Tensor, shares: tuple[float, ...]) -> list[int]:
    cells = x[0, 0].numel()
    counts = [round(share * cells) for share in shares]
    if not counts or not all(0 < count < cells for count in counts):
        raise MeasureError(
            f"shares {shares} of {cells} cells: expected at least one, each to remove some of them "
            "and to leave some"
        )
    return counts


def _images(image: Tensor, rank: Tensor, counts: list[int], noise: Tensor) -> Iterator[Tensor]:
    """Yield the image [1, C, *S], then without the most, then without the least relevant cells."""
    yield image[None]
    strength = NOISE * image.flatten(1).std(dim=1, correction=0)
    noise = noise * strength.view(-1, *[1] * rank.ndim)
    for order in (rank, rank.numel() - 1 - rank):
        for count in counts:
            removed = order < count
            yield torch.where(removed, filled(image, removed) + noise, image)[None]

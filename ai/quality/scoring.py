"""What measures of faithfulness share: the order of cells, and the answers to altered images."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from ai.errors import MeasureError
from ai.explainers.admission import evaluate
from ai.explainers.metering import fit_into
from ai.model import Target

#: Changes below this share of the target drown in float32.
RESOLUTION = 1e-6
#: Changes are held against at least this share of the target.
NOTICEABLE = 0.05
#: What the activations of one batch may take; a large volume goes one by one.
_MEMORY_BYTES = 2**31


def answers_to(
    frozen: nn.Module, target: Target, images: Iterable[Tensor], like: Tensor
) -> list[float]:
    """Return the target's value of each image, as many at once as memory allows.

    Parameters
    ----------
    frozen
        Admitted before.
    images
        Each float [1, C, *S]; made one batch after the other.
    like
        float [B, C, *S], an input of their size.
    """
    at_once = fit_into(_MEMORY_BYTES, frozen, like).entries
    waiting, answers = iter(images), list[float]()
    while group := list(islice(waiting, at_once)):
        batch = torch.cat(group)
        answers += evaluate(target, frozen(batch), batch).tolist()
    return answers


def ranks_of(relevance: Tensor, generator: torch.Generator) -> Tensor:
    """Return the place of each cell from the most relevant, 0, to the least, int64 [B, *S].

    Cells of equal relevance are in random order, the same for each entry: half of a map may be
    zero, and the order of the grid would go through it from a corner.
    """
    flat = relevance.flatten(1)
    shuffled = torch.randperm(flat.shape[1], generator=generator, device=generator.device)
    shuffled = shuffled.to(flat.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).reshape(relevance.shape)


def require_on_grid(values: Tensor, x: Tensor) -> None:
    """Refuse an attribution [B, C, *S] or [B, 1, *S] that does not fit its input [B, C, *S].

    Raises
    ------
    MeasureError
        If batch or grid differ, or a value is not finite.
    """
    fits = values.ndim == x.ndim and values.shape[2:] == x.shape[2:]
    if not fits or values.shape[0] != x.shape[0]:
        raise MeasureError(
            f"an attribution {tuple(values.shape)} of an input {tuple(x.shape)}: expected as many "
            "entries, on one grid"
        )
    require_finite(values)


def require_finite(values: Tensor) -> None:
    """Refuse values that are not all finite.

    Raises
    ------
    MeasureError
        If one is not.
    """
    if not bool(torch.isfinite(values).all()):
        raise MeasureError(f"{int((~torch.isfinite(values)).sum())} values are not finite")

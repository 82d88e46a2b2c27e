"""Whether an explanation is one at all (G0): finite, not constant, on the grid, no side effects."""

import torch
from torch import Tensor


def measure(values: Tensor, x: Tensor, *, before: str, after: str) -> float:
    """Return 1 if the attribution is sound, 0 if not: higher is better. No forward pass.

    Parameters
    ----------
    values
        float [B, C, *S] or [B, 1, *S].
    x
        The network's input, [B, C, *S].
    before, after
        ``ai.capture.fingerprint`` of the network before and after the explanation.
    """
    return 0.0 if problems(values, x, before=before, after=after) else 1.0


def problems(values: Tensor, x: Tensor, *, before: str, after: str) -> tuple[str, ...]:
    """Return what is wrong with the attribution, in words; empty if it is sound.

    Parameters as in ``measure``. A map that is zero everywhere is constant: the method found no
    evidence, and there is nothing to show.
    """
    found = []
    grid = values.shape[:1] + values.shape[2:] == x.shape[:1] + x.shape[2:]
    if not grid or values.ndim != x.ndim or values.shape[1] not in {1, x.shape[1]}:
        found.append(f"its shape {tuple(values.shape)} does not fit the input {tuple(x.shape)}")
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        found.append(f"{int((~finite).sum())} of its {values.numel()} values are not finite")
    elif any(bool(entry.min() == entry.max()) for entry in values):
        found.append("it is the same everywhere")
    if before != after:
        found.append("the network was changed while it was explained")
    return tuple(found)

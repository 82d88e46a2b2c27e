"""Attention as an explanation: what the tokens of a transformer gathered, layer after layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import gradients_off
from ai.explainers.admission import DEFAULTS
from ai.explainers.attention_pass import (
    Attended,
    attended,
    attended_with_gradients,
    attention_bytes,
    gradient_bytes,
)
from ai.explainers.cam_pass import fused
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: From [B, H, N, N] to [B, 1, N, N], by name.
_FUSIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda matrix: matrix.mean(dim=1, keepdim=True),
    "max": lambda matrix: matrix.amax(dim=1, keepdim=True),
    "min": lambda matrix: matrix.amin(dim=1, keepdim=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRollout:
    """Attention multiplied through the layers, half of each its skip (Abnar and Zuidema 2020).

    It shows where the network looks, for whatever target: a control more than an explanation. The
    row that is read is that of the class token, by convention the first of the leading tokens, or
    the weights by which the network pools its tokens; else all tokens count the same. Along the way
    rows sum to 1, so that a value is a share.
    """

    name: str = field(default="attention_rollout", init=False)
    needs: ClassVar[Needs] = Needs.ATTENTION
    passes: ClassVar[str] = "1 forward"
    #: How a layer's heads become one matrix: ``"mean"``, as in the paper, ``"max"`` or ``"min"``.
    head_fusion: str = "mean"

    def __post_init__(self) -> None:
        if self.head_fusion not in _FUSIONS:
            raise ValueError(
                f"head_fusion {self.head_fusion!r} is not known; expected one of {[*_FUSIONS]}"
            )

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` will take; runs the network once on the first of the batch.

        The bytes are those of attention: a matrix of each layer, and all heads of one.
        """
        kept = attention_bytes(network, x, method=self.name, fuse=_FUSIONS[self.head_fusion])
        return Cost(forwards=1.0, backwards=0.0, peak_bytes=kept)

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the map [B, 1, *S], which does not depend on the target.

        Of a bag [B, N, C, *S] every pixel has the value of its instance. Raises as
        ``attention_pass.attended``.
        """
        seen = attended(
            network, x, target, settings, method=self.name, fuse=_FUSIONS[self.head_fusion]
        )
        row = _row_that_is_read(seen, x)
        for layer in reversed(seen.layers):
            weights = layer[:, 0].double()
            row = (row + _times(row, weights / weights.sum(dim=-1, keepdim=True))) / 2
        return Attribution(
            values=_on_input(row, seen, x),
            f_x=seen.f_x,
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=None,
            seed=None,
            cost=Cost(forwards=1.0, backwards=0.0, peak_bytes=seen.kept_bytes),
            warnings=("the map does not depend on the target", *seen.warnings),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GradAttention:
    """Attention weighed by the target's gradient at it, through the layers.

    Chefer, Gur and Wolf 2021 (Generic attention-model explainability).

    Each layer counts as the mean over heads of relu(A G), A its attention and G the gradient, and
    adds to what the tokens have gathered so far: R becomes R + mean(relu(A G)) R.

    The paper reads the row of the class token. Here the gradient tells which rows the network
    reads: each counts by its share of sum |A G| in the last layer. Where a class token is read
    alone, as in a ViT for classification, that is the paper's row, exactly. Where many are read (a
    mean over tokens, a decoder of segments), what each gathered is first brought to the size of
    what it had by itself, as the paper does where one modality reads another (its equations 8 to
    10), so that no token counts twice; the size returns at the end. Where attention pools the
    tokens, its own relu(A G) is the weight.
    """

    name: str = field(default="grad_attention", init=False)
    needs: ClassVar[Needs] = Needs.ATTENTION
    passes: ClassVar[str] = "1 forward, 1 backward"

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` will take; runs the network once on the first of the batch.

        The bytes are those of the gradient graph, which begins at the first attention, and of the
        gradients there.
        """
        kept = gradient_bytes(network, x, method=self.name)
        return Cost(forwards=1.0, backwards=1.0, peak_bytes=kept)

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the map [B, 1, *S] of evidence for ``target``; nothing speaks against it.

        Of a bag [B, N, C, *S] every pixel has the value of its instance. Raises as
        ``attention_pass.attended``; UnsuitableLayerError also where the target does not depend on
        any attention.
        """
        seen = attended_with_gradients(network, x, target, settings, method=self.name)
        return Attribution(
            values=_on_input(_relevance(seen), seen, x),
            f_x=seen.f_x,
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=None,
            seed=None,
            cost=Cost(forwards=1.0, backwards=1.0, peak_bytes=seen.kept_bytes),
            warnings=(*_silence(seen), *seen.warnings),
        )


def _row_that_is_read(seen: Attended, x: Tensor) -> Tensor:
    """Return how much each token counts at the end, float64 [B, N], where no gradient tells."""
    if seen.pool is not None:
        return seen.pool.mean(dim=1).double()
    tokens = seen.layers[0].shape[-1]
    read = torch.zeros((x.shape[0], tokens), dtype=torch.float64, device=x.device)
    if seen.grid is not None and seen.grid.leading:
        read[:, 0] = 1
        return read
    return read + 1 / tokens


def _relevance(seen: Attended) -> Tensor:
    """Return what each token contributes to the target, float64 [B, N], of A G of each layer."""
    layers = [each.clamp(min=0).mean(dim=1).double() for each in seen.layers]
    if seen.pool is not None:
        read = seen.pool.clamp(min=0).mean(dim=1).double()
    else:
        read = _shares_read(seen.layers)
    gathered = torch.zeros_like(read)
    for layer in layers:
        gathered = gathered + torch.einsum("bij,bj->bi", layer, 1 + gathered)
    if seen.pool is None:
        read = read * (read * gathered).sum(dim=1, keepdim=True)
    speaks = gathered > 0
    start = torch.where(speaks, read / torch.where(speaks, gathered, 1), 0)
    handed_on = torch.zeros_like(start)
    for layer in reversed(layers):
        handed_on = handed_on + _times(start + handed_on, layer)
    return read + handed_on


def _shares_read(layers: Sequence[Tensor]) -> Tensor:
    """Return each token's share of the target's dependence on the last layer, float64 [B, N].

    The last in which the target depends on any; zero where it depends on none.
    """
    first = layers[0]
    shares = torch.zeros(first.shape[0], first.shape[-1], dtype=torch.float64, device=first.device)
    for layer in layers:
        weights = layer.double().abs().sum(dim=(1, 3))
        total = weights.sum(dim=1, keepdim=True)
        shares = torch.where(total > 0, weights / torch.where(total > 0, total, 1), shares)
    return shares


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    """Return rows [B, N] times matrices [B, N, N]."""
    return torch.einsum("bi,bij->bj", row, matrix)


def _on_input(tokens: Tensor, seen: Attended, x: Tensor) -> Tensor:
    """Return values of tokens [B, N] on the input: interpolated from patches, even in instances."""
    if seen.grid is None:
        return tokens.float().reshape(*tokens.shape, *(1,) * (x.ndim - 2)).expand(x.shape).clone()
    cells = seen.grid.as_map(tokens[:, :, None])[:, 0]
    reached = fused([cells], extents=seen.grid.covered, signed=True)
    rest = [
        padding
        for extent, covered in reversed(list(zip(x.shape[2:], seen.grid.covered, strict=True)))
        for padding in (0, extent - covered)
    ]
    return functional.pad(reached, rest, mode="replicate") if any(rest) else reached


def _silence(seen: Attended) -> tuple[str, ...]:
    pool = () if seen.pool is None else (seen.pool,)
    sizes = [each.flatten(1).abs().sum(dim=1) for each in (*seen.layers, *pool)]
    silent = int((torch.stack(sizes).sum(dim=0) == 0).sum())
    if not silent:
        return ()
    return (
        f"no gradient reaches the attention in {silent} of {sizes[0].shape[0]} entries; an output "
        "squashed by tanh or sigmoid has none where it is saturated",
    )

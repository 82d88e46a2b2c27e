"""Where the tokens of a transformer lie in the image: the grid of its patches.

A transformer forgets the shape of what it was given: it sees a row of tokens. How many there are,
and the extents of the input, tell the grid again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ai.errors import UnsuitableLayerError

#: Class and register tokens that networks put in front: one class token, one of distillation
#: (Touvron et al. 2021), four registers (Darcet et al. 2024); more than this is another grid.
_MOST_LEADING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrid:
    """How a row of tokens covers an image: ``leading`` tokens, then one for each patch."""

    #: Patches along each spatial axis of the input; the last axis runs fastest.
    extents: tuple[int, ...]
    #: Tokens in front that stand for no place: class token, registers.
    leading: int

    @property
    def tokens(self) -> int:
        """Return how many tokens there are, the leading ones among them."""
        return self.leading + math.prod(self.extents)

    def as_map(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, N, K] as a map [B, K, *s] without the leading ones.

        Raises
        ------
        UnsuitableLayerError
            If the tokens are not as many as the grid has.
        """
        if tokens.ndim != 3 or tokens.shape[1] != self.tokens:
            raise UnsuitableLayerError(
                f"expected [B, {self.tokens}, K] for {self.leading} leading tokens and a grid of "
                f"{self.extents}, got {tuple(tokens.shape)}"
            )
        patches = tokens[:, self.leading :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *self.extents)


def token_grid(
    tokens: int, extents: Sequence[int], *, patch: Sequence[int] | None = None
) -> TokenGrid:
    """Return the grid of patches that a row of tokens stands for.

    Without ``patch`` every edge is tried that divides all extents. No or one leading token comes
    first: of a plane or a volume there is never more than one such grid, since the sizes of two
    differ by three at least. More leading tokens are believed where only one grid explains them.

    Parameters
    ----------
    tokens
        How many the network has, class and register tokens included.
    extents
        Spatial extents of its input.
    patch
        Edges of a patch where they are known, from the convolution that embeds patches; what is
        left over at the end of an axis belongs to no patch.

    Raises
    ------
    UnsuitableLayerError
        If no grid explains the number, or several do.
    """
    if patch is not None:
        return _grid_of_patch(tokens, tuple(extents), tuple(patch))
    found = [
        TokenGrid(extents=grid, leading=tokens - math.prod(grid))
        for grid in _even_grids(extents)
        if 0 <= tokens - math.prod(grid) <= _MOST_LEADING
    ]
    usual = [each for each in found if each.leading <= 1]
    chosen = usual or found
    if len(chosen) != 1:
        reason = "several grids explain" if chosen else "no grid of equal patches explains"
        tried = ", ".join(f"{each.extents} after {each.leading}" for each in chosen)
        raise UnsuitableLayerError(
            f"{reason} {tokens} tokens of an input {tuple(extents)} with at most {_MOST_LEADING} "
            f"leading ones{': ' + tried if tried else ''}"
        )
    return chosen[0]


def _grid_of_patch(tokens: int, extents: tuple[int, ...], patch: tuple[int, ...]) -> TokenGrid:
    if len(patch) != len(extents) or any(edge < 1 for edge in patch):
        raise UnsuitableLayerError(f"a patch {patch} does not tile an input {extents}")
    grid = tuple(extent // edge for extent, edge in zip(extents, patch, strict=True))
    leading = tokens - math.prod(grid)
    if not 0 <= leading <= _MOST_LEADING or 0 in grid:
        raise UnsuitableLayerError(
            f"patches of {patch} make {math.prod(grid)} of an input {extents}, and the network has "
            f"{tokens} tokens, of which at most {_MOST_LEADING} may lead"
        )
    return TokenGrid(extents=grid, leading=leading)


def _even_grids(extents: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the grids of equal, cubic patches, the finest first; one patch alone is no grid."""
    common = math.gcd(*extents)
    edges = [edge for edge in range(1, common + 1) if common % edge == 0]
    grids = [tuple(extent // edge for extent in extents) for edge in edges]
    return [grid for grid in grids if math.prod(grid) > 1]

"""Where the tokens of a transformer lie in the image: the grid of its patches.

A transformer forgets the shape of what it was given: it sees a row of tokens. How many there are,
and the extents of the input, tell the grid again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ai.errors import UnsuitableLayerError

#: Class and register tokens that networks put in front: one class token, one of distillation
#: (Touvron et al. 2021), four registers (Darcet et al. 2024); more than this is another grid.
_MOST_LEADING = 8
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrid:
    """How a row of tokens covers an image: ``leading`` tokens, then one for each patch."""

    #: Patches along each spatial axis of the input; the last axis runs fastest.
    extents: tuple[int, ...]
    #: Tokens in front that stand for no place: class token, registers.
    leading: int
    #: Edges of one patch, in cells of the input.
    patch: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Return how many tokens there are, the leading ones among them."""
        return self.leading + math.prod(self.extents)

    @property
    def covered(self) -> tuple[int, ...]:
        """Return how far the patches reach along each axis of the input."""
        return tuple(count * edge for count, edge in zip(self.extents, self.patch, strict=True))

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
        Edges of a patch where they are known (see ``embedded_patches``); what is left over at the
        end of an axis belongs to no patch.

    Raises
    ------
    UnsuitableLayerError
        If no grid explains the number, or several do.
    """
    edges = _even_patches(extents) if patch is None else [tuple(patch)]
    tried = [_grid(tokens, extents, each) for each in edges]
    found = [each for each in tried if each is not None]
    usual = [each for each in found if each.leading <= 1]
    chosen = usual or found
    if len(chosen) != 1:
        kind = "equal patches" if patch is None else f"patches of {tuple(patch)}"
        reason = "several grids explain" if chosen else f"no grid of {kind} explains"
        listed = ", ".join(f"{each.extents} after {each.leading}" for each in chosen)
        raise UnsuitableLayerError(
            f"{reason} {tokens} tokens of an input {tuple(extents)} with at most {_MOST_LEADING} "
            f"leading ones{': ' + listed if listed else ''}"
        )
    return chosen[0]


def grid_in(network: nn.Module, tokens: int, extents: Sequence[int]) -> TokenGrid:
    """Return the grid of a network's tokens, by its own patch size where it shows one.

    Raises
    ------
    UnsuitableLayerError
        As ``token_grid`` without a patch.
    """
    for patch in embedded_patches(network, len(extents)):
        grid = _grid(tokens, extents, patch)
        if grid is not None:
            return grid
    return token_grid(tokens, extents)


def embedded_patches(network: nn.Module, axes: int) -> list[tuple[int, ...]]:
    """Return the patch sizes that a network may have: of convolutions that step by their kernel."""
    patches = [
        tuple(each.kernel_size)
        for each in network.modules()
        if isinstance(each, _CONVOLUTIONS[axes])
        and each.kernel_size == each.stride
        and math.prod(each.kernel_size) > 1
    ]
    return list(dict.fromkeys(patches))


def _grid(tokens: int, extents: Sequence[int], patch: tuple[int, ...]) -> TokenGrid | None:
    """Return the grid of such patches, None if it does not explain the number; one is no grid."""
    if len(patch) != len(extents) or min(patch) < 1:
        return None
    counts = tuple(extent // edge for extent, edge in zip(extents, patch, strict=True))
    leading = tokens - math.prod(counts)
    if math.prod(counts) < 2 or not 0 <= leading <= _MOST_LEADING:
        return None
    return TokenGrid(extents=counts, leading=leading, patch=patch)


def _even_patches(extents: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the cubic patches that leave no rest, the smallest first."""
    common = math.gcd(*extents)
    return [(edge,) * len(extents) for edge in range(1, common + 1) if common % edge == 0]

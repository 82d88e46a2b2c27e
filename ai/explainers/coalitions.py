"""Coalitions: the target of an image of which some supervoxels are there and the rest is baseline.

What KernelSHAP and LIME have in common. A player is a supervoxel with all its channels, a coalition
a row of bools, one for each player. Every voxel belongs to a player, so that the coalition of all
is the image and that of none the baseline.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ai.explainers.probing import Probe
from ai.explainers.supervoxels import supervoxels_of

#: How many pieces an image is cut into where nobody says, by its axes in space.
_PIECES = {1: 32, 2: 50, 3: 64}
#: The most of them.
MOST_PIECES = max(_PIECES.values())
#: Soft borders are this wide in large images, and this share of a player's width in small ones.
_BORDER_CELLS = 4
_BORDER_SHARE = 0.25
#: ``interpolate`` knows linear interpolation by another name for each number of axes.
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Who plays: one image, what stands in for it, and the pieces it is cut into."""

    #: float [1, C, *S].
    x: Tensor
    #: What is seen of players that are not there, of the shape of ``x``.
    fill: Tensor
    #: int64 [*S], which player each voxel belongs to.
    labels: Tensor
    #: How many play.
    players: int

    @property
    def border_cells(self) -> int:
        """Return how wide the soft border between players is; 1 for none.

        A hard one draws an outline that a network looking for texture answers to.
        """
        edge = float((self.labels.numel() / self.players) ** (1 / self.labels.ndim))
        return max(1, min(_BORDER_CELLS, round(_BORDER_SHARE * edge)))

    def mixed(self, coalitions: Tensor) -> Tensor:
        """Return the images [N, C, *S] of coalitions, bool [N, players].

        Linear in who is there: at each voxel the players' shares sum to 1.
        """
        present = coalitions.to(self.x)[:, self.labels][:, None]
        return torch.lerp(self.fill, self.x, _softened(present, self.border_cells))

    def spread(self, worth: Tensor) -> Tensor:
        """Return what each player is worth, [players], evenly over its voxels: [1, 1, *S]."""
        sizes = torch.bincount(self.labels.flatten())
        density = worth.to(self.labels.device) / sizes
        return density[self.labels][None, None].float()


def tables_of(x: Tensor, fill: Tensor, players: int) -> list[Table]:
    """Return a table for each entry of ``x``, [B, C, *S], with at most so many players.

    Parameters
    ----------
    fill
        Of the shape of ``x``.
    players
        As ``pieces_for`` takes it.
    """
    pieces = pieces_for(x, players)
    return [_table(x[each : each + 1], fill[each : each + 1], pieces) for each in range(len(x))]


def pieces_for(x: Tensor, players: int) -> int:
    """Return the most pieces that an entry of ``x``, [B, C, *S], is cut into; 0: by its axes."""
    return players or _PIECES.get(x.ndim - 2, MOST_PIECES)


def values_of(probe: Probe, table: Table, coalitions: Tensor) -> Tensor:
    """Return the target of coalitions, bool [N, players], as float64 [N] in their order.

    Fewer than N if budget or caller end it.
    """
    values = [probe.values(table.mixed(coalitions[part])) for part in probe.parts(len(coalitions))]
    return torch.cat(values).double().cpu() if values else torch.zeros(0, dtype=torch.float64)


def _table(x: Tensor, fill: Tensor, pieces: int) -> Table:
    labels = supervoxels_of(x, pieces)
    return Table(x=x, fill=fill, labels=labels, players=int(labels.max()) + 1)


def _softened(presence: Tensor, border_cells: int) -> Tensor:
    """Return presence [N, 1, *S] averaged over cells and interpolated between them."""
    if border_cells == 1:
        return presence
    extents = presence.shape[2:]
    grid = [math.ceil(extent / border_cells) for extent in extents]
    averaged = functional.interpolate(presence, grid, mode="area")
    linear = _LINEAR[len(extents)]
    return functional.interpolate(averaged, extents, mode=linear, align_corners=False)

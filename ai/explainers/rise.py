"""RISE: what the target gains where the image is visible, over random masks (Petsiuk et al. 2018).

It asks nothing of the network but its output, and sees what a single occluded cell cannot: regions
of which one is enough. The masks here are not drawn one by one but in balanced blocks, which say
the same with fewer of them, and how sure they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.baselines import baseline_of
from ai.explainers.draws import draws_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: From fewer blocks the standard error is a guess: half or twice of what it is.
_LEAST_BLOCKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """RISE by blocks of balanced masks, until the map's standard error is small.

    A mask is a grid of nodes that are visible or not, each with probability one half, spread over
    the image by linear interpolation with a random shift. Where a voxel is hidden the baseline
    shows. The masks of a block are the rows of a Hadamard matrix with columns and signs drawn at
    random, and their complements: no node's effect hides behind another's or behind that of a
    pair, and blocks are independent, so that their spread is the standard error. Against masks
    drawn one by one, the variance was 0.25 to 0.7 on four networks of the matrix; complements
    alone raised it.

    Values estimate E[f | the voxel is visible] - E[f] (the paper leaves out E[f], and its map is
    never negative).
    """

    name: str = field(default="rise", init=False)
    needs: ClassVar[Needs] = Needs.OUTPUT
    passes: ClassVar[str] = "513 to 2049 forward"
    #: Cells between nodes along each axis; 0: 7 for a projection, 3 for a volume.
    cells: int = 0
    #: Standard error to stop at, relative to the map, both as root mean squares: at 0.2 the map
    #: correlates to .98 with what it would become.
    tolerance: float = 0.2
    #: Most masks; one block is made in any case.
    masks: int = 2048
    #: What shows where a mask hides the image: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.cells < 0:
            raise ValueError(f"cells is {self.cells}, expected 1 or more, or 0 for the default")
        if self.masks < 1:
            raise ValueError(f"masks is {self.masks}, expected 1 or more")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}, expected a share above 0")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes at most; where the map settles early it takes less."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        block = self._block(x)
        most = 1 + max(1, self.masks // block) * block
        return Cost(forwards=float(most * x.shape[0]), peak_bytes=fit.peak_bytes(block))

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return what the target gains where a voxel is visible, [B, 1, *S].

        The most masks, the budget or a cancellation may end it before the map has settled; the
        result is that of the last finished block, and a warning tells its standard error.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if not
            even one block is affordable, ExplanationCancelledError if it was cancelled in it.
        """
        count, block = x.shape[0], self._block(x)
        require_forwards(settings, (1 + block) * count, self.name)
        probe, plain = probed(
            network,
            x,
            target,
            settings,
            memory_bytes=self.memory_bytes,
            expected=(1 + max(1, self.masks // block) * block) * count,
        )
        fill, baseline = baseline_of(self.baseline, probe.network, plain, settings)
        draws, found = draws_of(settings), []
        for entry in range(count):
            probe.meter.allot(count - entry)
            here = slice(entry, entry + 1)
            found.append(self._of_one(probe, plain[here], fill[here], draws.generator()))
        probe.meter.finish()
        return Attribution(
            values=torch.cat([values for values, _, _ in found]),
            f_x=torch.cat([f_x for _, f_x, _ in found]),
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=baseline,
            seed=draws.seed,
            cost=probe.cost(widest=block),
            warnings=tuple(dict.fromkeys(warning for *_, warning in found if warning)),
        )

    def _of_one(
        self, probe: Probe, x: Tensor, fill: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, str]:
        """Return the map of one entry, the target there, and what to say if it has not settled."""
        f_x, blocks = probe.values(x), list[_Block]()
        grid = self._grid(x)
        while True:
            reason = self._reason_to_stop(probe, len(blocks) + 1, self._block(x))
            block = None if blocks and reason else _measured(probe, x, fill, grid, generator)
            if block is not None:
                blocks.append(block)
            if not blocks:
                raise ExplanationCancelledError(f"{self.name}: cancelled in the first block")
            values, error = _map_of(blocks)
            ended = block is None
            if error <= self.tolerance and (ended or len(blocks) >= _LEAST_BLOCKS):
                return values, f_x, ""
            if ended:
                known = f"{error:.2g} of the map" if math.isfinite(error) else "not known"
                told = f"the standard error is {known} after {len(blocks) * self._block(x)} masks"
                wanted = f"wanted {self.tolerance:.2g} ({reason or 'cancelled'})"
                return values, f_x, f"{told}, {wanted}"

    def _reason_to_stop(self, probe: Probe, blocks: int, block: int) -> str:
        if blocks * block > self.masks:
            return "the most masks are reached"
        return "" if probe.meter.affords(block) else "the budget is spent"

    def _grid(self, x: Tensor) -> tuple[int, ...]:
        """Return the nodes along each axis; an axis of one voxel has one."""
        cells = self.cells or (3 if x.ndim == 5 else 7)
        return tuple(min(cells, extent) + 1 if extent > 1 else 1 for extent in x.shape[2:])

    def _block(self, x: Tensor) -> int:
        """Return how many masks a block has."""
        return 2 * _order(self._grid(x))


@dataclass(frozen=True, slots=True)
class _Block:
    """What one block of masks found."""

    #: [*nodes], covariance of the target with the visibility of each node.
    covariance: Tensor
    #: By axis, [extent, nodes]: what each voxel sees of each node.
    spread: tuple[Tensor, ...]


def _measured(
    probe: Probe, x: Tensor, fill: Tensor, grid: tuple[int, ...], generator: torch.Generator
) -> _Block | None:
    """Return what one block finds; None if budget or caller end it before."""
    signs = _balanced(grid, generator).to(x)
    shifts = torch.rand(len(grid), generator=generator).tolist()
    spread = tuple(
        _hats(extent, nodes, shift).to(x)
        for extent, nodes, shift in zip(x.shape[2:], grid, shifts, strict=True)
    )
    answers = []
    for part in probe.parts(len(signs)):
        visible = _over_the_image((1 + signs[part]).view(-1, *grid) / 2, spread)[:, None]
        answers.append(probe.values(torch.lerp(fill, x, visible)))
    values = torch.cat(answers).double() if answers else x.new_zeros(0)
    if len(values) < len(signs):
        return None
    covariance = (values[:, None] * signs.double() / 2).mean(dim=0).view(grid)
    return _Block(covariance, spread)


def _map_of(blocks: Sequence[_Block]) -> tuple[Tensor, float]:
    """Return the map [1, 1, *S] and its relative standard error, infinite for a single block.

    The map is half the slope of the target over a voxel's visibility: what it gains from the mean,
    one half, to visible.
    """
    count = len(blocks)
    covariance, variance = _covariance(blocks[0]), _variance(blocks[0])
    for block in blocks[1:]:
        covariance += _covariance(block)
        variance += _variance(block)
    slope = covariance / variance
    values = (slope / 2)[:, None].float()
    if count == 1:
        return values, math.inf
    squares = torch.zeros_like(slope)
    for block in blocks:
        squares += (_covariance(block) - slope * _variance(block)).square()
    error = squares * (count / (count - 1)) / variance.square() / 4
    size = values.square().mean().sqrt()
    return values, float(error.mean().sqrt() / size.clamp(min=torch.finfo(size.dtype).tiny))


def _covariance(block: _Block) -> Tensor:
    """Return the covariance of the target with each voxel's visibility, [1, *S]."""
    return _over_the_image(block.covariance[None].to(block.spread[0]), block.spread)


def _variance(block: _Block) -> Tensor:
    """Return the variance of each voxel's visibility, [1, *S]."""
    variance = block.spread[0].new_full((1,), 0.25)
    for spread in block.spread:
        variance = variance[..., None] * spread.square().sum(dim=1)
    return variance


def _over_the_image(nodes: Tensor, spread: Sequence[Tensor]) -> Tensor:
    """Return [N, *S] by linear interpolation of [N, *nodes]."""
    for along in spread:
        nodes = torch.tensordot(nodes, along, dims=([1], [1]))
    return nodes


def _hats(extent: int, nodes: int, shift: float) -> Tensor:
    """Return how much each voxel sees of each node, [extent, nodes], summing to one per voxel.

    Nodes lie one cell apart and are moved by up to a cell; at the edges the last one goes on.
    """
    if nodes == 1:
        return torch.ones(extent, 1)
    at = (torch.arange(extent) + 0.5) * ((nodes - 1) / extent) + (shift - 0.5)
    at = at.clamp(0, nodes - 1)
    return (1 - (at[:, None] - torch.arange(nodes)).abs()).clamp(min=0)


def _balanced(grid: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return the masks of a block as signs, [2 order, nodes]: +1 where a node is visible."""
    order, nodes = _order(grid), math.prod(grid)
    matrix = torch.ones(1, 1)
    while len(matrix) < order:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    flips = 1 - 2 * torch.randint(2, (nodes,), generator=generator).float()
    signs = matrix[:, torch.randperm(order, generator=generator)[:nodes]] * flips
    return torch.cat([signs, -signs])


def _order(grid: tuple[int, ...]) -> int:
    """Return the order of the smallest Hadamard matrix, a power of 2, with a column per node."""
    return 1 << (math.prod(grid) - 1).bit_length()

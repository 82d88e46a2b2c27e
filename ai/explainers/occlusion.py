"""Coarse-to-fine occlusion: what the target loses when a piece of the image is blurred away.

Zeiler and Fergus 2014, without their price: the image is covered by a coarse grid of cells first,
and only the cells that mattered most are divided further. It asks nothing of the network but its
output, so it works on TorchScript too.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.baselines import baseline_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: First and one past the last cell of the image along each axis.
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occlusion:
    """Occlusion on a grid that is fine where it matters.

    With the defaults a projection takes 64 + 64 + 32 = 160 passes for the detail of 1024, a
    volume 27 + 64 + 32 = 123 for that of 1728, plus one for the whole image.
    """

    name: str = field(default="occlusion", init=False)
    needs: ClassVar[Needs] = Needs.OUTPUT
    passes: ClassVar[str] = "161 forward in 2D, 124 in 3D"
    #: Coarse cells along each axis; 0: 8 for a projection, 3 for a volume.
    cells: int = 0
    #: How many cells are halved along each axis, level by level; empty: (16, 8) and (8, 4).
    refine: tuple[int, ...] = ()
    #: What fills a cell: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.cells < 0:
            raise ValueError(f"cells is {self.cells}, expected 1 or more, or 0 for the default")
        if any(count < 0 for count in self.refine):
            raise ValueError(f"refine is {self.refine}, expected counts of cells, 0 or more")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes at most."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        return Cost(forwards=float(self._passes(x)), peak_bytes=fit.peak_bytes(self._widest(x)))

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the loss of the target per image cell, [B, 1, *S].

        The loss of a grid cell is spread evenly over the image cells in it, so that the values of
        a linear model sum to what the target gained over the baseline. A budget or a cancellation
        ends the refinement; the result has what was measured, and a warning says what was not.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if not
            even the coarse grid is affordable, ExplanationCancelledError if nothing was measured.
        """
        require_forwards(settings, (self._coarse(x) + 1) * x.shape[0], self.name)
        probe, plain = probed(
            network, x, target, settings, memory_bytes=self.memory_bytes, expected=self._passes(x)
        )
        fill, baseline = baseline_of(self.baseline, probe.network, plain, settings)
        answers = []
        for entry in range(x.shape[0]):
            probe.meter.allot(x.shape[0] - entry)
            here = slice(entry, entry + 1)
            answers.append(self._of_one(probe, plain[here], fill[here]))
        probe.meter.finish()
        warnings = tuple(dict.fromkeys(told for *_, told in answers if told))
        return Attribution(
            values=torch.cat([values for values, _, _ in answers]),
            f_x=torch.cat([f_x for _, f_x, _ in answers]),
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=baseline,
            seed=None,
            cost=probe.cost(widest=self._widest(x)),
            warnings=warnings,
        )

    def _of_one(self, probe: Probe, x: Tensor, fill: Tensor) -> tuple[Tensor, Tensor, str]:
        f_x = probe.values(x)
        values = torch.zeros_like(x[:, :1], dtype=torch.float32)
        boxes = _grid(x.shape[2:], self._cells(x))
        for level, count in enumerate((*self._refine(x), 0)):
            drops = _drops(probe, x, fill, boxes, f_x)
            for box, drop in zip(boxes, drops, strict=False):
                values[_inside(box)] = drop / _size(box)
            if len(drops) < len(boxes):
                return values, f_x, _told(level, len(drops), len(boxes))
            strongest = sorted(range(len(boxes)), key=lambda each: -abs(drops[each]))[:count]
            boxes = [part for each in strongest for part in _halves(boxes[each])]
        return values, f_x, ""

    def _cells(self, x: Tensor) -> int:
        return self.cells or (3 if x.ndim == 5 else 8)

    def _refine(self, x: Tensor) -> tuple[int, ...]:
        return tuple(self.refine) or ((8, 4) if x.ndim == 5 else (16, 8))

    def _coarse(self, x: Tensor) -> int:
        return len(_grid(x.shape[2:], self._cells(x)))

    def _widest(self, x: Tensor) -> int:
        """Return how many cells the largest level has."""
        return int(max(self._coarse(x), max(self._refine(x)) * 2 ** (x.ndim - 2)))

    def _passes(self, x: Tensor) -> int:
        finer = sum(self._refine(x)) * 2 ** (x.ndim - 2)
        return int((1 + self._coarse(x) + finer) * x.shape[0])


def _drops(probe: Probe, x: Tensor, fill: Tensor, boxes: Sequence[Box], f_x: Tensor) -> list[float]:
    """Return what the target loses by each box, for as many as budget and caller allow."""
    drops: list[float] = []
    for part in probe.parts(len(boxes)):
        covered = x.repeat(part.stop - part.start, *[1] * (x.ndim - 1))
        for entry, box in enumerate(boxes[part]):
            covered[entry][_inside(box)[1:]] = fill[0][_inside(box)[1:]]
        drops += (f_x - probe.values(covered)).tolist()
    return drops


def _told(level: int, measured: int, wanted: int) -> str:
    """Return what to say of a level that was not finished.

    Raises
    ------
    ExplanationCancelledError
        If nothing at all was measured.
    """
    if level == 0 and measured == 0:
        raise ExplanationCancelledError("occlusion: cancelled before the first cell was measured")
    rest = "the others are zero" if level == 0 else "the others keep the coarser level's value"
    return f"stopped at level {level}: {measured} of {wanted} cells measured, {rest}"


def _grid(extents: Iterable[int], cells: int) -> list[Box]:
    """Return boxes that cover the image, at most ``cells`` along each axis."""
    axes = []
    for extent in extents:
        count = min(cells, extent)
        edges = [round(extent * edge / count) for edge in range(count + 1)]
        axes.append(list(itertools.pairwise(edges)))
    return list(itertools.product(*axes))


def _halves(box: Box) -> list[Box]:
    """Return the box cut in half along each axis where it is longer than one cell."""
    axes = [
        [(first, (first + last) // 2), ((first + last) // 2, last)]
        if last - first > 1
        else [(first, last)]
        for first, last in box
    ]
    return list(itertools.product(*axes))


def _inside(box: Box) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(first, last) for first, last in box))


def _size(box: Box) -> int:
    return math.prod(last - first for first, last in box)

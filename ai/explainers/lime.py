"""LIME: the linear model of supervoxels that is nearest to the network around one image.

Ribeiro et al. 2016, for images: coalitions are drawn by a coin for each supervoxel, count the more
the nearer they are to the whole image, and a ridge regression weighs the supervoxels.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.baselines import baseline_of
from ai.explainers.coalitions import MOST_PIECES, Table, tables_of, values_of
from ai.explainers.draws import Draws, draws_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: A fit that explains less of the target's variance is worth a warning.
_POOR_FIT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lime:
    """A weighted ridge regression on coalitions of supervoxels.

    Each entry of a batch is fitted by itself, on the same draws. Unlike Shapley values the weights
    do not sum to anything: how well the model fits is the only check, and a poor one is told.
    """

    name: str = field(default="lime", init=False)
    needs: ClassVar[Needs] = Needs.OUTPUT
    passes: ClassVar[str] = "512 forward"
    #: Most supervoxels; 0: 50 for a projection, 64 for a volume.
    players: int = 0
    #: Coalitions, the whole image among them.
    samples: int = 512
    #: Of the exponential kernel, in cosine distance from the whole image: 0.29 is half of it.
    kernel_width: float = 0.25
    #: Penalty as a share of the total weight; it shrinks the weights by about four times as much.
    ridge: float = 1e-3
    #: What is seen of a supervoxel that is not there: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.players < 0 or self.players == 1:
            raise ValueError(f"players is {self.players}, expected 2 or more, or 0 for the default")
        if self.samples < _least(self.players or MOST_PIECES):
            raise ValueError(
                f"samples is {self.samples}, expected at least "
                f"{_least(self.players or MOST_PIECES)}, two more than players"
            )
        if self.kernel_width <= 0 or self.ridge < 0:
            raise ValueError(
                f"kernel_width is {self.kernel_width} and ridge {self.ridge}, expected a width "
                "above 0 and a penalty of 0 or more"
            )

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        most = self.samples
        return Cost(forwards=float(most * x.shape[0]), peak_bytes=fit.peak_bytes(most))

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the weight of each supervoxel, evenly over its voxels, [B, 1, *S].

        The weight is what the target gains, in the model, when the image's supervoxel takes the
        baseline's place. A budget or a cancellation ends the drawing, and a warning says so.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if fewer
            coalitions are affordable than the model has unknowns, ExplanationCancelledError if it
            was cancelled before that many.
        """
        probe, plain = probed(
            network,
            x,
            target,
            settings,
            memory_bytes=self.memory_bytes,
            expected=self.samples * x.shape[0],
        )
        fill, baseline = baseline_of(self.baseline, probe.network, plain, settings)
        tables, draws = tables_of(plain, fill, self.players), draws_of(settings)
        least = max(_least(table.players) for table in tables)
        require_forwards(settings, least * len(tables), self.name)
        found = []
        for entry, table in enumerate(tables):
            probe.meter.allot(len(tables) - entry)
            found.append(self._of_one(probe, table, draws))
        return Attribution(
            values=torch.cat([values for values, _, _ in found]),
            f_x=torch.tensor([f_x for _, f_x, _ in found], dtype=torch.float64).to(plain),
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=baseline,
            seed=draws.seed,
            cost=probe.cost(widest=self.samples),
            warnings=tuple(dict.fromkeys(warning for *_, told in found for warning in told)),
        )

    def _of_one(
        self, probe: Probe, table: Table, draws: Draws
    ) -> tuple[Tensor, float, tuple[str, ...]]:
        """Return the map of one entry, the target there, and what to say of the fit."""
        shape = (self.samples, table.players)
        coalitions = torch.rand(shape, generator=draws.generator()) < 0.5
        coalitions[0] = True
        played = values_of(probe, table, coalitions)
        if len(played) < _least(table.players):
            raise ExplanationCancelledError(
                f"{self.name}: cancelled after {len(played)} coalitions, too few to weigh "
                f"{table.players} supervoxels"
            )
        seen = coalitions[: len(played)].double()
        weights, explained = ridge_fit(seen, played, _nearness(seen, self.kernel_width), self.ridge)
        warnings = []
        if len(played) < self.samples:
            reason = "cancelled" if probe.meter.cancelled else "the budget is spent"
            warnings.append(f"fitted to {len(played)} of {self.samples} coalitions ({reason})")
        if explained < _POOR_FIT:
            warnings.append(f"the linear model explains {explained:.0%} of the target: a poor fit")
        return table.spread(weights), float(played[0]), tuple(warnings)


def ridge_fit(
    members: Tensor, values: Tensor, nearness: Tensor, ridge: float
) -> tuple[Tensor, float]:
    """Return the weights [M] of a linear model with intercept, and the share it explains (R²).

    Parameters
    ----------
    members
        float64 [N, M].
    values
        float64 [N].
    nearness
        float64 [N], how much each row counts.
    ridge
        Penalty on the squared weights, beside the mean squared error.
    """
    share = nearness / nearness.sum()
    inputs = members - share @ members
    outputs = values - share @ values
    gram = inputs.T @ (share[:, None] * inputs)
    gram.diagonal().add_(ridge)
    # Least squares, since without a penalty a player that was always there has no weight.
    weights = torch.linalg.lstsq(
        gram, inputs.T @ (share * outputs)[:, None], driver="gelsd"
    ).solution[:, 0]
    missed, variance = (share @ each.square() for each in (outputs - inputs @ weights, outputs))
    return weights, 1.0 - float(missed / variance) if float(variance) > 0 else 1.0


def _nearness(members: Tensor, width: float) -> Tensor:
    """Return how near coalitions are to that of all: exp(-d² / width²), d the cosine distance."""
    distance = 1 - members.mean(dim=1).sqrt()
    return torch.exp(-(distance.square()) / width**2)


def _least(players: int) -> int:
    return players + 2

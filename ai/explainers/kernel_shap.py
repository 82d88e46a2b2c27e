"""KernelSHAP: what each supervoxel contributes on average, whoever of the others is there.

Lundberg and Lee 2017, on coalitions of supervoxels. It asks nothing of the network but its output.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.axioms import completeness_residual
from ai.explainers.baselines import baseline_of
from ai.explainers.coalitions import MOST_PIECES, Table, pieces_for, tables_of, values_of
from ai.explainers.draws import Draws, draws_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.explainers.shapley import Pairs, certainty, drawn_pairs, shapley_values
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: Pairs of coalitions between two looks at whether the values are settled.
_ROUND = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelShap:
    """Shapley values of supervoxels, exact where all coalitions are affordable.

    Each entry of a batch is a game of its own, with the same draws.
    """

    name: str = field(default="kernel_shap", init=False)
    needs: ClassVar[Needs] = Needs.OUTPUT
    passes: ClassVar[str] = "302 to 1024 forward in 2D, 386 to 1024 in 3D"
    #: Most supervoxels; 0: 50 for a projection, 64 for a volume.
    players: int = 0
    #: Most coalitions, those of all and of none among them. If 2^players are no more, all are
    #: played, and the values are exact.
    samples: int = 1024
    #: Correlation with the exact values, as halves of the coalitions foretell it, to stop at.
    settled: float = 0.95
    #: What is seen of a player that is not there: ``"blur"`` or ``"zero"``.
    baseline: str = "blur"
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.players < 0 or self.players == 1:
            raise ValueError(f"players is {self.players}, expected 2 or more, or 0 for the default")
        if not 0 < self.settled <= 1:
            raise ValueError(f"settled is {self.settled}, expected a correlation above 0, up to 1")
        players = self.players or MOST_PIECES
        if self.samples < _least(players):
            raise ValueError(
                f"samples is {self.samples}, expected at least {_least(players)}: up to {players} "
                "players, each alone and each missing, all of them and none"
            )

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes at most; where the values settle early it takes less."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        most = min(self.samples, 1 << pieces_for(x, self.players))
        return Cost(forwards=float(most * x.shape[0]), peak_bytes=fit.peak_bytes(self._widest(x)))

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the Shapley value of each supervoxel, evenly over its voxels, [B, 1, *S].

        The values sum to what the target gained over the baseline. Coalitions are drawn until the
        values are settled; the most samples, the budget or a cancellation may end it sooner, and a
        warning says how far it came.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if it is
            not affordable to see each player alone and to miss it once, ExplanationCancelledError
            if it was cancelled before.
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
        probe.meter.finish()
        values = torch.cat([one.values for one in found])
        ends = torch.tensor([(one.f_x, one.f_baseline) for one in found], dtype=torch.float64)
        f_x, f_baseline = ends.to(plain).unbind(dim=1)
        return Attribution(
            values=values,
            f_x=f_x,
            f_baseline=f_baseline,
            residual=completeness_residual(values, f_x, f_baseline),
            method=self.name,
            layer=None,
            baseline=baseline,
            seed=draws.seed,
            cost=probe.cost(widest=self._widest(x)),
            warnings=tuple(dict.fromkeys(one.warning for one in found if one.warning)),
        )

    def _of_one(self, probe: Probe, table: Table, draws: Draws) -> "_Outcome":
        pairs = drawn_pairs(table.players, self.samples // 2 - 1, draws.generator())
        ends = values_of(probe, table, torch.tensor([[True], [False]]).expand(2, table.players))
        played = values_of(probe, table, pairs.coalitions(0, pairs.singles))
        if len(ends) + len(played) < 2 + 2 * pairs.singles:
            raise ExplanationCancelledError(
                f"{self.name}: cancelled before each of {table.players} players was seen alone and "
                "missed once"
            )
        f_x, f_baseline = ends.tolist()
        gain = f_x - f_baseline
        played, warning = self._settled(probe, table, pairs, played, gain)
        values = table.spread(shapley_values(pairs, played, gain))
        return _Outcome(values=values, f_x=f_x, f_baseline=f_baseline, warning=warning)

    def _settled(
        self, probe: Probe, table: Table, pairs: Pairs, played: Tensor, gain: float
    ) -> tuple[Tensor, str]:
        """Return the values of as many pairs as it takes, and what to say if they are too few."""
        while True:
            count = len(played) // 2
            if count == len(pairs.members) and pairs.exhaustive:
                return played, ""
            drawn = count - pairs.singles
            known = certainty(pairs, played, gain) if drawn >= 2 * pairs.singles else math.nan
            if known >= self.settled and not pairs.exhaustive:
                return played, ""
            more = values_of(probe, table, pairs.coalitions(count, count + _ROUND))
            if len(more) < 2:
                return played, self._told(probe, pairs, count, known)
            played = torch.cat([played, more[: len(more) // 2 * 2]])

    def _told(self, probe: Probe, pairs: Pairs, count: int, known: float) -> str:
        total = len(pairs.members)
        if count == total:
            reason = "the most samples"
        else:
            reason = "cancelled" if probe.meter.cancelled else "the budget is spent"
        certain = "unknown" if math.isnan(known) else f"about {known:.2f}"
        return (
            f"the values' correlation with the exact ones is {certain} after {2 + 2 * count} of "
            f"{2 + 2 * total} coalitions, wanted {self.settled:g} ({reason})"
        )

    def _widest(self, x: Tensor) -> int:
        """Return how many coalitions are due at once at most."""
        return 2 * max(_ROUND, pieces_for(x, self.players))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What one entry's game came to."""

    #: float32 [1, 1, *S].
    values: Tensor
    #: The target at the image and at the baseline.
    f_x: float
    f_baseline: float
    #: Empty if there is nothing to say.
    warning: str


def _least(players: int) -> int:
    """Return how many coalitions tell players apart: each alone and missing, all and none."""
    return min(2 * players + 2, 1 << players)

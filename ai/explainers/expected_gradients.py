"""Expected gradients: integrated gradients averaged over references, by drawing points on the ways.

Erion et al. 2021; gradient SHAP of Lundberg's and captum's. There is no single image without
information: the values sum to what the target gained over its mean at the references.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import BaselineError, ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.baselines import reference_set
from ai.explainers.draws import draws_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.explainers.refining import gathered, refined
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGradients:
    """Expected gradients by stratified sampling that is refined until it is complete enough.

    The way from each reference is cut into equal pieces, with one point drawn in each. To refine,
    each piece is halved and a point is drawn in the half that has none, so that nothing is computed
    twice. (captum draws reference and point at random, with the global generators, and cannot go
    on where it stopped.)
    """

    name: str = field(default="expected_gradients", init=False)
    needs: ClassVar[Needs] = Needs.GRADIENT
    passes: ClassVar[str] = "41 to 265 forward, 32 to 256 backward"
    #: How many blurred copies serve as references where none are given.
    references: int = 8
    #: Relative residual to stop at.
    tolerance: float = 0.02
    #: Points on all ways together.
    first_samples: int = 32
    most_samples: int = 256
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.references < 1:
            raise ValueError(f"references is {self.references}, expected 1 or more")
        if self.first_samples < 1 or self.most_samples < self.first_samples:
            raise ValueError(
                f"samples go from {self.first_samples} to {self.most_samples}, expected 1 or more "
                "first and no fewer at most"
            )
        if self.most_samples < self.references:
            raise ValueError(
                f"most_samples is {self.most_samples}, expected one for each of "
                f"{self.references} references or more"
            )
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}, expected a share above 0")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes at most, with references of its own."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        return Cost(
            forwards=float((self.most_samples + self.references + 1) * x.shape[0]),
            backwards=float(self.most_samples * x.shape[0]),
            peak_bytes=fit.peak_bytes(self.most_samples),
        )

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the attribution [B, C, *S] of ``target``, with its residual.

        ``settings.baseline`` is a reference set [N, C, *S] for all entries. ``f_baseline`` is the
        mean target over the references. A budget or a cancellation ends the refinement; the result
        is that of the last finished rule, and a warning says how far it came.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BaselineError; BudgetError if not
            even the first rule is affordable, ExplanationCancelledError if it was cancelled in it;
            UndifferentiableError if the target has no gradient at the input.
        """
        count, draws = x.shape[0], draws_of(settings)
        pieces, least = self._first(settings)
        require_forwards(settings, least * count, self.name)
        probe, plain = probed(
            network, x, target, settings, memory_bytes=self.memory_bytes, expected=least * count
        )
        references, baseline = reference_set(
            probe.network, plain, settings, count=self.references, generator=draws.generator()
        )
        found = []
        for entry in range(count):
            probe.meter.allot(count - entry)
            ways = _Ways(
                probe, plain[entry], references[entry], pieces, generator=draws.generator()
            )
            found.append(
                refined(
                    ways,
                    probe.meter,
                    tolerance=self.tolerance,
                    most=self.most_samples,
                    unit="samples",
                )
            )
        probe.meter.finish()
        most = max(each.points for each in found)
        return gathered(
            found,
            method=self.name,
            baseline=f"{baseline}, {most} samples",
            seed=draws.seed,
            cost=probe.cost(
                widest=most, backwards=probe.meter.spent - count * (references.shape[1] + 1)
            ),
        )

    def _first(self, settings: Settings) -> tuple[int, int]:
        """Return into how many pieces each way is cut at first, and the passes that takes."""
        given = settings.baseline
        references = self.references if given is None else max(1, len(given))
        if references > self.most_samples:
            raise BaselineError(
                f"{self.name} draws at least one point for each of {references} references, and "
                f"most_samples is {self.most_samples}"
            )
        pieces = max(1, self.first_samples // references)
        return pieces, 1 + references * (pieces + 1)


class _Ways:
    """The straight ways from references to one image, with points drawn on them.

    Raises
    ------
    ExplanationCancelledError
        If the caller cancelled in the first rule.
    """

    def __init__(
        self,
        probe: Probe,
        x: Tensor,
        references: Tensor,
        pieces: int,
        *,
        generator: torch.Generator,
    ) -> None:
        self._probe, self._generator = probe, generator
        self._x, self._references = x, references
        #: Sum of gradient times way over all points, and by reference of how fast the target grows.
        self._total = torch.zeros_like(x)
        self._growth = torch.zeros(len(references), dtype=torch.float64)
        self._f = self._at_ends()
        #: float64 [N, pieces], 0 to 1, one in each piece of each way.
        self._places = torch.zeros(len(references), 0, dtype=torch.float64)
        first = torch.arange(pieces).expand(len(references), -1)
        if len(self._f) <= len(references) or not self._visited(self._drawn(first, pieces)):
            raise ExplanationCancelledError("expected_gradients: cancelled in the first samples")

    @property
    def points(self) -> int:
        return self._places.numel()

    def values(self) -> Tensor:
        return (self._total / self.points)[None]

    def ends(self) -> tuple[Tensor, Tensor]:
        return self._f[:-1].double().mean()[None].to(self._f.dtype), self._f[-1:]

    def errors(self) -> Tensor:
        gains = (self._f[-1:] - self._f[:-1]).double().cpu()
        return (self._growth / self._places.shape[1] - gains) / len(gains)

    def refine(self) -> bool:
        pieces = 2 * self._places.shape[1]
        held = (self._places * pieces).floor().long().clamp(max=pieces - 1)
        return self._visited(self._drawn(held ^ 1, pieces))

    def _at_ends(self) -> Tensor:
        """Return the target at each reference and at the image, as many as the caller allows."""
        ends = torch.cat([self._references, self._x[None]])
        parts = [self._probe.values(ends[part]) for part in self._probe.parts(len(ends))]
        return torch.cat(parts) if parts else self._x.new_zeros(0)

    def _drawn(self, wanted: Tensor, pieces: int) -> Tensor:
        """Return a point in each of the wanted pieces, [N, n]."""
        drawn = torch.rand(wanted.shape, generator=self._generator, dtype=torch.float64)
        return (wanted + drawn) / pieces

    def _visited(self, places: Tensor) -> bool:
        """Return whether all places [N, n] could be visited; else nothing is changed."""
        total, growth, visited = torch.zeros_like(self._total), torch.zeros_like(self._growth), 0
        flat = [(way, float(place)) for way, row in enumerate(places) for place in row]
        for part in self._probe.parts(len(flat)):
            ways = torch.stack([self._x - self._references[way] for way, _ in flat[part]])
            left = torch.tensor([1 - place for _, place in flat[part]]).to(self._x)
            _, gradients = self._probe.gradients(
                self._x - left.view(-1, *[1] * self._x.ndim) * ways
            )
            share = gradients * ways
            total += share.sum(dim=0)
            sums = share.flatten(1).sum(dim=1, dtype=torch.float64).cpu()
            growth.index_add_(0, torch.tensor([way for way, _ in flat[part]]), sums)
            visited = part.stop
        if visited < len(flat):
            return False
        self._total += total
        self._growth += growth
        self._places = torch.cat([self._places, places], dim=1)
        return True

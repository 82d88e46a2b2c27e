"""Asking a network about one target at many places, as memory, budget and caller allow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ai.errors import UndifferentiableError
from ai.explainers.admission import admit, differentiating, evaluate
from ai.explainers.metering import Fit, Meter, fit_into
from ai.model import Settings, Target
from dicom_io.analysis import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One admitted network and one target. A place is one input [C, *S] and costs one pass."""

    network: nn.Module
    target: Target
    #: How many places go through the network at once.
    fit: Fit
    meter: Meter

    def parts(self, wanted: int) -> Iterator[slice]:
        """Yield which of so many places to ask at once, until budget or caller end it."""
        asked = 0
        while asked < wanted:
            granted = self.meter.granted(min(self.fit.entries, wanted - asked))
            if granted == 0:
                return
            yield slice(asked, asked + granted)
            asked += granted

    def values(self, places: Tensor) -> Tensor:
        """Return the target at each of the places [N, C, *S], [N]."""
        # A network may work in place on what it is given.
        values = evaluate(self.target, self.network(places.clone()), places).detach()
        self.meter.spend(places.shape[0])
        return values

    def gradients(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the target at each of the places, [N], and its gradient there, [N, C, *S].

        Raises
        ------
        UndifferentiableError
            If the target has no gradient at the input.
        """
        values, gradients, _ = self.gradients_with(places, ())
        return values, gradients

    def gradients_with(
        self, places: Tensor, others: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return the same, and the gradients of the targets' sum at other leaves of the graph.

        A leaf that the target does not depend on has the gradient zero.
        """
        with differentiating():
            leaf = places.detach().clone().requires_grad_()
            # A network may work in place on what it is given, but autograd keeps leaves from that.
            values = evaluate(self.target, self.network(leaf.clone()), leaf)
            gradient, *rest = (
                torch.autograd.grad(values.sum(), [leaf, *others], allow_unused=True)
                if values.requires_grad
                else [None]
            )
            if gradient is None:
                raise UndifferentiableError("the target has no gradient at the input")
        self.meter.spend(places.shape[0])
        zeros = (torch.zeros_like(other) for other in others)
        given = (zero if each is None else each for each, zero in zip(rest, zeros, strict=True))
        return values.detach(), gradient, tuple(given)

    def cost(self, *, widest: int, backwards: int = 0) -> Cost:
        """Return what was spent, if at most ``widest`` places were due at once."""
        return Cost(
            forwards=float(self.meter.spent),
            backwards=float(backwards),
            peak_bytes=self.fit.peak_bytes(widest),
        )


def probed(
    network: nn.Module,
    x: Tensor,
    target: Target,
    settings: Settings,
    *,
    memory_bytes: int,
    expected: int,
) -> tuple[Probe, Tensor]:
    """Return what to ask through, and the input as a plain tensor; raises as ``admit`` does.

    Parameters
    ----------
    memory_bytes
        What the activations of one batch may take.
    expected
        How many passes the method would like to spend.
    """
    frozen, plain = admit(network, x)
    fit = fit_into(memory_bytes, frozen, plain)
    meter = Meter(settings.budget, expected)
    return Probe(network=frozen, target=target, fit=fit, meter=meter), plain

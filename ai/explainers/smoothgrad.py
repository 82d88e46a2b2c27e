"""SmoothGrad: the gradient averaged over noisy copies of the image (Smilkov et al. 2017).

The gradient of a deep network changes its sign from voxel to voxel. What survives a little noise is
what the map shows.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.draws import draws_of
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: What may become of the gradients.
FORMS = ("absolute", "signed", "squared")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothGrad:
    """The mean gradient over noisy copies, its size, or the mean of the squares.

    Noise comes in pairs of opposite sign: what a gradient gains from one it loses to the other,
    as far as it changes linearly. On the phantom model a pair has a half to a sixth of the variance
    of two independent copies. (captum's NoiseTunnel draws from the global generator.)
    """

    name: str = field(default="smoothgrad", init=False)
    needs: ClassVar[Needs] = Needs.GRADIENT
    passes: ClassVar[str] = "33 forward, 32 backward"
    #: Noisy copies; an even number.
    samples: int = 32
    #: Deviation of the noise, as a share of the deviation of each channel of the image. The paper
    #: has 0.1 to 0.2 of the range, some three deviations: in an image with little noise of its own
    #: that is another image.
    noise: float = 0.1
    #: ``"absolute"``: the size of the mean gradient, see ``Saliency`` for why; ``"signed"``: the
    #: mean itself; ``"squared"``: the mean of the squares (SmoothGrad-Squared, Hooker et al. 2019).
    form: str = "absolute"
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.samples < 2 or self.samples % 2:
            raise ValueError(f"samples is {self.samples}, expected an even number from 2 on")
        if not self.noise > 0:
            raise ValueError(f"noise is {self.noise}, expected a share above 0")
        if self.form not in FORMS:
            raise ValueError(f"form {self.form!r} is not known; expected one of {', '.join(FORMS)}")

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        return Cost(
            forwards=float((self.samples + 1) * x.shape[0]),
            backwards=float(self.samples * x.shape[0]),
            peak_bytes=fit.peak_bytes(self.samples),
        )

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the smoothed gradient of ``target``, [B, C, *S].

        A budget or a cancellation leaves the mean over fewer copies, and a warning counts them.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError; BudgetError if not even one pair is
            affordable, ExplanationCancelledError if it was cancelled before; UndifferentiableError
            if the target has no gradient at the input.
        """
        count = x.shape[0]
        require_forwards(settings, 3 * count, self.name)
        probe, plain = probed(
            network,
            x,
            target,
            settings,
            memory_bytes=self.memory_bytes,
            expected=(self.samples + 1) * count,
        )
        draws, found = draws_of(settings), []
        for entry in range(count):
            probe.meter.allot(count - entry)
            found.append(self._smoothed(probe, plain[entry : entry + 1], draws.generator()))
        probe.meter.finish()
        least = min(done for _, _, done in found)
        return Attribution(
            values=torch.cat([values for values, _, _ in found]).float(),
            f_x=torch.cat([f_x for _, f_x, _ in found]),
            f_baseline=None,
            residual=None,
            method=self.name,
            layer=None,
            baseline=None,
            seed=draws.seed,
            cost=probe.cost(widest=self.samples, backwards=probe.meter.spent - count),
            warnings=() if least == self.samples else (_told(least, self.samples),),
        )

    def _smoothed(
        self, probe: Probe, x: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, int]:
        """Return the map of one entry, the target there, and over how many copies it is."""
        spread = x.flatten(2).std(dim=2, correction=0)
        strength = self.noise * spread.view(*spread.shape, *[1] * (x.ndim - 2))
        f_x, total, done = probe.values(x), torch.zeros_like(x), 0
        noise = torch.zeros_like(x)
        for part in probe.parts(self.samples):
            places = []
            for sample in range(part.start, part.stop):
                noise = -noise if sample % 2 else _drawn(x, generator)
                places.append(x + strength * noise)
            _, gradients = probe.gradients(torch.cat(places))
            total += (gradients.square() if self.form == "squared" else gradients).sum(dim=0)
            done = part.stop
        if done == 0:
            raise ExplanationCancelledError(f"{self.name}: cancelled before the first gradient")
        mean = total / done
        return mean.abs() if self.form == "absolute" else mean, f_x, done


def _drawn(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator).to(x)


def _told(done: int, wanted: int) -> str:
    return f"the mean over {done} of {wanted} noisy copies"

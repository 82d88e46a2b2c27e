"""Input times gradient: how much of the target each voxel holds where the network is linear.

Shrikumar et al. 2016. Around an image, a network of convolutions, linear layers, batch
normalization, pooling and ReLUs *is* linear: its output is the sum of input times gradient and of
what its constants hold, biases times their gradients. That is LRP-0 (Bach et al. 2015), and the
residual says how nearly it holds. Where a network bends (GELU, softmax, a norm of the image's own)
it does not, the residual is large, and the values mean little.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError
from ai.explainers.admission import DEFAULTS, admit, require_forwards
from ai.explainers.axioms import conservation_residual, incompleteness_warning
from ai.explainers.metering import fit_into
from ai.explainers.probing import Probe, probed
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: Above this share of the target in the network's constants, the map is told to be the lesser part.
_MUCH = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class InputXGradient:
    """The image times the gradient of the target: a decomposition of f(x), not of a gain.

    Values depend on where the image's zero is: a voxel of value 0 holds nothing, whatever it
    shows. The constants of TorchScript cannot be asked, so that there is no residual there.
    """

    name: str = field(default="input_x_gradient", init=False)
    needs: ClassVar[Needs] = Needs.GRADIENT
    passes: ClassVar[str] = "1 forward, 1 backward"
    #: What the activations of one batch may take.
    memory_bytes: int = 2**31

    @gradients_off()
    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` takes."""
        fit = fit_into(self.memory_bytes, *admit(network, x))
        passes = float(x.shape[0])
        return Cost(forwards=passes, backwards=passes, peak_bytes=fit.peak_bytes(1))

    @gradients_off()
    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return image times gradient, [B, C, *S], with the residual of its conservation.

        Raises
        ------
        ExplanationError
            TrainingModeError, InputTensorError, TargetError, BudgetError,
            ExplanationCancelledError; UndifferentiableError if the target has no gradient at the
            input.
        """
        count = x.shape[0]
        require_forwards(settings, count, self.name)
        probe, plain = probed(
            network, x, target, settings, memory_bytes=self.memory_bytes, expected=count
        )
        constants = tuple(_constants(probe.network))
        found = []
        for entry in range(count):
            if probe.meter.cancelled:
                raise ExplanationCancelledError(f"{self.name}: cancelled at entry {entry}")
            found.append(_decomposed(probe, plain[entry : entry + 1], constants))
        values, elsewhere, f_x = (torch.cat(each) for each in zip(*found, strict=True))
        residual = conservation_residual(values, elsewhere, f_x)
        opaque = isinstance(network, torch.jit.ScriptModule)
        return Attribution(
            values=values.float(),
            f_x=f_x,
            f_baseline=None,
            residual=None if opaque else residual,
            method=self.name,
            layer=None,
            baseline=None,
            seed=None,
            cost=probe.cost(widest=1, backwards=count),
            warnings=() if opaque else _told(residual, elsewhere, f_x),
        )


@dataclass(frozen=True, slots=True)
class _Constant:
    """What a layer adds, whatever it is given."""

    #: Its gradient is that of the constant.
    leaf: Tensor
    value: Tensor


def _constants(network: nn.Module) -> Iterator[_Constant]:
    """Yield the constants of a private copy, which record their gradients from then on."""
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            return
        if isinstance(module, nn.Linear | _ConvNd | _BatchNorm) and module.bias is not None:
            value = module.bias.detach()
            if isinstance(module, _BatchNorm):
                value = value - _shift(module)
            yield _Constant(module.bias.requires_grad_(), value)


def _shift(module: _BatchNorm) -> Tensor:
    """Return what the running mean takes away, [C]; nothing where there is none."""
    if module.running_mean is None or module.running_var is None:
        return torch.zeros_like(module.weight)
    return module.running_mean * module.weight / (module.running_var + module.eps).sqrt()


def _decomposed(
    probe: Probe, x: Tensor, constants: tuple[_Constant, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the voxels of one entry hold, what constants hold, and the target, [1] each."""
    leaves = [each.leaf for each in constants]
    f_x, gradient, others = probe.gradients_with(x, leaves)
    held = [
        (each.value * other).sum(dtype=torch.float64)
        for each, other in zip(constants, others, strict=True)
    ]
    return x * gradient, sum(held, start=f_x.new_zeros(1, dtype=torch.float64)), f_x


def _told(residual: Tensor, elsewhere: Tensor, f_x: Tensor) -> tuple[str, ...]:
    warnings = incompleteness_warning(residual, ())
    share = float((elsewhere.abs() / f_x.double().abs().clamp(min=1e-12)).max())
    if share <= _MUCH:
        return warnings
    return (*warnings, f"constants of the network hold {share:.0%} of the result, no voxel does")

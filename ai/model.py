"""The words of the room: models, targets, explainers, measures and what passes between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ai.reliability.assessment import Reliability
from ai.settings import IntendedUse, ModelSettings
from dicom_io.analysis import Cost, ModelCard
from dicom_io.codes import Code
from dicom_io.volume import Volume

__all__ = [
    "Attribution",
    "Budget",
    "Explainer",
    "IntendedUse",
    "Label",
    "Model",
    "ModelSettings",
    "Needs",
    "Prediction",
    "Prepared",
    "Settings",
    "Target",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One output channel of a network and what it stands for."""

    channel: int
    name: str
    concept: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A volume as the network wants it, and all that the way back needs."""

    #: float32 [1, C, *S] on the network's device.
    tensor: Tensor
    #: 4 x 4 float64 from the prepared index (in tensor axis order, 1) to LPS mm; None for a
    #: projection, whose prepared index maps to the source index by ``source_from_prepared``.
    affine: NDArray[np.float64] | None
    #: 4 x 4 float64 from the prepared index (i, j, k, 1) to the source (slice, row, column, 1).
    source_from_prepared: NDArray[np.float64]
    source: Volume
    #: What the network sees at once, in tensor axis order, where it slides; None: all of it.
    window: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a network said, before any explanation."""

    #: Raw network output for one input: [1, K] of a classifier, [1, K, *S] of a segmenter.
    output: Tensor
    #: Per label name, 0 to 1; empty for a segmenter.
    probabilities: Mapping[str, float] = field(default_factory=dict)
    #: Per label name, bool [slice, row, column] on the source grid; empty for a classifier.
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


class Model(Protocol):
    """A loaded model: a network with its preparation, its labels and its card."""

    @property
    def card(self) -> ModelCard:
        """Who the model is."""
        ...

    @property
    def network(self) -> nn.Module:
        """The network in evaluation mode; explainers work on it and leave no trace."""
        ...

    @property
    def labels(self) -> Sequence[Label]:
        """The output channels that mean something; background is not among them."""
        ...

    @property
    def threshold(self) -> float:
        """The operating point on the calibrated probability, 0 to 1."""
        ...

    @property
    def reliability(self) -> Reliability | None:
        """What was fitted to its weights; None where nothing was, as for segmenters."""
        ...

    def prepare(self, volume: Volume) -> Prepared:
        """Return the volume as network input; raises UnsuitableInputError."""
        ...

    def predict(self, prepared: Prepared) -> Prediction:
        """Return the network's output and what it means on the source grid."""
        ...

    def interpret(self, output: Tensor, prepared: Prepared) -> Prediction:
        """Return what an output means that the network gave for all of the input at once.

        ``predict`` is this after the network; where the network slides a window, only ``predict``
        is asked.
        """
        ...


#: From (network output, network input) to one number per batch entry, before softmax.
Target = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Budget:
    """The only channel for progress and for stopping, between an explainer and its caller."""

    #: Most forward passes that may be spent; None for no limit.
    forwards: int | None = None
    #: Called with (done, total) forward passes.
    report: Callable[[int, int], None] | None = None
    #: Asked between passes; True ends the work with what is there.
    cancelled: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Settings:
    """What a caller may want differently, whatever the method."""

    #: Of the input's shape, or [N, C, *S] for reference sets; None: the method's own default.
    baseline: Tensor | None = None
    #: Names as in ``network.named_modules()``; None: chosen by the method.
    layers: tuple[str, ...] | None = None
    budget: Budget | None = None
    generator: torch.Generator | None = None


@dataclass(frozen=True)
class Attribution:
    """One method's answer on the prepared grid."""

    #: float32 [B, C, *S] (CAMs: [B, 1, *S]), signed, not normalized, spatial shape of the input.
    values: Tensor
    #: [B], the target's value.
    f_x: Tensor
    f_baseline: Tensor | None
    #: [B], relative to max(abs(f_x - f_baseline), tiny); None where no axiom applies.
    residual: Tensor | None
    method: str
    layer: str | None
    baseline: str | None
    seed: int | None
    cost: Cost
    warnings: tuple[str, ...] = ()


class Needs(StrEnum):
    """What a method asks of a network, from the least to the most."""

    OUTPUT = "its output alone"
    GRADIENT = "a gradient at the input"
    LAYERS = "feature maps of named layers"
    FUNCTIONS = "every function that it calls"
    ATTENTION = "attention layers"
    EVIDENCE = "a head that sums up evidence"


class Explainer(Protocol):
    """A method: a frozen dataclass whose fields are the method's parameters."""

    #: Of the entry point, as routes write it.
    name: str
    needs: ClassVar[Needs]
    #: What it costs by default, in passes of the network, for a person: ``1 forward, 1 backward``.
    passes: ClassVar[str]

    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` will take, before it runs."""
        ...

    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = ...
    ) -> Attribution:
        """Return the attribution of ``target`` to ``x`` (float32 [B, C, *S])."""
        ...

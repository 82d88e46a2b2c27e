"""What a configuration says of a model; imports no torch, so that every process may read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicom_io.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class IntendedUse:
    """What a model is meant for; an empty field asks nothing."""

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    #: Inclusive limits in years.
    age_years: tuple[float, float] | None = None
    #: Inclusive limits in mm that every spacing of the volume's grid must keep.
    spacing_mm: tuple[float, float] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityFile:
    """What was fitted to a model on known cases (``ai.reliability``), as a file."""

    #: Absolute.
    file: Path
    #: Of the file, hex.
    sha256: str


#: What a parameter of an explainer may be in TOML.
Parameter = str | int | float | bool | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultExplainer:
    """What explains a model where nobody names an explainer."""

    #: As routes write it: ``layer_cam``.
    method: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What ``config/models/*.toml`` says of one model; ``load(settings)`` makes the Model."""

    name: str
    #: Name of the loader among the entry points ``pellucid.models``.
    kind: str = "monai_bundle"
    #: Folder of the bundle, absolute; None for a model that is part of a package.
    bundle: Path | None = None
    #: Whether the bundle may run its own expressions and code.
    trusted: bool = False
    #: File name relative to the bundle to its sha256 (hex): every file of the bundle.
    sha256: Mapping[str, str] = field(default_factory=dict)
    #: Output channel to coded concept; other channels are not reported.
    labels: Mapping[int, Code] = field(default_factory=dict)
    intended_use: IntendedUse = IntendedUse()
    threshold: float = 0.5
    #: Divides the logits; where there is a reliability, its calibration takes the place of it.
    temperature: float = 1.0
    #: Limits that its explanations are held to, by name of measure; a route's own go before them.
    gate: Mapping[str, float] = field(default_factory=dict)
    #: None: that of the node.
    explainer: DefaultExplainer | None = None
    #: None: nothing was fitted, so that no answer of the model is assessed.
    reliability: ReliabilityFile | None = None
    #: Torch device: ``cpu``, ``cuda`` or ``cuda:1``.
    device: str = "cpu"

"""A MONAI bundle as a model: its network, its preparation and its own post-processing."""

import io
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from monai.inferers.inferer import SimpleInferer, SlidingWindowInferer
from monai.transforms.compose import Compose
from torch import Tensor, nn

from ai.errors import ModelUnavailableError, UnsuitableInputError
from ai.model import Label, Prediction, Prepared
from ai.models.bundle_code import importable
from ai.models.bundle_config import (
    WeightsPlace,
    image_key,
    network_id,
    read_config,
    read_metadata,
    safe_parser,
    weights_place,
)
from ai.models.bundle_files import hash_bundle, read_verified, verify_bundle
from ai.models.bundle_labels import channel_names, guessed_use, input_channels, labels_of
from ai.models.fitted import reliability_of
from ai.models.intended_use import require_suitable
from ai.models.postprocess import (
    Postprocessing,
    class_probabilities,
    part_at_inversion,
    source_masks,
)
from ai.models.probe import require_true_geometry
from ai.prepare import Transform, prepare
from ai.reliability.assessment import Reliability
from ai.settings import IntendedUse, ModelSettings
from ai.targets import logits_of
from dicom_io.analysis import ModelCard
from dicom_io.codes import Code, code_for_label
from dicom_io.volume import Volume

#: What a bundle's own expressions and classes raise while they are built.
_BUNDLE_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError, NameError,
    SyntaxError, OSError, ArithmeticError,
)  # fmt: skip

#: Libraries explain themselves at length.
_LONGEST_CAUSE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDescription:
    """What a bundle says of itself, read without running any of it; for a person to check."""

    name: str
    version: str
    description: str
    #: Every file's sha256 (hex) by its POSIX path within the bundle.
    sha256: Mapping[str, str]
    #: Output channel to concept, without the background.
    labels: Mapping[int, Code]
    intended_use: IntendedUse


@dataclass(frozen=True, slots=True, kw_only=True)
class MonaiBundle:
    """A loaded bundle, as the protocol ``ai.model.Model`` wants it."""

    card: ModelCard
    network: nn.Module
    labels: tuple[Label, ...]
    threshold: float
    intended_use: IntendedUse
    temperature: float
    preprocessing: tuple[Transform, ...]
    postprocessing: Postprocessing
    inferer: SimpleInferer | SlidingWindowInferer
    #: Channels that the network takes; None where the bundle does not say.
    channels: int | None
    device: str
    reliability: Reliability | None = None

    def prepare(self, volume: Volume) -> Prepared:
        """Return the volume as network input; raises UnsuitableInputError."""
        require_suitable(volume, self.intended_use)
        prepared = self.preprocess(volume)
        given = prepared.tensor.shape[1]
        if self.channels not in (None, given):
            raise UnsuitableInputError(
                f"series {volume.series_instance_uid}: {given} channel(s), "
                f"the model takes {self.channels}"
            )
        return replace(prepared, window=_window(self.inferer, prepared.tensor.shape[2:]))

    def preprocess(self, volume: Volume) -> Prepared:
        """Return the volume after the bundle's preprocessing, whatever it shows."""
        return prepare(
            volume,
            self.preprocessing,
            key=self.postprocessing.image_key,
            spatial_dims=_spatial_dims(self.network),
            device=self.device,
        )

    def predict(self, prepared: Prepared) -> Prediction:
        """Return the output, and the probabilities or the masks that it means.

        Raises
        ------
        ModelUnavailableError
            The output is neither [1, K] nor [1, K, *S] on the grid of the input.
        """
        with torch.no_grad():
            output = logits_of(self.inferer(inputs=prepared.tensor, network=self.network))
        return self.interpret(output, prepared)

    @torch.no_grad()
    def interpret(self, output: Tensor, prepared: Prepared) -> Prediction:
        """Return the probabilities or the masks that an output means; raises as ``predict``."""
        if output.ndim == 2:
            probabilities = class_probabilities(
                output,
                self.postprocessing,
                self.labels,
                temperature=self.temperature,
                ends_in_activation=_ends_in_activation(self.network),
            )
            return Prediction(output=output, probabilities=probabilities)
        if output.shape[2:] != prepared.tensor.shape[2:]:
            raise ModelUnavailableError(
                f"model {self.card.name}: output of shape {tuple(output.shape)} for an input "
                f"of {tuple(prepared.tensor.shape)}: neither classes nor a segmentation"
            )
        calibrated = output if self.temperature == 1.0 else output / self.temperature
        masks = source_masks(calibrated, prepared, self.postprocessing, self.labels)
        return Prediction(output=output, masks=masks)


def load(settings: ModelSettings) -> MonaiBundle:
    """Return the bundle of ``settings``, ready to predict.

    Every file is checked before anything of the bundle runs, and what is loaded is the bytes
    that were checked.

    Raises
    ------
    ModelUnavailableError
        The bundle is not trusted, a file is missing, unknown or changed, or its configuration or
        weights cannot be used; the message says which and what to do.
    """
    folder = _trusted_folder(settings)
    verify_bundle(folder, settings.sha256)
    names = sorted(settings.sha256)

    def read(name: str) -> bytes:
        return read_verified(folder, name, settings.sha256)

    with _named(settings.name):
        metadata = read_metadata(names, read)
        config = read_config(names, read)
        parser = safe_parser(config, folder=folder, device=_device(settings))
        sources = {name: read(name) for name in names if name.endswith(".py")}
        # A published configuration's age is no news: MONAI warns of it at every load.
        with importable(sources), warnings.catch_warnings(action="ignore"):
            place = weights_place(parser, folder)
            network = parser.get_parsed_content(network_id(config))
            parts = _Parts.built(parser)
        _require_network(network)
        _load_weights(network, place, read(_weights_file(place, names)))
        card, labels = _card(settings, metadata, place), labels_of(metadata, settings.labels)
        model = MonaiBundle(
            card=card,
            network=_ready(network, _device(settings)),
            labels=labels,
            threshold=settings.threshold,
            intended_use=settings.intended_use,
            temperature=settings.temperature,
            preprocessing=parts.preprocessing,
            postprocessing=part_at_inversion(parts.postprocessing, image_key(config)),
            inferer=parts.inferer,
            channels=input_channels(metadata),
            device=_device(settings),
            reliability=reliability_of(settings, weights_sha256=card.weights_sha256, labels=labels),
        )
        _require_assessable(model)
        with warnings.catch_warnings(action="ignore"):
            require_true_geometry(
                model.preprocess,
                channels=model.channels or 1,
                spatial_dims=_spatial_dims(model.network),
            )
    return model


def describe_bundle(folder: Path) -> BundleDescription:
    """Return what the bundle in ``folder`` says of itself, running none of it.

    Raises
    ------
    ModelUnavailableError
        It is not a MONAI bundle, or its metadata cannot be read.
    """
    if not folder.is_dir():
        raise ModelUnavailableError(f"bundle {folder}: no such folder")
    sha256 = hash_bundle(folder)

    def read(name: str) -> bytes:
        return read_verified(folder, name, sha256)

    with _named(str(folder)):
        metadata = read_metadata(sorted(sha256), read)
        names = channel_names(metadata)
    return BundleDescription(
        name=str(metadata.get("name") or folder.resolve().name),
        version=str(metadata.get("version", "")),
        description=str(metadata.get("description", "")),
        sha256=sha256,
        labels={channel: code_for_label(name) for channel, name in names.items()},
        intended_use=guessed_use(metadata),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    preprocessing: tuple[Transform, ...]
    postprocessing: tuple[Transform, ...]
    inferer: SimpleInferer | SlidingWindowInferer

    @classmethod
    def built(cls, parser: ConfigParser) -> "_Parts":
        inferer = parser.get_parsed_content("inferer", default=SimpleInferer())
        if not isinstance(inferer, SimpleInferer | SlidingWindowInferer):
            raise ModelUnavailableError(
                f"inferer {type(inferer).__name__}: only SimpleInferer and SlidingWindowInferer "
                f"are understood"
            )
        return cls(
            preprocessing=_transforms(parser.get_parsed_content("preprocessing", default=None)),
            postprocessing=_transforms(parser.get_parsed_content("postprocessing", default=None)),
            inferer=inferer,
        )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the model in whatever its bundle raises."""
    try:
        yield
    except ModelUnavailableError as error:
        raise ModelUnavailableError(f"model {name}: {error}") from error
    except _BUNDLE_ERRORS as error:
        cause = error.__cause__ or error
        raise ModelUnavailableError(
            f"model {name}: its configuration cannot be run: {type(cause).__name__}: "
            f"{_in_short(cause)}"
        ) from error


def _in_short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}…"


def _trusted_folder(settings: ModelSettings) -> Path:
    if settings.bundle is None:
        raise ModelUnavailableError(f"model {settings.name}: no bundle folder is configured")
    if not settings.trusted:
        raise ModelUnavailableError(
            f"model {settings.name}: bundle {settings.bundle} runs its own expressions and is not "
            f"trusted; read its configuration, then set trusted = true"
        )
    return settings.bundle


def _device(settings: ModelSettings) -> str:
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailableError(f"device {settings.device}: no such device on this machine")
    return settings.device


def _transforms(composed: Any) -> tuple[Transform, ...]:
    if composed is None:
        return ()
    if isinstance(composed, Compose):
        flat: Compose = composed.flatten()  # type: ignore[no-untyped-call]
        return tuple(flat.transforms)
    if isinstance(composed, Sequence):
        return tuple(composed)
    return (composed,)


def _weights_file(place: WeightsPlace, names: Sequence[str]) -> str:
    if place.name in names and not place.name.endswith(".ts"):
        return place.name
    scripted = [name for name in names if name.endswith(".ts")]
    if scripted:
        raise ModelUnavailableError(
            f"its weights are only there as TorchScript ({scripted[0]}), which is not supported: "
            f"get {place.name}"
        )
    raise ModelUnavailableError(f"its weights {place.name} are missing")


def _load_weights(network: nn.Module, place: WeightsPlace, content: bytes) -> None:
    """Load the checkpoint into the network, every tensor of both accounted for."""
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError) as error:
        # Without torch's own words: they say how to run what is in there.
        raise ModelUnavailableError(
            f"{place.name} is no file of weights alone, which is all that is loaded: "
            "get the bundle from where it is published"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise ModelUnavailableError(f"{place.name} holds a {type(checkpoint).__name__}")
    state = checkpoint.get(place.key, checkpoint)
    state = {str(key).removeprefix("module."): value for key, value in state.items()}
    network.load_state_dict(state, strict=True)
    for name, value in network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ModelUnavailableError(f"{place.name} holds what is not finite, in {name}")


def _require_network(network: Any) -> None:
    if not isinstance(network, nn.Module):
        raise ModelUnavailableError(f"its network is a {type(network).__name__}, not a module")


def _ready(network: nn.Module, device: str) -> nn.Module:
    """Return the network on its device, in evaluation mode, frozen."""
    network = network.to(device).eval().requires_grad_(False)
    dilated = any(isinstance(m, nn.Conv3d) and max(m.dilation) > 1 for m in network.modules())
    if dilated:
        # Several times faster on a CPU in this layout.
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _require_assessable(model: MonaiBundle) -> None:
    """Refuse a reliability where there are no logits of the whole image to apply it to."""
    if model.reliability is None:
        return
    if isinstance(model.inferer, SlidingWindowInferer):
        raise ModelUnavailableError(
            "it sees one window at a time, and a reliability is for classifiers that see the "
            "whole image: remove [model.reliability]"
        )
    if _ends_in_activation(model.network):
        raise ModelUnavailableError(
            "its network gives probabilities, and a reliability needs logits: remove "
            "[model.reliability]"
        )


def _ends_in_activation(network: nn.Module) -> bool:
    layers = [module for module in network.modules() if not any(module.children())]
    return isinstance(layers[-1], nn.Sigmoid | nn.Softmax)


def _spatial_dims(network: nn.Module) -> int:
    planar = any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.modules())
    solid = any(isinstance(m, nn.Conv3d | nn.ConvTranspose3d) for m in network.modules())
    return 2 if planar and not solid else 3


def _window(
    inferer: SimpleInferer | SlidingWindowInferer, shape: Sequence[int]
) -> tuple[int, ...] | None:
    if not isinstance(inferer, SlidingWindowInferer):
        return None
    size = inferer.roi_size
    sizes = tuple(size) if isinstance(size, Sequence) else (size,) * len(shape)
    return tuple(int(w) if w and w > 0 else int(n) for w, n in zip(sizes, shape, strict=True))


def _card(settings: ModelSettings, metadata: Mapping[str, Any], place: WeightsPlace) -> ModelCard:
    return ModelCard(
        name=settings.name,
        version=str(metadata.get("version", "")),
        weights_sha256=settings.sha256[place.name],
        description=str(metadata.get("description", "")),
        manufacturer=str(metadata.get("authors", "")),
        intended_use=settings.intended_use.text or str(metadata.get("intended_use", "")),
    )

"""What a bundle's metadata says of its output channels and of its use, as published."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from ai.errors import ModelUnavailableError
from ai.model import Label
from ai.settings import IntendedUse
from dicom_io.codes import Code, code_for_label

_BACKGROUND = ("background", "unknown", "none", "bg", "everything else")
#: How alike a misspelt "background" must be: "backgroud", "Back ground".
_ALIKE = 0.85
#: Words of published metadata for DICOM's Modality (PS3.3 C.7.3.1.1.1).
_MODALITIES = {
    "ct": "CT", "cta": "CT", "computed tomography": "CT", "mr": "MR", "mri": "MR", "mra": "MR",
    "pt": "PT", "pet": "PT", "mammogram": "MG", "mg": "MG", "us": "US", "ultrasound": "US",
    "cr": "CR", "dx": "DX", "rgb": "", "endoscopic": "ES", "es": "ES",
}  # fmt: skip


def labels_of(metadata: Mapping[str, Any], configured: Mapping[int, Code]) -> tuple[Label, ...]:
    """Return the channels that mean something: as configured, else as the bundle says.

    Raises
    ------
    ModelUnavailableError
        The bundle names no channel, or two alike: then the configuration must name them.
    """
    named = _configured_names(metadata, configured) if configured else channel_names(metadata)
    labels = tuple(
        Label(channel=channel, name=name, concept=configured.get(channel) or code_for_label(name))
        for channel, name in sorted(named.items())
    )
    if not labels or len({label.name for label in labels}) < len(labels):
        raise ModelUnavailableError(
            f"the bundle's output channels are named {sorted(named.values())}, "
            f"expected one name for each: name them under [model.labels]"
        )
    return labels


def channel_names(metadata: Mapping[str, Any]) -> dict[int, str]:
    """Return output channel to name from ``channel_def``, without the background.

    Raises
    ------
    ModelUnavailableError
        A channel has no number or its name is no text.
    """
    outputs = _mapping(_mapping(metadata.get("network_data_format")).get("outputs"))
    output = _mapping(outputs.get("pred", next(iter(outputs.values()), None)))
    channels = output.get("channel_def") or {}
    pairs = channels.items() if isinstance(channels, Mapping) else enumerate(channels)
    named = {}
    for channel, name in pairs:
        if not re.fullmatch(r"\s*\d+\s*", str(channel)) or not isinstance(name, str):
            raise ModelUnavailableError(
                f"metadata.json: channel_def says {channel!r}: {name!r}, expected a channel "
                f"number and a name: name the channels under [model.labels]"
            )
        named[int(channel)] = " ".join(name.split())
    return {channel: name for channel, name in named.items() if not _is_background(name)}


def input_channels(metadata: Mapping[str, Any]) -> int | None:
    """Return how many channels the network takes; None where the bundle does not say."""
    count = str(_input(metadata).get("num_channels"))
    return int(count) if count.isdecimal() else None


def guessed_use(metadata: Mapping[str, Any]) -> IntendedUse:
    """Return the intended use as far as the metadata lets it be guessed, for a person to check."""
    modality = _MODALITIES.get(str(_input(metadata).get("modality", "")).strip().lower(), "")
    return IntendedUse(
        modality=(modality,) if modality else (), text=str(metadata.get("intended_use", ""))
    )


def _configured_names(
    metadata: Mapping[str, Any], configured: Mapping[int, Code]
) -> dict[int, str]:
    """Return the meanings; of a meaning that several channels have, the bundle's own names."""
    meanings = [code.meaning for code in configured.values()]
    shared = {meaning for meaning in meanings if meanings.count(meaning) > 1}
    published = channel_names(metadata) if shared else {}
    return {
        channel: published.get(channel, code.meaning) if code.meaning in shared else code.meaning
        for channel, code in configured.items()
    }


def _input(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = _mapping(_mapping(metadata.get("network_data_format")).get("inputs"))
    return _mapping(inputs.get("image", next(iter(inputs.values()), None)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_background(name: str) -> bool:
    plain = re.sub(r"[\s_-]+", " ", name).strip().lower()
    alike = difflib.SequenceMatcher(None, plain.replace(" ", ""), "background").ratio()
    return plain in _BACKGROUND or alike >= _ALIKE

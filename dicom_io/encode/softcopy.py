"""How the source says that its frames are shown: what a presentation state has to repeat."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_io.encode.geometry import decimal
from dicom_io.encode.inherit import header_of
from dicom_io.inherited import display_window
from dicom_io.paint import window_of
from dicom_io.read import Input
from dicom_io.volume import SourceFrame

_MODALITY = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType")
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Frames of one source that stored values are turned into grays of alike."""

    frames: tuple[SourceFrame, ...]
    #: Attributes of the Modality LUT (PS3.3 C.11.1); empty where the source has none.
    modality: Dataset
    #: Attributes of the window or the table (PS3.3 C.11.8); empty where none is known.
    voi: Dataset


def is_grayscale(source: Input) -> bool:
    """Return whether a grayscale presentation state can be about this image (PS3.3 A.33.1)."""
    header = source.headers[0]
    photometric = str(header.get("PhotometricInterpretation", ""))
    return photometric in {"MONOCHROME1", "MONOCHROME2"} and header.get("SamplesPerPixel", 1) == 1


def shown_alike(source: Input, frames: Sequence[SourceFrame]) -> tuple[Shown, ...]:
    """Return the frames by how they are shown, in order; each frame once.

    Where the source names no window, that of the volume's own values is taken. Of MONOCHROME1
    it is left to the viewer: larger values of the volume are smaller ones of the file.
    """
    groups: dict[str, list[SourceFrame]] = {}
    settings: dict[str, tuple[Dataset, Dataset]] = {}
    for frame in frames:
        modality, voi = _settings(frame, source)
        key = f"{modality}\n{voi}"
        groups.setdefault(key, []).append(frame)
        settings[key] = modality, voi
    return tuple(
        Shown(frames=tuple(alike), modality=settings[key][0], voi=settings[key][1])
        for key, alike in groups.items()
    )


def _settings(frame: SourceFrame, source: Input) -> tuple[Dataset, Dataset]:
    header = header_of(frame, source)
    transform = _group(header, frame, "PixelValueTransformationSequence")
    voi = _group(header, frame, "FrameVOILUTSequence")
    modality = _taken(transform, _MODALITY)
    if "RescaleSlope" in modality and "RescaleType" not in modality:
        # Type 1 here, of many sources absent: unspecified (PS3.3 C.11.1.1.2).
        modality.RescaleType = "HU" if source.volume.modality == "CT" else "US"
    return modality, _voi(voi, header, source)


def _voi(voi: Dataset, header: Dataset, source: Input) -> Dataset:
    if display_window(voi, str(header.SOPInstanceUID)) is not None:
        return _taken(voi, _WINDOW)
    if voi.get("VOILUTSequence"):
        return _taken(voi, ("VOILUTSequence",))
    window = Dataset()
    if header.get("PhotometricInterpretation") != "MONOCHROME1":
        lowest, highest = window_of(source.volume.voxels[0], source.volume.window)
        window.WindowCenter = decimal((lowest + highest) / 2)
        window.WindowWidth = decimal(max(highest - lowest, 1.0))
    return window


def _group(header: Dataset, frame: SourceFrame, keyword: str) -> Dataset:
    """Return what holds the attributes: the frame's functional group, or the image itself."""
    if frame.frame_number is None:
        return header
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    places = [*per_frame[frame.frame_number - 1 : frame.frame_number], *shared]
    found = [place[keyword].value[0] for place in places if place.get(keyword)]
    return found[0] if found else Dataset()


def _taken(source: Dataset, keywords: Sequence[str]) -> Dataset:
    taken = Dataset()
    for keyword in keywords:
        if source.get(keyword) not in (None, ""):
            taken[keyword] = copy.deepcopy(source[keyword])
    return taken

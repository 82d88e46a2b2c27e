"""The demo on one picture: the slice, the truth, and the overlays as the PACS holds them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ai.phantom.make import Phantom
from dicom_io.paint import draw_outline, enlarged, gray, window_of
from dicom_io.results import Overlay, StoredResult, read_overlay

_TRUTH_RGB = (80, 255, 120)
_TEXT_RGB = (235, 235, 235)
_CAPTION_HEIGHT = 34
_GAP = 12
_SCALE = 3


def draw_montage(phantom: Phantom, results: Sequence[StoredResult], path: Path) -> None:
    """Write a PNG: image, planted truth, one overlay per explainer on the lesion's largest slice.

    Each overlay is the secondary capture as the PACS holds it, with its own legend.
    """
    number = int(phantom.truth.sum(axis=(1, 2)).argmax())
    panels = [
        _panel(_slice(phantom, number), f"phantom as sent, slice {number + 1}"),
        _panel(_with_truth(phantom, number), "planted lesion (truth)"),
    ]
    panels += [
        _panel(overlay.picture, overlay.description)
        for overlay in _overlays(phantom, results, number)
    ]
    _beside_each_other(panels).save(path)


def _slice(phantom: Phantom, number: int) -> NDArray[np.uint8]:
    plane = phantom.volume.voxels[0, number]
    shown = enlarged(gray(plane, window_of(plane, phantom.volume.window)), _SCALE)
    return np.repeat(shown[..., None], 3, axis=2)


def _with_truth(phantom: Phantom, number: int) -> NDArray[np.uint8]:
    canvas = _slice(phantom, number)
    truth = phantom.truth[number].repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    draw_outline(canvas, truth, _TRUTH_RGB)
    return canvas


def _overlays(phantom: Phantom, results: Sequence[StoredResult], number: int) -> list[Overlay]:
    if phantom.volume.affine is None:
        return []
    to_slice = np.linalg.inv(phantom.volume.affine)[0]
    pictures = [read_overlay(each.path) for each in results if each.modality == "OT"]
    return [
        each for each in pictures if round(float(to_slice @ [*each.position_mm, 1.0])) == number
    ]


def _panel(picture: NDArray[np.uint8], caption: str) -> Image.Image:
    image = Image.fromarray(picture)
    panel = Image.new("RGB", (image.width, image.height + _CAPTION_HEIGHT))
    panel.paste(image, (0, _CAPTION_HEIGHT))
    font = ImageFont.load_default(16)
    ImageDraw.Draw(panel).text((4, 8), caption, fill=_TEXT_RGB, font=font)
    return panel


def _beside_each_other(panels: Sequence[Image.Image]) -> Image.Image:
    width = sum(panel.width + _GAP for panel in panels) - _GAP
    canvas = Image.new("RGB", (width, max(panel.height for panel in panels)), (24, 24, 24))
    left = 0
    for panel in panels:
        canvas.paste(panel, (left, 0))
        left += panel.width + _GAP
    return canvas

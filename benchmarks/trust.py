"""One found lesion, one heatmap to trust and four that look like one: docs/trust.png.

    python -m benchmarks.trust [--first 970000] [--out docs/trust.png]

The head has a grain, too, and the network is that of ``benchmarks.two_classes``. Each map stands
with what the gate says of it, measured here as ``benchmarks.gate`` does.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ai.explainers.cam import LayerCAM
from ai.model import ModelSettings
from ai.models.phantom import load
from ai.phantom.make import Phantom
from ai.prepare import to_source_grid
from ai.quality.controls import intensity_map, sobel_map
from ai.quality.randomization import randomized
from benchmarks.class_maps import found_phantoms
from benchmarks.gate import judged
from benchmarks.two_classes import GRAIN, LESION, with_second_class
from dicom_io.analysis import Heatmap
from dicom_io.paint import (
    FAINTEST,
    displayed,
    draw_outline,
    enlarged,
    gray,
    heated,
    key_slice,
    window_of,
)

_SCALE, _CAPTION, _COLUMNS = 2, 62, 3
_TRUTH_RGB, _GOOD_RGB, _BAD_RGB = (80, 255, 120), (120, 235, 140), (255, 150, 110)
#: What the gate found, in the words of the picture.
_WORDS = {
    "comprehensiveness": "the network does not need this place",
    "specificity": "another finding needs this place more",
    "stability": "changes when the image hardly does",
    "plausibility": "much of it lies outside the head",
    "edges": "an image of edges",
    "intensity": "an image of brightness",
    "integrity": "nothing is highlighted",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--first", type=int, default=970_000, help="first seed (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/gate"), help="what is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/trust.png"), help="(%(default)s)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = load(ModelSettings(name="phantom", kind="phantom"))
    network = with_second_class(model, asked.work)
    phantom, prepared = next(found_phantoms(asked.first, model, network))
    x = prepared.tensor
    good = LayerCAM().explain(network, x, LESION)
    stranger = randomized(network, generator=torch.Generator().manual_seed(0))
    image = x[0, 0].numpy()
    edges, brightness = (
        torch.from_numpy(of(image))[None, None] for of in (sobel_map, intensity_map)
    )
    maps: dict[str, Callable[[Tensor], Tensor]] = {
        "The network's own map": lambda each: LayerCAM().explain(network, each, LESION).values,
        "Map of another class": lambda each: LayerCAM().explain(network, each, GRAIN).values,
        "Map of random weights": lambda each: LayerCAM().explain(stranger, each, LESION).values,
        "Edges of the image": lambda _: edges,
        "Brightness of the image": lambda _: brightness,
    }
    panels = [
        _panel(_shown(phantom, None), "Head with a planted lesion", "outlined: the truth", None)
    ]
    for name, explain in maps.items():
        values = explain(x)
        verdict = judged(replace(good, values=values), network, x, explain)
        relevance = to_source_grid(values[0], prepared)
        said = ", ".join(_WORDS[each] for each in verdict["failed"]) or "all checks passed"
        panels.append(_panel(_shown(phantom, relevance), name, said, verdict["passed"]))
    _sheet(panels).save(asked.out, optimize=True)
    print(f"wrote {asked.out}")


def _shown(phantom: Phantom, relevance: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """Return the lesion's largest slice with the relevance or the truth.

    A map that shows nothing there is shown on the slice that holds most of it.
    """
    number = int(phantom.truth.sum(axis=(1, 2)).argmax())
    if relevance is not None:
        heatmap = Heatmap(relevance=relevance)
        levels = displayed(heatmap).levels
        if levels[number].max() < FAINTEST * 255:
            number = key_slice(heatmap)
    plane = phantom.volume.voxels[0, number]
    picture = enlarged(gray(plane, window_of(plane, phantom.volume.window)), _SCALE)
    if relevance is not None:
        return heated(picture, enlarged(levels[number], _SCALE))
    canvas = np.repeat(picture[..., None], 3, axis=2)
    truth = phantom.truth[number].repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    draw_outline(canvas, truth, _TRUTH_RGB)
    return canvas


def _panel(picture: NDArray[np.uint8], title: str, said: str, passed: bool | None) -> Image.Image:
    image = Image.fromarray(picture)
    panel = Image.new("RGB", (image.width, image.height + _CAPTION), (16, 16, 16))
    panel.paste(image, (0, _CAPTION))
    draw = ImageDraw.Draw(panel)
    draw.text((6, 6), title, fill=(240, 240, 240), font=ImageFont.load_default(19))
    verdict = {True: "PASSES: ", False: "STOPPED: ", None: ""}[passed]
    color = {True: _GOOD_RGB, False: _BAD_RGB, None: (190, 190, 190)}[passed]
    text, font = verdict + said, ImageFont.load_default(14)
    while font.getlength(text) > image.width - 12:
        text = text.rsplit(", ", 1)[0] if ", " in text else text[:-1]
    draw.text((6, 34), text, fill=color, font=font)
    return panel


def _sheet(panels: list[Image.Image]) -> Image.Image:
    wide, high = panels[0].size
    rows = -(-len(panels) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * wide + 8 * (_COLUMNS - 1), rows * high + 8 * (rows - 1)))
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number % _COLUMNS * (wide + 8), number // _COLUMNS * (high + 8)))
    return sheet


if __name__ == "__main__":
    main()

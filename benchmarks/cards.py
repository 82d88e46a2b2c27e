"""The two cards of the documentation, from nothing to a picture: `make card`.

    python -m benchmarks.cards [--count 44] [--work build/card] [--shared ../shared/data]

Phantoms (and, where the test data is, a real head) are written as DICOM with their truth, the
models are validated on them, and the pages are photographed by Chromium, where there is one.
"""

import argparse
import shutil
import subprocess
from pathlib import Path

from PIL import Image

from benchmarks.known_head import write_known_head
from benchmarks.known_phantoms import FIRST, write_known_phantoms
from node.commands.validate import Wanted, model_settings, print_card, validate
from node.config import embedded_config

DOCS = Path(__file__).parents[1] / "docs"
_WIDTH, _HEIGHT = 1124, 9000
_MOST_BYTES = 300_000


def photograph(page: Path, picture: Path) -> None:
    """Write a page as a PNG of at most 300 kB, without what is empty below it."""
    raw = page.with_suffix(".png").absolute()
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--screenshot={raw}", f"--window-size={_WIDTH},{_HEIGHT}", page.absolute().as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )  # fmt: skip
    image = Image.open(raw).convert("RGB")
    ground = image.getpixel((2, image.height - 2))
    filled = [row for row in range(image.height) if image.getpixel((_WIDTH // 2, row)) != ground]
    image = image.crop((0, 0, image.width, min(image.height, filled[-1] + 24)))
    for width in range(1000, 400, -60):
        size = (width, round(image.height * width / image.width))
        small = image.resize(size, Image.Resampling.LANCZOS)
        few = small.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(picture, optimize=True)
        if picture.stat().st_size <= _MOST_BYTES:
            break


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cards", description=__doc__)
    parser.add_argument("--count", type=int, default=44, help="phantoms (%(default)s)")
    parser.add_argument("--curve-cases", type=int, default=4)
    parser.add_argument("--randomize", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/card"))
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    asked = parser.parse_args()
    write_known_phantoms(asked.work, range(FIRST, FIRST + asked.count))
    config = embedded_config(asked.work)
    wanted = [
        Wanted(
            model=config.models["phantom"],
            data=asked.work / "data",
            truth=asked.work / "truth",
            out=asked.work / "phantom",
            explainers=("layer_cam,grad_cam,lrp",),
            curve_cases=asked.curve_cases,
            randomized_cases=asked.randomize,
        )
    ]
    bundle = asked.shared / "brain_meshnet3"
    if bundle.is_dir():
        write_known_head(asked.work / "head", asked.shared)
        wanted.append(
            Wanted(
                model=model_settings(str(bundle), config, trusted=True),
                data=asked.work / "head" / "data",
                truth=asked.work / "head" / "truth",
                out=asked.work / "brain",
                explainers=("layer_cam:depth=0.75",),
                quick=True,
            )
        )
    for each in wanted:
        print_card(validate(each), each.out)
        if shutil.which("chromium"):
            photograph(each.out / "card.html", DOCS / f"card-{each.out.name}.png")


if __name__ == "__main__":
    main()

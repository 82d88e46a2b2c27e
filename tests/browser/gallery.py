"""The gallery of the docs: what OHIF shows of a real run of the phantom, and of planted markers."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset

from tests.browser import pixels
from tests.browser.bench import Bench, bench

FOLDER = Path(__file__).parents[2] / "docs" / "gallery"
TITLE = """# What a radiologist sees

Pictures of the viewer OHIF 3.12, taken by `make browser` in headless Chromium before a real
Orthanc, after `tests/browser` had checked by the pixels that every object lies where it belongs.
The phantom's pictures are what `pellucid demo` made; the others are of a gray body with a marker
that no mirror image of it touches.
"""
_REPORT, _REGIONS, _BANDS, _OVERLAY = 9000, 9001, 9200, 9300


def main() -> int:
    """Take every picture and write the page that shows them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pellucid-gallery-") as name:
        folder = Path(name)
        demo = [sys.executable, "-m", "node.cli", "demo", "--out", str(folder / "demo")]
        subprocess.run(demo, check=True)
        with bench(folder) as running:
            shots = [*_phantom(running, folder / "demo"), *_markers(running)]
    lines = [f"![{words}]({name}.png)\n\n{words}\n" for name, words in shots]
    (FOLDER / "README.md").write_text("\n".join([TITLE, *lines]))
    return 0


def _phantom(running: Bench, demo: Path) -> Iterator[tuple[str, str]]:
    viewer = running.viewer
    for path in sorted(demo.glob("*/*.dcm")):
        running.pacs.store(path.read_bytes())
    results = [pydicom.dcmread(path) for path in sorted((demo / "pacs").glob("*.dcm"))]
    numbered = {
        number: [each for each in results if each.SeriesNumber == number]
        for number in (_REPORT, _REGIONS, _BANDS, _OVERLAY)
    }
    viewer.open(str(results[0].StudyInstanceUID))

    viewer.load(_description(numbered[_OVERLAY]))
    viewer.go_to(str(max(numbered[_OVERLAY], key=_painted).SOPInstanceUID))
    viewer.look(lambda seen: pixels.colorful(seen).any())
    yield _taken(
        running,
        "phantom-overlay",
        "Secondary Capture: relevance over the phantom, with its legend.",
    )

    (regions,) = numbered[_REGIONS]
    viewer.regions(_description([regions]), _images_of(regions))
    viewer.answer("No")
    yield _taken(
        running, "phantom-regions", "Measurement SR: the region on the phantom's own image."
    )

    viewer.load(_description(numbered[_BANDS]))
    viewer.answer("Yes")
    viewer.go_to(_strongest(numbered[_BANDS][0]))
    viewer.look(lambda seen: pixels.colorful(seen).any())
    yield _taken(
        running, "phantom-bands", "SEG: bands of relevance, four colors from 20 % of the peak on."
    )

    viewer.load(_description(numbered[_REPORT]))
    viewer.words_with("Conclusion")
    yield _taken(running, "phantom-report", "Report, the SR that is to be read: conclusion first.")


def _markers(running: Bench) -> Iterator[tuple[str, str]]:
    viewer = running.viewer
    study = running.opened("oblique")
    image = study.image_uid(int(np.argwhere(study.marker)[0][0]))
    viewer.load(study.description("segmentation"))
    viewer.answer("Yes")
    viewer.go_to(image)
    viewer.look(lambda seen: pixels.colorful(seen).any())
    yield _taken(running, "marker-segmentation", "SEG: an outline on an oblique series.")

    viewer.load(study.description("parametric_map"))
    viewer.wait_for_map()
    viewer.go_to(image)
    viewer.look(lambda seen: pixels.colorful(seen).any())
    yield _taken(
        running, "marker-map", "Parametric Map on an oblique series, in OHIF's own rainbow."
    )

    study = running.opened("radiograph")
    viewer.regions(study.description("measurements"), [study.image_uid(0)])
    yield _taken(running, "marker-radiograph", "Measurement SR: a region on a radiograph.")


def _taken(running: Bench, name: str, words: str) -> tuple[str, str]:
    running.viewer.save(FOLDER / f"{name}.png")
    return name, words


def _description(series: list[Dataset]) -> str:
    return str(series[0].SeriesDescription)


def _painted(capture: Dataset) -> int:
    return int(pixels.colorful(capture.pixel_array).sum())


def _images_of(document: Dataset) -> list[str]:
    study = document.CurrentRequestedProcedureEvidenceSequence[0]
    return [
        str(item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def _strongest(bands: Dataset) -> str:
    """Return the source image on which the last band covers most."""
    frames = bands.PerFrameFunctionalGroupsSequence
    last = max(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber for f in frames)
    covered = {
        str(
            frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        ): plane.sum()
        for frame, plane in zip(frames, bands.pixel_array, strict=True)
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == last
    }
    return max(covered, key=lambda uid: covered[uid])


if __name__ == "__main__":
    sys.exit(main())

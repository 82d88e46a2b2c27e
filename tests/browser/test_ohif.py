"""What a radiologist sees in OHIF, by the pixels of its window.

One file, so that pytest-xdist runs it in one process: PACS and viewer start once.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from dicom_io.paint import heat_lab, lab_to_rgb, segment_lab
from tests.browser import pixels
from tests.browser.bench import bench as running
from tests.browser.studies import Study
from tests.browser.viewer import Viewer

pytestmark = pytest.mark.peers

#: Pixels of the screen by which a border may be off: half a voxel is three, a line two wide.
NEAR = 6


@dataclass(frozen=True, kw_only=True)
class Case:
    """A study that is open in the viewer, and where its bare image shows marker and body."""

    study: Study
    viewer: Viewer
    marker: pixels.Box
    body: pixels.Box

    @property
    def marked(self):
        """Indices of the slices through the marker."""
        return sorted({int(index[0]) for index in np.argwhere(self.study.marker)})

    @property
    def beside(self):
        """Indices of slices without it: its neighbors, and where its mirror image would lie."""
        last = self.study.marker.shape[0] - 1
        return [self.marked[0] - 1, self.marked[-1] + 1, last - self.marked[0]]

    def load(self, name, answer=""):
        """Open a result; where the viewer asks whether it shall, answer."""
        self.viewer.load(self.study.description(name))
        if answer:
            self.viewer.answer(answer)

    def at(self, index, meets=None):
        """Return the picture of a slice, when it stands still."""
        self.viewer.go_to(self.study.image_uid(index))
        return self.viewer.look(meets)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with running(tmp_path_factory.mktemp("bench")) as started:
        yield started


@pytest.fixture(scope="module")
def case(bench, request):
    """A study of a kind, opened once for all tests of it."""
    study, viewer = bench.opened(request.param), bench.viewer
    viewer.go_to(study.image_uid(int(np.argwhere(study.marker)[0][0])))
    bare = viewer.look(lambda picture: pixels.white(picture).sum() > 500)
    marker, body = pixels.box_of(pixels.white(bare)), pixels.box_of(pixels.body(bare))
    return Case(study=study, viewer=viewer, marker=marker, body=body)


def assert_color_is_on_the_marker_alone(case):
    for index in case.marked:
        color = pixels.colorful(case.at(index, lambda seen: pixels.colorful(seen).any()))
        assert pixels.box_of(color) == pytest.approx(case.marker, abs=NEAR), f"slice {index}"
    for index in case.beside:
        color = pixels.colorful(case.at(index, lambda seen: not pixels.colorful(seen).any()))
        assert not color.any(), f"slice {index} is painted, the marker is on {case.marked}"


@pytest.mark.parametrize("case", ["axial", "oblique", "reversed"], indirect=True)
def test_an_outline_covers_the_marker_and_no_mirror_image_of_it(case):
    case.load("segmentation", answer="Yes")

    assert_color_is_on_the_marker_alone(case)

    seen = case.at(case.marked[0], lambda seen: pixels.colorful(seen).any())
    assert pixels.close_to(seen, lab_to_rgb(segment_lab(1))).sum() > 200


@pytest.mark.parametrize("case", ["oblique", "reversed", "feet-first"], indirect=True)
def test_relevance_bands_lie_on_the_marker_in_their_four_colors(case):
    case.load("bands", answer="Yes")

    assert_color_is_on_the_marker_alone(case)

    seen = case.at(case.marked[0], lambda seen: pixels.colorful(seen).any())
    for middle in (0.3, 0.5, 0.7, 0.9):
        assert pixels.close_to(seen, lab_to_rgb(heat_lab(middle))).sum() > 50, middle


@pytest.mark.parametrize("case", ["radiograph"], indirect=True)
def test_bands_with_a_placeholder_for_their_place_lie_on_the_marker_of_a_radiograph(case):
    case.load("bands_placed", answer="Yes")

    seen = case.viewer.look(lambda seen: pixels.colorful(seen).any())

    color = pixels.box_of(pixels.colorful(seen))
    assert color == pytest.approx(case.marker, abs=NEAR)
    for middle in (0.3, 0.5, 0.7, 0.9):
        assert pixels.close_to(seen, lab_to_rgb(heat_lab(middle))).sum() > 50, middle


@pytest.mark.parametrize(
    "case", ["axial", "oblique", "reversed", "feet-first", "radiograph"], indirect=True
)
def test_a_capture_shows_relevance_where_the_marker_is_in_the_image(case):
    captures = case.study.results["overlay"]
    marked = case.study.image_uid(case.marked[0])
    uid = next(
        str(each.SOPInstanceUID)
        for each in captures
        if each.SourceImageSequence[0].ReferencedSOPInstanceUID == marked
    )
    case.load("overlay")
    case.viewer.go_to(uid)

    seen = case.viewer.look(lambda seen: pixels.colorful(seen).any())

    body = pixels.box_of(pixels.body(seen))
    color = pixels.box_of(pixels.colorful(pixels.within(seen, body)))
    expected = pixels.share(case.marker, case.body)
    assert pixels.share(color, (0, 0, body[2] - body[0], body[3] - body[1])) == pytest.approx(
        expected, abs=0.03
    )


# Of a radiograph OHIF draws the region in about one of two openings: no wheel turns a single image.
@pytest.mark.parametrize("case", ["axial", "oblique"], indirect=True)
def test_a_region_is_drawn_on_its_image_with_the_probability_beside_it(case):
    images = [case.study.image_uid(index) for index in case.marked]

    lines = case.viewer.regions(case.study.description("measurements"), images)
    seen = case.viewer.screen()

    green = pixels.close_to(seen, (0, 255, 0), tolerance=60)
    green[:, int(min(line.box[0] for line in lines)) - 4 :] = False
    assert pixels.frame_of(green) == pytest.approx(case.marker, abs=NEAR)
    assert "probability: 87" in lines[0].words
    assert lines[0].box[2] <= seen.shape[1], "cut off at the window's edge"


@pytest.mark.parametrize("case", ["axial", "radiograph"], indirect=True)
def test_the_report_opens_with_its_conclusion(case):
    case.load("report")

    words = case.viewer.words_with("PRESENT")

    assert case.viewer.complaints() == ""
    assert "87" in words.split("PRESENT")[1][:40]


@pytest.mark.parametrize("case", ["axial"], indirect=True)
def test_what_was_not_analyzed_says_so_and_why(case):
    case.load("outcome")

    words = case.viewer.words_with("NOT ANALYZED")

    assert case.viewer.complaints() == ""
    assert "body part is CHEST, expected HEAD" in words


@pytest.mark.parametrize("case", ["oblique", "reversed", "feet-first"], indirect=True)
def test_a_parametric_map_stays_on_its_slices(case):
    case.load("parametric_map")
    case.viewer.wait_for_map()

    assert_color_is_on_the_marker_alone(case)

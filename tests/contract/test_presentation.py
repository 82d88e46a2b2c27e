"""A presentation state draws on the images themselves, where the relevance is, for DCMTK too."""

import subprocess

import numpy as np
import pydicom
import pytest
from skimage.draw import polygon2mask

from dicom_io.analysis import Familiarity, Heatmap, Verdict
from dicom_io.check_source import check_against_source
from dicom_io.encode import key_objects, presentation
from dicom_io.encode.overlay_legend import overlay_legend
from dicom_io.encode.reliability_words import DO_NOT_RELY
from dicom_io.read import read_input
from tests.build import (
    cr_dataset,
    ct_series,
    dx_dataset,
    enhanced_ct_dataset,
    marked_volume,
    mr_series,
    slice_datasets,
    stored,
)
from tests.build_analysis import make_analysis, make_explanation, make_origin, make_photograph
from tests.peers import require

SERIES = {
    "CT": ct_series,
    "files in reverse": lambda folder: stored(folder, reversed(slice_datasets(marked_volume()))),
    "oblique MR": lambda folder: mr_series(folder, "oblique"),
    "enhanced, frames reversed": lambda folder: stored(
        folder, [enhanced_ct_dataset(order=[4, 3, 2, 1, 0])]
    ),
    "CR": lambda folder: stored(folder, [cr_dataset()]),
    "DX, MONOCHROME1": lambda folder: stored(folder, [dx_dataset()]),
}


def marked(source):
    """The brightest voxel, and an analysis that points at it and at a neighbor."""
    brightest = source.volume.voxels[0].argmax()
    index = np.unravel_index(brightest, source.volume.grid_shape)
    relevance = np.zeros((1, *source.volume.grid_shape), np.float32)
    relevance[(0, *index)] = 1.0
    relevance[0, index[0], max(index[1] - 1, 1), index[2]] = 0.9
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    return index, make_analysis(source, segments=(), explanations=(explanation,))


def as_dcmtk_reads_it(state, image_path, frame, folder):
    """The presentation state, read and written again by DCMTK, and the picture it makes with it."""
    render = require("/usr/bin/dcmp2pgm", "apt-get install dcmtk")
    state.save_as(folder / "state.dcm", enforce_file_format=True)
    subprocess.run(
        [
            *(render, "--pstate", folder / "state.dcm", "--frame", str(frame)),
            *("+S", folder / "again.dcm", image_path, folder / "out.pgm"),
        ],
        check=True,
        capture_output=True,
    )
    *_, pixels = (folder / "out.pgm").read_bytes().split(b"\n", 3)
    return pydicom.dcmread(folder / "again.dcm"), np.frombuffer(pixels, np.uint8)


@pytest.mark.peers
@pytest.mark.parametrize("kind", SERIES)
def test_the_line_encloses_the_marker_on_the_image_that_shows_it(kind, tmp_path):
    series = SERIES[kind](tmp_path / "in")
    source = read_input(series, "image")
    (index, row, column), analysis = marked(source)
    frame = source.volume.frames[index]
    path = next(i.path for i in series.instances if i.sop_instance_uid == frame.sop_instance_uid)

    (state,) = presentation.encode(analysis, source, make_origin(), ())
    again, picture = as_dcmtk_reads_it(state, path, frame.frame_number or 1, tmp_path)

    (annotation,) = again.GraphicAnnotationSequence
    (image,) = annotation.ReferencedImageSequence
    assert image.ReferencedSOPInstanceUID == frame.sop_instance_uid
    assert image.get("ReferencedFrameNumber") == frame.frame_number
    (line,) = annotation.GraphicObjectSequence
    points = np.array(line.GraphicData, float).reshape(-1, 2)
    inside = polygon2mask(source.volume.grid_shape[1:], points[:, ::-1] - 0.5)
    relevance = analysis.explanations[0].heatmap.relevance
    np.testing.assert_array_equal(inside, relevance[0, index] > 0)
    assert picture.reshape(inside.shape)[row, column] == picture.max()
    assert check_against_source(state, source) == ()


def test_the_words_say_what_how_sure_by_what_and_that_it_is_ai(tmp_path):
    source = read_input(ct_series(tmp_path), "image")
    _, analysis = marked(source)

    (state,) = presentation.encode(analysis, source, make_origin(), ())

    label, text = state.GraphicAnnotationSequence[0].TextObjectSequence
    assert label.UnformattedTextValue == "AI: synthetic lesion"
    assert text.UnformattedTextValue.split("\r\n") == [
        "AI evidence for synthetic lesion",
        "PRESENT, probability 87.0 % (cut-off 50.0 %)",
        "LayerCAM: explanation grade B, passed its checks",
        "Research use: not for diagnostic use",
    ]


@pytest.mark.parametrize("side", [slice(0, 3), slice(-3, None)])
def test_the_label_stands_on_the_side_of_the_line(side, tmp_path):
    source = read_input(ct_series(tmp_path, marked_volume(shape=(3, 60, 80))), "image")
    relevance = np.zeros((1, *source.volume.grid_shape), np.float32)
    relevance[0, 1, 40:44, side] = 1.0
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    analysis = make_analysis(source, segments=(), explanations=(explanation,))

    (state,) = presentation.encode(analysis, source, make_origin(), ())

    label, _ = state.GraphicAnnotationSequence[0].TextObjectSequence
    column, row = label.AnchorPoint
    assert (column > 40) is (side.start < 0)
    assert row == pytest.approx(44)


def test_slices_with_windows_of_their_own_keep_them(tmp_path):
    datasets = slice_datasets(marked_volume())
    for number, dataset in enumerate(datasets):
        dataset.WindowCenter = 40 + number // 2
    source = read_input(stored(tmp_path, datasets), "image")
    relevance = np.ones((1, *source.volume.grid_shape), np.float32)
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    analysis = make_analysis(source, segments=(), explanations=(explanation,))

    (state,) = presentation.encode(analysis, source, make_origin(), ())

    windows = {
        image.ReferencedSOPInstanceUID: item.WindowCenter
        for item in state.SoftcopyVOILUTSequence
        for image in item.ReferencedImageSequence
    }
    assert windows == {each.SOPInstanceUID: each.WindowCenter for each in datasets}
    assert float(state.RescaleIntercept) == float(datasets[0].RescaleIntercept)


def test_slices_with_a_rescale_of_their_own_get_a_state_of_their_own(tmp_path):
    datasets = slice_datasets(marked_volume())
    datasets[1].RescaleSlope = 2
    source = read_input(stored(tmp_path, datasets), "image")
    relevance = np.ones((1, *source.volume.grid_shape), np.float32)
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    analysis = make_analysis(source, segments=(), explanations=(explanation,))

    states = presentation.encode(analysis, source, make_origin(), ())

    slopes = {
        image.ReferencedSOPInstanceUID: float(state.RescaleSlope)
        for state in states
        for image in state.ReferencedSeriesSequence[0].ReferencedImageSequence
    }
    assert len(states) == 2
    assert slopes == {each.SOPInstanceUID: float(each.RescaleSlope) for each in datasets}


def test_a_withheld_heatmap_is_not_drawn_and_outlines_stay(tmp_path):
    source = read_input(ct_series(tmp_path), "image")
    withheld = make_explanation(source, Verdict.WITHHELD)

    (state,) = presentation.encode(
        make_analysis(source, explanations=(withheld,)), source, make_origin(), ()
    )

    assert [layer.GraphicLayer for layer in state.GraphicLayerSequence] == ["AI_OUTLINE_1"]


def test_outlines_of_an_image_unlike_the_known_ones_say_so_in_every_object(tmp_path):
    source = read_input(ct_series(tmp_path), "image")
    strange = Familiarity(distance=9.0, distance_limit=3.0, energy=0.0, energy_limit=1.0)
    analysis = make_analysis(source, explanations=(), familiarity=strange)

    (state,) = presentation.encode(analysis, source, make_origin(), ())
    (selection,) = key_objects.encode(analysis, source, make_origin(), ())
    legend = overlay_legend(analysis, None, None, analysis.segments, origin=make_origin())

    _, words = state.GraphicAnnotationSequence[0].TextObjectSequence
    assert DO_NOT_RELY in words.UnformattedTextValue
    assert any(DO_NOT_RELY in item.get("TextValue", "") for item in selection.ContentSequence)
    assert DO_NOT_RELY in [line.text for line in legend.head]


def test_a_photograph_has_no_grayscale_presentation_state():
    source = make_photograph()

    assert presentation.encode(make_analysis(source), source, make_origin(), ()) == ()


def test_a_contour_beyond_the_image_does_not_pass_our_check(tmp_path):
    source = read_input(ct_series(tmp_path), "image")
    _, analysis = marked(source)
    (state,) = presentation.encode(analysis, source, make_origin(), ())

    line = state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    line.GraphicData = [value + 10 for value in line.GraphicData]

    assert check_against_source(state, source) == ("annotation 1 reaches beyond its image",)

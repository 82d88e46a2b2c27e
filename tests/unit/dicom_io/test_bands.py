"""Relevance bands: the heatmap's levels as segments, on the grid of the source."""

import highdicom as hd
import numpy as np
import pytest

from dicom_io.analysis import Heatmap, Verdict
from dicom_io.encode.relevance_bands import encode
from dicom_io.paint import relevance_peak
from tests.build_analysis import (
    OBLIQUE,
    make_analysis,
    make_explanation,
    make_heatmap,
    make_input,
    make_origin,
    make_projection,
)


def test_bands_are_fractions_of_the_peak_of_the_whole_volume(tmp_path):
    source = make_input(OBLIQUE, "MR")
    relevance = make_heatmap(source).relevance[0]
    peak = relevance_peak(relevance)

    (dataset,) = encode(make_analysis(source), source, make_origin(), ())
    dataset.save_as(tmp_path / "bands.dcm", enforce_file_format=True)
    read = hd.seg.segread(tmp_path / "bands.dcm")
    uids = [frame.sop_instance_uid for frame in source.volume.frames]
    pixels = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)

    for band, (lower, upper) in enumerate([(0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, np.inf)]):
        expected = (relevance >= lower * peak) & (relevance < upper * peak)
        np.testing.assert_array_equal(pixels[..., band].astype(bool), expected)


def test_a_band_says_what_it_is_evidence_for_by_which_method_and_how_well_it_adds_up():
    source = make_input()
    explanation = make_explanation(
        source, method="lrp", parameters={"rule": "gamma"}, residual=0.00041, against="cyst"
    )
    analysis = make_analysis(source, explanations=(explanation,))

    (dataset,) = encode(analysis, source, make_origin(), ())

    (strongest, *_) = reversed(dataset.SegmentSequence)
    (algorithm,) = strongest.SegmentationAlgorithmIdentificationSequence
    assert strongest.SegmentLabel == ">= 80 % evidence for synthetic lesion rather than cyst"
    assert (
        "evidence for synthetic lesion rather than cyst by LRP-gamma (axiom residual 0.00041)"
        in strongest.SegmentDescription
    )
    assert strongest.SegmentAlgorithmName == "LRP-gamma"
    assert algorithm.AlgorithmNameCodeSequence[0].CodeValue == "LRP"
    assert algorithm.AlgorithmParameters.startswith("method=lrp; rule=gamma")


def test_channels_are_summed():
    source = make_input()
    both = make_explanation(source, heatmap=make_heatmap(source, channels=2))

    (one,) = encode(make_analysis(source), source, make_origin(), ())
    (two,) = encode(make_analysis(source, explanations=(both,)), source, make_origin(), ())

    assert one.PixelData == two.PixelData


def test_every_explanation_gets_its_own_series():
    source = make_input()
    explanations = (make_explanation(source), make_explanation(source, method="occlusion"))

    objects = encode(make_analysis(source, explanations=explanations), source, make_origin(), ())

    assert len({dataset.SeriesInstanceUID for dataset in objects}) == 2
    assert "occlusion" in objects[1].SeriesDescription


@pytest.mark.parametrize(
    ("verdict", "said"), [(Verdict.LABELLED, "A CHECK FAILED"), (None, "not measured")]
)
def test_what_did_not_pass_says_so_in_the_series_description(verdict, said):
    source = make_input()
    explanation = make_explanation(source, verdict)

    (dataset,) = encode(
        make_analysis(source, explanations=(explanation,)), source, make_origin(), ()
    )

    assert said in dataset.SeriesDescription


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_heatmap_without_positive_relevance_makes_no_bands(value):
    source = make_input()
    flat = Heatmap(relevance=np.full((1, *source.volume.grid_shape), value, np.float32))
    explanation = make_explanation(source, heatmap=flat)

    assert (
        encode(make_analysis(source, explanations=(explanation,)), source, make_origin(), ()) == ()
    )


def test_projection_gets_no_bands_because_it_has_no_place():
    source = make_projection()

    assert encode(make_analysis(source), source, make_origin(), ()) == ()

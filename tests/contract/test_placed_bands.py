"""Bands of a radiograph with a placeholder: no place is claimed, and the object says so."""

import numpy as np
import pydicom
import pytest

from dicom_io.encode.relevance_bands import encode_placed
from dicom_io.paint import relevance_bands
from tests.build_analysis import (
    make_analysis,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
)


def test_bands_come_back_pixel_for_pixel_and_the_placeholder_is_named(tmp_path):
    source = make_projection()
    analysis = make_analysis(source)

    (dataset,) = encode_placed(analysis, source, make_origin(), ())
    dataset.save_as(tmp_path / "bands.dcm", enforce_file_format=True)
    again = pydicom.dcmread(tmp_path / "bands.dcm")

    shared = again.SharedFunctionalGroupsSequence[0]
    assert "PlaneOrientationSequence" in shared
    assert "FrameOfReferenceUID" not in again
    assert not any("PlanePositionSequence" in f for f in again.PerFrameFunctionalGroupsSequence)
    assert again.PatientOrientation == ["L", "F"]
    assert "placeholder" in again.ImageComments
    assert again.ContentDescription.endswith("orientation: placeholder")
    bands = relevance_bands(analysis.explanations[0].heatmap)[0]
    numbers = sorted(set(bands[bands > 0].tolist()))
    frames = again.pixel_array.reshape(len(numbers), *bands.shape).astype(bool)
    for frame, number in zip(frames, numbers, strict=True):
        np.testing.assert_array_equal(frame, bands == number)


@pytest.mark.parametrize("make", [make_input, make_photograph])
def test_no_other_image_gets_a_placeholder(make):
    source = make()

    assert encode_placed(make_analysis(source), source, make_origin(), ()) == ()

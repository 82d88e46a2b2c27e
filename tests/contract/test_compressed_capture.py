"""A capture in RLE is the same picture under another name, as DCMTK decodes it."""

import subprocess

import numpy as np
import pydicom
import pytest

from dicom_io.check import check_object
from dicom_io.encode.secondary_capture import encode, encode_rle
from tests.build_analysis import make_analysis, make_input, make_origin, make_photograph
from tests.peers import require


@pytest.mark.peers
@pytest.mark.parametrize("make", [make_input, make_photograph])
def test_dcmtk_decodes_the_same_picture(make, tmp_path):
    decode = require("/usr/bin/dcmdrle", "apt-get install dcmtk")
    source = make()
    analysis = make_analysis(source)
    plain, *_ = encode(analysis, source, make_origin(), ())
    compressed, *_ = encode_rle(analysis, source, make_origin(), ())

    compressed.save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    subprocess.run([decode, tmp_path / "rle.dcm", tmp_path / "plain.dcm"], check=True)

    again = pydicom.dcmread(tmp_path / "plain.dcm")
    np.testing.assert_array_equal(again.pixel_array, plain.pixel_array)
    assert again.SOPInstanceUID == compressed.SOPInstanceUID != plain.SOPInstanceUID
    assert len(compressed.PixelData) < len(plain.PixelData) / 2


def test_a_truncated_frame_does_not_pass_our_check():
    source = make_input()
    compressed, *_ = encode_rle(make_analysis(source), source, make_origin(), ())
    assert check_object(compressed) == ()

    compressed.SamplesPerPixel = 1

    assert check_object(compressed) == (
        "PixelData has frames of [3] RLE segments, expected 1 of 1",
    )

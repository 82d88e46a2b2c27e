"""Shades of relevance come back by highdicom at their place, as fractions of the peak."""

import highdicom as hd
import numpy as np
import pytest

from dicom_io.analysis import Heatmap
from dicom_io.encode import fractional
from dicom_io.paint import displayed
from tests.build_analysis import (
    OBLIQUE,
    make_analysis,
    make_enhanced_input,
    make_explanation,
    make_input,
    make_origin,
    make_projection,
)

SOURCES = {
    "axial CT": make_input,
    "oblique MR": lambda: make_input(OBLIQUE, "MR"),
    "multi-frame MR": make_enhanced_input,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_fraction_comes_back_at_its_place(kind, tmp_path):
    source = SOURCES[kind]()
    relevance = np.random.default_rng(1).normal(size=source.volume.grid_shape).astype(np.float32)
    relevance[[0, -1]] = -1.0
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance[None]))
    analysis = make_analysis(source, explanations=(explanation,))

    (dataset,) = fractional.encode(analysis, source, make_origin(), ())
    dataset.save_as(tmp_path / "shades.dcm", enforce_file_format=True)
    volume = hd.seg.segread(tmp_path / "shades.dcm").get_volume(
        combine_segments=False, rescale_fractional=True
    )

    # highdicom turns the slices round: points decide.
    expected = displayed(explanation.heatmap).levels / 255.0
    indices = np.indices(volume.array.shape[:3]).reshape(3, -1)
    points = volume.affine @ np.vstack([indices, np.ones(indices.shape[1])])
    there = np.linalg.solve(source.volume.affine, points)[:3]
    np.testing.assert_allclose(there, there.round(), atol=1e-3)
    slices, rows, columns = there.round().astype(int)
    np.testing.assert_allclose(volume.array.ravel(), expected[slices, rows, columns], atol=1e-6)
    assert set(slices) == set(range(1, source.volume.grid_shape[0] - 1))


def test_a_radiograph_has_no_place_to_be_shaded_at():
    source = make_projection()

    assert fractional.encode(make_analysis(source), source, make_origin(), ()) == ()

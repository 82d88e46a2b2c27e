"""A volume written as a modality would: valid, faithful, the same twice."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from dicom_io.encode.source_series import encode_source_series
from dicom_io.errors import EncodingError
from dicom_io.read import read_volume
from tests.build import (
    CREATED,
    OBLIQUE,
    SUBJECT,
    affine_of,
    marked_volume,
    slice_datasets,
    stored,
    t1_head_series,
    t1_head_volume,
    volume_of,
)
from tests.peers import require


@pytest.mark.peers
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_dciodvfy_finds_no_error(tmp_path, modality, scale):
    checker = require("/usr/bin/dciodvfy", "apt-get install dicom3tools")
    volume = marked_volume(modality=modality)
    volume = replace(volume, voxels=(volume.voxels * scale).astype(np.float32))
    series = stored(tmp_path, slice_datasets(volume))

    found = subprocess.run(
        [checker, series.instances[1].path], capture_output=True, text=True, check=False
    )

    assert "Error" not in found.stderr


def test_fractions_come_back_within_half_a_step(tmp_path):
    voxels = np.random.default_rng(3).normal(0, 50, (4, 6, 6)).astype(np.float32)
    volume = volume_of(voxels, affine_of(), "MR")

    read = read_volume(stored(tmp_path, slice_datasets(volume)))

    step = float(np.ptp(voxels)) / 65535
    assert np.abs(read.voxels[0] - voxels).max() <= step / 2 * 1.01


def test_constant_fraction_comes_back(tmp_path):
    volume = volume_of(np.full((2, 3, 3), 0.25, dtype=np.float32), affine_of(), "MR")

    assert np.all(read_volume(stored(tmp_path, slice_datasets(volume))).voxels == 0.25)


def test_same_seed_makes_the_same_identifiers():
    one, two, other = (slice_datasets(seed=seed) for seed in ("a", "a", "b"))

    assert [d.SOPInstanceUID for d in one] == [d.SOPInstanceUID for d in two]
    assert {d.SOPInstanceUID for d in one}.isdisjoint({d.SOPInstanceUID for d in other})
    assert len({d.SOPInstanceUID for d in one}) == len(one)


@pytest.mark.parametrize(
    ("volume", "problem"),
    [
        (replace(marked_volume(), modality="DX"), "expected CT or MR"),
        (replace(marked_volume(), affine=None), "no affine"),
        (replace(marked_volume(), voxels=np.zeros((3, 2, 4, 4), np.float32)), "3 channels"),
        (
            replace(marked_volume(), voxels=np.full((1, 2, 4, 4), np.nan, np.float32)),
            "not finite",
        ),
        (replace(marked_volume(), affine=affine_of() @ np.diag([-1.0, 1, 1, 1])), "descend"),
        (
            replace(
                marked_volume(),
                affine=affine_of()
                @ np.array([[1, 0, 0, 0], [0, 1, 0.2, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
            ),
            "not orthogonal",
        ),
    ],
)
def test_volume_that_cannot_be_written_is_refused(volume, problem):
    with pytest.raises(EncodingError, match=problem):
        encode_source_series(volume, SUBJECT, seed="x", created=CREATED)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_real_head_comes_back_in_every_orientation(tmp_path, orientation):
    written = t1_head_volume(orientation)

    volume = read_volume(t1_head_series(tmp_path, orientation))

    assert np.array_equal(volume.voxels, written.voxels)
    assert np.allclose(volume.affine, written.affine, atol=1e-9)


def test_resampled_head_is_in_place_on_an_oblique_grid():
    axial, resampled = t1_head_volume("axial"), t1_head_volume("resampled")

    assert np.allclose(centroid(resampled), centroid(axial), atol=0.1)
    assert np.allclose(resampled.affine[:3, :3], (OBLIQUE @ axial.affine)[:3, :3])


def centroid(volume):
    """LPS mm, weighted by intensity."""
    voxels = volume.voxels[0].astype(np.float64)
    others = [tuple({0, 1, 2} - {axis}) for axis in range(3)]
    profiles = [voxels.sum(axis=other) for other in others]
    index = [float(profile @ np.arange(len(profile)) / profile.sum()) for profile in profiles]
    return (volume.affine @ np.append(index, 1.0))[:3]

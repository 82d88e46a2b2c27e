"""Another reader agrees where every voxel is, and what it holds."""

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from dicom_io.header import read_header
from dicom_io.read import read_volume
from dicom_io.study import Series
from tests.build import (
    DIRECTIONS,
    affine_of,
    ct_series,
    enhanced_ct_dataset,
    marked_volume,
    marker_index,
    rotation,
    stored,
)
from tests.contract.test_real_files import files_of


def place_of(affine, index):
    return (affine @ np.append(index, 1.0))[:3]


def brightest(array):
    return np.unravel_index(array.argmax(), array.shape)


def require_agreement(volume, other):
    assert np.isclose(volume.voxels.max(), other.array.max())
    ours = place_of(volume.affine, brightest(volume.voxels[0]))
    theirs = place_of(other.affine, brightest(other.array))
    assert np.allclose(ours, theirs, atol=1e-4)
    # Every voxel of ours lies at the place of a voxel of theirs that holds the same.
    back = np.linalg.inv(other.affine) @ volume.affine
    for index in np.ndindex(2, 3, 4):
        there = np.rint(place_of(back, index)).astype(int)
        assert np.isclose(volume.voxels[0][index], other.array[tuple(there)])


@pytest.mark.parametrize("orientation", [*DIRECTIONS, "oblique"])
def test_highdicom_finds_the_marker_where_we_do(tmp_path, orientation):
    series = ct_series(tmp_path, marked_volume(orientation))

    other = highdicom.get_volume_from_series([dcmread(i.path) for i in series.instances])

    volume = read_volume(series)
    require_agreement(volume, other)
    expected = place_of(affine_of(orientation), marker_index(volume.grid_shape))
    assert np.allclose(place_of(other.affine, brightest(other.array)), expected, atol=1e-4)


def test_highdicom_reads_the_enhanced_image_as_we_do(tmp_path):
    turned = rotation(33, (3, 1, 2)) @ affine_of("coronal")
    dataset = enhanced_ct_dataset(marked_volume(affine=turned), order=[4, 2, 0, 1, 3])
    series = stored(tmp_path, [dataset])

    other = highdicom.imread(series.instances[0].path).get_volume()

    require_agreement(read_volume(series), other)


def test_highdicom_reads_a_real_stack_as_we_do():
    files = files_of("pydicom/dicomdirtests/98892001/CT5N/*")
    series = Series(series_instance_uid="1", instances=tuple(read_header(path) for path in files))

    other = highdicom.get_volume_from_series([dcmread(path) for path in files])

    require_agreement(read_volume(series), other)

"""Images that stand alone: values, brightness, colors, spacing."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from dicom_io.read import read_volume
from tests.build import cr_dataset, dx_dataset, photo_dataset, stored


def read(folder, dataset):
    return read_volume(stored(folder, [dataset]))


def test_radiograph_has_spacing_but_no_place(tmp_path):
    volume = read(tmp_path, cr_dataset())

    assert volume.affine is None
    assert volume.pixel_spacing_mm == (0.15, 0.1)
    assert volume.spacing_mm is None
    assert np.array_equal(volume.voxels[0, 0], np.arange(48).reshape(6, 8))


def test_larger_is_brighter_where_the_source_stores_it_darker(tmp_path):
    volume = read(tmp_path, dx_dataset())

    # 12 bits stored: 4095 - value.
    assert np.array_equal(volume.voxels[0, 0], 4095 - 80 * np.arange(48).reshape(6, 8))
    assert volume.window == (3095, 500)


def test_calibrated_spacing_goes_before_the_detectors(tmp_path):
    assert read(tmp_path, dx_dataset()).pixel_spacing_mm == (0.2, 0.2)


def test_spacing_of_zero_is_unknown(tmp_path):
    dataset = cr_dataset()
    dataset.PixelSpacing, dataset.ImagerPixelSpacing = [0, 0], [0, 0]

    assert read(tmp_path, dataset).pixel_spacing_mm is None


def test_photograph_keeps_its_colors_and_sides(tmp_path):
    volume = read(tmp_path, photo_dataset())

    assert volume.voxels.shape == (3, 1, 6, 8)
    assert tuple(volume.voxels[:, 0, 0, 0]) == (200, 10, 20)
    assert tuple(volume.voxels[:, 0, 3, 7]) == (5, 250, 15)
    assert volume.window is None


def test_palette_becomes_colors(tmp_path):
    dataset = cr_dataset((np.arange(48) % 4).astype(np.uint8).reshape(6, 8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for color, entries in (("Red", (0, 9, 0, 7)), ("Green", (1, 1, 8, 1)), ("Blue", (2, 3, 4, 5))):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(dataset, f"{color}PaletteColorLookupTableData", bytes(entries))

    volume = read(tmp_path, dataset)

    assert tuple(volume.voxels[:, 0, 0, 1]) == (9, 1, 3)
    assert tuple(volume.voxels[:, 0, 0, 2]) == (0, 8, 4)


def test_palette_of_a_big_endian_file_has_the_same_colors(tmp_path):
    dataset = cr_dataset((np.arange(48) % 4).astype(np.uint8).reshape(6, 8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for color in ("Red", "Green", "Blue"):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(
            dataset,
            f"{color}PaletteColorLookupTableData",
            np.array([1, 300, 5, 60000], dtype=">u2").tobytes(),
        )
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    volume = read(tmp_path, dataset)

    assert list(volume.voxels[0, 0, 0, :4]) == [1, 300, 5, 60000]


def test_modality_table_of_signed_pixels_may_begin_below_zero(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4, -2, 16])
    table.add_new("LUTData", "OW", np.array([7, 8, 9, 10], dtype="<u2").tobytes())
    dataset = cr_dataset(np.arange(-24, 24, dtype=np.int16).reshape(6, 8))
    dataset.ModalityLUTSequence = Sequence([table])

    pixels = read(tmp_path, dataset).voxels[0, 0].ravel()

    assert list(pixels[21:28]) == [7, 7, 8, 9, 10, 10, 10]


def test_modality_table_is_applied_and_holds_beyond_its_ends(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 10, 16])
    table.add_new("LUTData", "US", [100, 200, 300, 500])
    dataset = cr_dataset()
    dataset.ModalityLUTSequence = Sequence([table])

    pixels = read(tmp_path, dataset).voxels[0, 0].ravel()

    assert list(pixels[9:15]) == [100, 100, 200, 300, 500, 500]


def test_signed_values_keep_their_sign(tmp_path):
    pixels = np.arange(-24, 24, dtype=np.int16).reshape(6, 8)

    volume = read(tmp_path, cr_dataset(pixels))

    assert np.array_equal(volume.voxels[0, 0], pixels)


@pytest.mark.parametrize("signed", [0, 1])
def test_overlay_in_the_high_bits_is_no_value(tmp_path, signed):
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    pixels[0, 0] = 0x0FFF
    dataset = cr_dataset(pixels | 0xA000)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, signed

    volume = read(tmp_path, dataset)

    assert volume.voxels[0, 0, 0, 0] == (-1 if signed else 4095)
    assert np.array_equal(volume.voxels[0, 0].ravel()[1:], np.arange(1, 48))


def test_big_endian_is_read(tmp_path):
    dataset = cr_dataset()
    dataset.PixelData = np.arange(48, dtype=">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    assert np.array_equal(read(tmp_path, dataset).voxels[0, 0].ravel(), np.arange(48))


@pytest.mark.parametrize(
    ("age", "years"), [("045Y", 45), ("018M", 1.5), ("052W", 1.0), ("", None), ("45", None)]
)
def test_age_is_read_as_the_standard_writes_it(tmp_path, age, years):
    dataset = cr_dataset()
    dataset.PatientAge = "045Y"
    series = stored(tmp_path, [dataset])
    path = series.instances[0].path
    tag = b"\x10\x00\x10\x10AS\x04\x00"
    path.write_bytes(path.read_bytes().replace(tag + b"045Y", tag + age.ljust(4).encode()))

    found = read_volume(series).age_years

    assert found == (None if years is None else pytest.approx(years, abs=0.01))

"""What is refused, under which name, with which identifiers and numbers."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    JPEG2000Lossless,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
    TwelveLeadECGWaveformStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from dicom_io.errors import (
    CorruptPixelsError,
    DicomInputError,
    DuplicateSliceError,
    InvalidValueError,
    LocalizerError,
    MissingAttributeError,
    MissingPixelsError,
    MixedOrientationError,
    MixedSeriesError,
    TruncatedPixelsError,
    UnalignedSlicesError,
    UnevenSpacingError,
    UnsupportedImageError,
    UnsupportedObjectError,
    UnsupportedSyntaxError,
)
from dicom_io.header import read_header
from dicom_io.read import read_volume
from dicom_io.study import Series
from tests.build import (
    affine_of,
    cr_dataset,
    ct_series,
    dx_dataset,
    enhanced_ct_dataset,
    marked_volume,
    photo_dataset,
    renamed,
    rotation,
    slice_datasets,
    stored,
)


def refusal(folder, datasets, error, pattern):
    with pytest.raises(error, match=pattern) as caught:
        read_volume(stored(folder, datasets))
    assert type(caught.value) is error
    return str(caught.value)


def test_series_with_a_missing_slice_is_refused(tmp_path):
    datasets = slice_datasets(marked_volume(shape=(9, 8, 10)))
    del datasets[4]

    message = refusal(tmp_path, datasets, UnevenSpacingError, r"slices 4 and 5 of 8 are 5\.000 mm")

    assert datasets[0].SeriesInstanceUID in message
    assert "expected 2.500 mm" in message


@pytest.mark.parametrize("missing", range(1, 8))
def test_no_missing_slice_goes_unseen(tmp_path, missing):
    datasets = slice_datasets(marked_volume(shape=(9, 8, 10)))
    del datasets[missing]

    refusal(tmp_path, datasets, UnevenSpacingError, "expected 2.500 mm")


def test_spacing_that_changes_by_a_little_is_refused(tmp_path):
    datasets = slice_datasets(marked_volume(shape=(40, 4, 4)))
    for number, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [0, 0, number * 1.0 + max(0, number - 20) * 0.02]

    refusal(tmp_path, datasets, UnevenSpacingError, "of 40")


def test_positions_rounded_to_two_decimals_are_read(tmp_path):
    datasets = slice_datasets(marked_volume(shape=(40, 4, 4)))
    for number, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [0, 0, round(number * 1.2347, 2)]

    volume = read_volume(stored(tmp_path, datasets))

    assert volume.spacing_mm[0] == pytest.approx(1.2347, abs=1e-3)


def test_slice_beside_the_line_is_refused(tmp_path):
    datasets = slice_datasets()
    x, y, z = datasets[2].ImagePositionPatient
    datasets[2].ImagePositionPatient = [x + 3, y, z]

    refusal(tmp_path, datasets, UnalignedSlicesError, r"slice 3 of 5 lies 3\.000 mm beside")


def test_two_slices_at_one_place_are_refused(tmp_path):
    datasets = [*slice_datasets(), renamed(slice_datasets()[3], "again")]

    message = refusal(tmp_path, datasets, DuplicateSliceError, "6 slices at 5 places")

    assert datasets[3].SOPInstanceUID in message
    assert datasets[5].SOPInstanceUID in message


def test_several_time_points_in_one_series_are_refused(tmp_path):
    again = [renamed(dataset, f"later {n}") for n, dataset in enumerate(slice_datasets())]

    refusal(tmp_path, [*slice_datasets(), *again], DuplicateSliceError, "time points, echoes")


def test_one_instance_in_two_files_is_refused(tmp_path):
    refusal(tmp_path, [*slice_datasets(), slice_datasets()[1]], DuplicateSliceError, "2 times")


def test_slices_of_two_orientations_are_refused(tmp_path):
    other = renamed(slice_datasets(marked_volume("coronal", shape=(5, 8, 10)))[0], "coronal")

    refusal(
        tmp_path, [*slice_datasets(), other], MixedOrientationError, r"turned by 90\.000 degrees"
    )


def test_a_tenth_of_a_degree_is_another_orientation(tmp_path):
    turned = marked_volume(affine=rotation(0.8, (0, 0, 1)) @ affine_of())
    datasets = slice_datasets()
    datasets[1].ImageOrientationPatient = slice_datasets(turned)[1].ImageOrientationPatient

    refusal(tmp_path, datasets, MixedOrientationError, r"0\.800 degrees")


def test_slices_of_two_sizes_are_refused(tmp_path):
    other = renamed(slice_datasets(marked_volume(shape=(5, 4, 4)))[0], "small")

    refusal(tmp_path, [*slice_datasets(), other], MixedSeriesError, r"\(4, 4\) rows and columns")


def test_slices_of_two_pixel_spacings_are_refused(tmp_path):
    datasets = slice_datasets()
    datasets[3].PixelSpacing = [0.9, 1.3]

    refusal(tmp_path, datasets, MixedSeriesError, r"pixel spacing \(0\.9, 1\.3\) mm")


def test_slices_of_two_frames_of_reference_are_refused(tmp_path):
    datasets = slice_datasets()
    datasets[3].FrameOfReferenceUID = "1.2.3"

    refusal(tmp_path, datasets, MixedSeriesError, "FrameOfReferenceUID has 2 values")


def test_two_sop_classes_in_one_series_are_refused(tmp_path):
    other = dx_dataset()
    other.SeriesInstanceUID = slice_datasets()[0].SeriesInstanceUID

    refusal(tmp_path, [*slice_datasets(), other], MixedSeriesError, "2 SOP classes")


def test_localizer_among_slices_is_refused(tmp_path):
    datasets = slice_datasets()
    datasets[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    refusal(tmp_path, datasets, LocalizerError, r'ImageType = \["!LOCALIZER"\]')


def test_ct_localizer_alone_is_refused(tmp_path):
    dataset = slice_datasets()[0]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    refusal(tmp_path, [dataset], LocalizerError, "projections")


@pytest.mark.parametrize(
    "keyword",
    [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
        "Rows",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        "PhotometricInterpretation",
    ],
)
def test_slice_without_a_required_attribute_is_refused(tmp_path, keyword):
    datasets = slice_datasets()
    del datasets[1][keyword]

    message = refusal(tmp_path, datasets, MissingAttributeError, f"lacks {keyword}")

    assert datasets[1].SOPInstanceUID in message


def test_single_slice_of_unknown_thickness_is_refused(tmp_path):
    dataset = slice_datasets()[0]
    del dataset.SliceThickness
    del dataset.SpacingBetweenSlices

    refusal(tmp_path, [dataset], MissingAttributeError, "SliceThickness")


@pytest.mark.parametrize(
    ("keyword", "value", "pattern"),
    [
        ("PixelSpacing", [0, 0.9], "expected positive"),
        ("PixelSpacing", [0.9], "1 values, expected 2"),
        ("ImagePositionPatient", [1, 2], "2 values, expected 3"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "dot product 1.0000"),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0], "lengths 2.0000"),
        ("RescaleSlope", 0, "RescaleSlope is 0"),
        ("HighBit", 14, "HighBit is 14, expected BitsStored - 1 = 15"),
    ],
)
def test_slice_with_an_impossible_value_is_refused(tmp_path, keyword, value, pattern):
    datasets = slice_datasets()
    setattr(datasets[1], keyword, value)

    refusal(tmp_path, datasets, InvalidValueError, pattern)


@pytest.mark.parametrize("written", [b"a.b1", b"1,25", b"nan ", b"inf "])
def test_decimal_string_that_is_no_number_is_refused(tmp_path, written):
    dataset = slice_datasets()[0]
    dataset.SliceThickness = "1.25"
    series = stored(tmp_path, [dataset])
    path = series.instances[0].path
    tag = b"\x18\x00\x50\x00DS\x04\x00"
    path.write_bytes(path.read_bytes().replace(tag + b"1.25", tag + written))

    with pytest.raises(InvalidValueError, match=f"{dataset.SOPInstanceUID}: SliceThickness"):
        read_volume(series)


def test_slice_without_pixels_is_refused(tmp_path):
    datasets = slice_datasets()
    del datasets[2].PixelData

    refusal(tmp_path, datasets, MissingPixelsError, datasets[2].SOPInstanceUID)


def test_slice_with_half_its_pixels_is_refused_not_filled(tmp_path):
    datasets = slice_datasets()
    datasets[2].PixelData = datasets[2].PixelData[:80]

    refusal(tmp_path, datasets, TruncatedPixelsError, "has 80 bytes, expected 160")


def test_file_cut_within_its_pixels_is_refused(tmp_path):
    series = ct_series(tmp_path)
    path = series.instances[1].path
    path.write_bytes(path.read_bytes()[:-60])

    with pytest.raises(TruncatedPixelsError, match=series.instances[1].sop_instance_uid):
        read_volume(series)


def test_pixel_data_of_another_frame_more_is_refused(tmp_path):
    datasets = slice_datasets()
    datasets[2].PixelData = datasets[2].PixelData * 2

    refusal(tmp_path, datasets, InvalidValueError, "the excess holds a frame or more")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("lost", [40, 400, 2000])
def test_compressed_frame_that_ends_early_is_refused(tmp_path, syntax, lost):
    dataset = compressed(syntax)
    item = dataset.PixelData.index(b"\xfe\xff\x00\xe0", 8)
    length = int.from_bytes(dataset.PixelData[item + 4 : item + 8], "little")
    frame = dataset.PixelData[item + 8 : item + 8 + length - lost]
    header = dataset.PixelData[: item + 4] + len(frame).to_bytes(4, "little")
    dataset.PixelData = header + frame

    with pytest.raises((TruncatedPixelsError, CorruptPixelsError)):
        read_volume(stored(tmp_path, [dataset]))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_frame_reads_as_before_it_was_compressed(tmp_path, syntax):
    volume = read_volume(stored(tmp_path, [compressed(syntax)]))

    assert np.array_equal(volume.voxels[0, 0], noise().astype(np.float32))


def noise():
    return np.random.default_rng(5).integers(0, 4096, (64, 64)).astype(np.uint16)


def compressed(syntax):
    dataset = cr_dataset(noise())
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def test_deflated_data_set_is_read(tmp_path):
    dataset = cr_dataset()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    volume = read_volume(stored(tmp_path, [dataset]))

    assert volume.grid_shape == (1, 6, 8)


def test_video_has_no_decoder(tmp_path):
    dataset = cr_dataset()
    dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x02\x00\x00\x00\x00\x00"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML

    refusal(tmp_path, [dataset], UnsupportedSyntaxError, "MPEG2")


@pytest.mark.parametrize(
    "sop_class",
    [
        SegmentationStorage,
        EnhancedSRStorage,
        RTStructureSetStorage,
        TwelveLeadECGWaveformStorage,
        EncapsulatedPDFStorage,
        VLWholeSlideMicroscopyImageStorage,
    ],
)
def test_object_that_is_no_image_is_refused(tmp_path, sop_class):
    dataset = cr_dataset()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class

    refusal(tmp_path, [dataset], UnsupportedObjectError, sop_class.name)


def test_cine_loop_is_refused(tmp_path):
    dataset = cr_dataset()
    dataset.NumberOfFrames = 3
    dataset.PixelData = dataset.PixelData * 3

    refusal(tmp_path, [dataset], UnsupportedImageError, "3 frames")


def test_color_slices_are_refused(tmp_path):
    dataset = photo_dataset()
    dataset.SOPClassUID = slice_datasets()[0].SOPClassUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

    refusal(tmp_path, [dataset], UnsupportedImageError, "of RGB, expected one of grayscale")


def test_unknown_photometric_interpretation_is_refused(tmp_path):
    dataset = cr_dataset()
    dataset.PhotometricInterpretation = "CMYK"

    refusal(tmp_path, [dataset], UnsupportedImageError, "'CMYK'")


def test_floats_that_are_no_numbers_are_refused(tmp_path):
    dataset = slice_datasets(marked_volume(modality="MR"))[0]
    pixels = np.ones((dataset.Rows, dataset.Columns), dtype="<f4")
    pixels[2, 3] = np.nan
    del dataset.PixelData
    dataset.FloatPixelData = pixels.tobytes()
    dataset.BitsAllocated = 32

    refusal(tmp_path, [dataset], CorruptPixelsError, "not finite")


def test_rescale_beyond_all_numbers_is_refused(tmp_path):
    dataset = slice_datasets()[0]
    dataset.RescaleSlope = "1e300"

    refusal(tmp_path, [dataset], CorruptPixelsError, "not finite")


def test_file_that_was_replaced_is_refused(tmp_path):
    series = ct_series(tmp_path)
    first, second = series.instances[:2]
    first.path.write_bytes(second.path.read_bytes())

    with pytest.raises(InvalidValueError, match="its file now holds"):
        read_volume(series)


def test_enhanced_ct_localizer_is_refused(tmp_path):
    dataset = enhanced_ct_dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]

    refusal(tmp_path, [dataset], LocalizerError, "projections")


def test_mr_localizers_of_one_direction_are_a_stack(tmp_path):
    datasets = slice_datasets(marked_volume(modality="MR"))
    for dataset in datasets:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    assert read_volume(stored(tmp_path, datasets)).grid_shape == (5, 8, 10)


def test_enhanced_image_without_functional_groups_is_refused(tmp_path):
    dataset = enhanced_ct_dataset()
    del dataset.PerFrameFunctionalGroupsSequence

    refusal(tmp_path, [dataset], MissingAttributeError, "its frames have no place")


def test_enhanced_image_with_fewer_groups_than_frames_is_refused(tmp_path):
    dataset = enhanced_ct_dataset()
    del dataset.PerFrameFunctionalGroupsSequence[2]

    refusal(tmp_path, [dataset], InvalidValueError, "of 4 frames, expected 5")


def test_enhanced_frame_without_position_is_refused(tmp_path):
    dataset = enhanced_ct_dataset()
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    refusal(tmp_path, [dataset], MissingAttributeError, "frame 3 lacks PlanePositionSequence")


def test_enhanced_ct_without_rescale_is_refused(tmp_path):
    dataset = enhanced_ct_dataset()
    for item in dataset.PerFrameFunctionalGroupsSequence:
        del item.PixelValueTransformationSequence

    refusal(tmp_path, [dataset], MissingAttributeError, "CT values have no unit")


def test_two_stacks_in_one_enhanced_image_are_refused(tmp_path):
    dataset = enhanced_ct_dataset()
    dataset.PerFrameFunctionalGroupsSequence[4].FrameContentSequence[0].StackID = "2"

    refusal(tmp_path, [dataset], MixedSeriesError, "2 stacks")


def test_time_points_in_one_enhanced_image_are_refused(tmp_path):
    dataset = enhanced_ct_dataset(order=[0, 1, 2, 0, 1, 2])

    refusal(tmp_path, [dataset], DuplicateSliceError, "6 slices at 3 places")


def test_modality_table_that_is_too_short_is_refused(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [16, 0, 16])
    table.add_new("LUTData", "US", list(range(9)))
    dataset = cr_dataset()
    dataset.ModalityLUTSequence = Sequence([table])

    refusal(tmp_path, [dataset], InvalidValueError, "9 entries, expected 16")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_refused_by_name_or_read(tmp_path, seed):
    generator = np.random.default_rng(seed)
    series = stored(tmp_path, [enhanced_ct_dataset() if seed % 2 else slice_datasets()[0]])
    path = series.instances[0].path
    whole = path.read_bytes()

    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(132, len(whole), 12):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged[: generator.integers(140, len(whole) + 1)])
        try:
            instance = read_header(path)
            read_volume(
                Series(series_instance_uid=instance.series_instance_uid, instances=(instance,))
            )
        except DicomInputError:
            continue

"""The walk over an encoded data set: what it finds, and what it refuses."""

import io
import struct
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dicom_io.part10 import part10_head
from dicom_io.structure import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    StructureError,
    read_structure,
)

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


def make_dataset(**changes):
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.5"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 4, 6, 16
    dataset.PixelData = bytes(range(48))
    dataset["PixelData"].VR = "OW"
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def encode(dataset, *, implicit=False):
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def explicit_element(group, element, representation, value):
    return struct.pack("<HH2s2xI", group, element, representation, len(value)) + value


@pytest.mark.parametrize("implicit", [True, False])
def test_identity_and_pixels_are_found(implicit):
    encoded = encode(make_dataset(), implicit=implicit)

    found = read_structure(encoded, IMPLICIT_LITTLE_ENDIAN if implicit else EXPLICIT_LITTLE_ENDIAN)

    assert found.uids == {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.5",
    }
    assert encoded[slice(*found.pixels)] == bytes(range(48))


@pytest.mark.parametrize("implicit", [True, False])
def test_device_uids_are_found_in_the_contributing_equipment(implicit):
    device = Dataset()
    device.DeviceUID = "2.25.77"
    dataset = make_dataset(ContributingEquipmentSequence=Sequence([device]))

    found = read_structure(
        encode(dataset, implicit=implicit),
        IMPLICIT_LITTLE_ENDIAN if implicit else EXPLICIT_LITTLE_ENDIAN,
    )

    assert found.device_uids == {"2.25.77"}


def test_contributing_equipment_of_unknown_vr_holds_implicit_vr():
    device = Dataset()
    device.DeviceUID = "2.25.77"
    inner = encode(device, implicit=True)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    encoded = explicit_element(0x0018, 0xA001, b"UN", item)

    found = read_structure(encoded, EXPLICIT_LITTLE_ENDIAN)

    assert found.device_uids == {"2.25.77"}


def test_implicit_vr_in_a_compressed_transfer_syntax_is_refused():
    # PS3.5 A.4: encapsulated transfer syntaxes are explicit VR; pydicom's SC_rgb_jpeg is not.
    content = Path(get_testdata_file("SC_rgb_jpeg.dcm", download=False)).read_bytes()
    meta_length = int.from_bytes(content[140:144], "little")

    with pytest.raises(StructureError, match=r"byte 0 has no VR.*PS3.5 7.1.2"):
        read_structure(content[144 + meta_length :], JPEG_BASELINE)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "reportsi.dcm", "JPEG2000.dcm"]
)
def test_real_files_pass(name):
    content = Path(get_testdata_file(name, download=False)).read_bytes()
    dataset = dcmread(io.BytesIO(content))
    meta_length = int.from_bytes(content[140:144], "little")

    found = read_structure(content[144 + meta_length :], dataset.file_meta.TransferSyntaxUID)

    assert found.uids["SOPInstanceUID"] == dataset.SOPInstanceUID


def test_native_pixel_data_shorter_than_its_description_is_refused():
    encoded = encode(make_dataset(PixelData=bytes(46)))

    with pytest.raises(StructureError, match=r"46 bytes.*48"):
        read_structure(encoded, EXPLICIT_LITTLE_ENDIAN)


def test_frames_count_towards_the_length_of_pixel_data():
    with pytest.raises(StructureError, match=r"48 bytes.*96"):
        read_structure(encode(make_dataset(NumberOfFrames=2)), EXPLICIT_LITTLE_ENDIAN)


@pytest.mark.parametrize("cut", [1, 7, 30, 47, 48, 59])
def test_a_cut_data_set_is_refused(cut):
    encoded = encode(make_dataset())[:-cut]

    with pytest.raises(StructureError):
        read_structure(encoded, EXPLICIT_LITTLE_ENDIAN)


def test_a_value_that_leaves_its_item_is_refused():
    inner = explicit_element(0x0008, 0x0104, b"UT", b"longer than said")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner) - 4) + inner
    encoded = explicit_element(0x0008, 0x1140, b"SQ", item)

    with pytest.raises(StructureError, match="longer than its parent"):
        read_structure(encoded, EXPLICIT_LITTLE_ENDIAN)


def test_endless_nesting_is_refused_without_recursion():
    opening = struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)

    with pytest.raises(StructureError, match="32 levels"):
        read_structure(opening * 60_000, EXPLICIT_LITTLE_ENDIAN)


def test_encapsulated_pixel_data_must_be_closed():
    fragments = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)
    fragments += struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    fragments += struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"jpeg"
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)

    found = read_structure(fragments + end, JPEG_LOSSLESS)
    with pytest.raises(StructureError, match="not closed"):
        read_structure(fragments, JPEG_LOSSLESS)

    assert found.pixels is not None


def test_the_head_of_a_file_is_what_an_independent_reader_expects():
    head = part10_head("1.2.840.10008.5.1.4.1.1.4", "1.2.3.4", EXPLICIT_LITTLE_ENDIAN)

    read = dcmread(io.BytesIO(head + encode(make_dataset())))

    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert read.file_meta.TransferSyntaxUID == EXPLICIT_LITTLE_ENDIAN
    assert read.file_meta.FileMetaInformationGroupLength == len(head) - 132 - 12
    assert read.PixelData == bytes(range(48))

import logging
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.errors import (
    DamagedFileError,
    DicomInputError,
    MissingAttributeError,
    NotDicomError,
    UnsupportedObjectError,
)
from dicom_io.header import identify, quiet_parser, read_header
from dicom_io.structure import read_structure
from tests.build import SUBJECT, cr_dataset, ct_series, slice_datasets, stored


def test_header_carries_identity_and_what_routes_ask_for(tmp_path):
    series = ct_series(tmp_path)

    instance = read_header(series.instances[0].path)

    assert instance.patient_id == "H-1"
    assert instance.transfer_syntax_uid == ExplicitVRLittleEndian
    assert instance.tags["Modality"] == "CT"
    assert instance.tags["ImageType"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert instance.tags["Rows"] == "8"
    assert instance.tags["SliceThickness"] == "2.5"
    assert "PixelData" not in instance.tags


def test_names_in_greek_survive(tmp_path):
    series = ct_series(tmp_path)

    assert series.instances[0].tags["PatientName"] == SUBJECT.patient_name


def test_names_in_japanese_survive(tmp_path):
    dataset = cr_dataset()
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    dataset.PatientName = "Yamada^Tarou=山田^太郎"

    instance = stored(tmp_path, [dataset]).instances[0]

    assert instance.tags["PatientName"] == "Yamada^Tarou=山田^太郎"


def test_long_text_is_left_out_not_cut(tmp_path):
    dataset = cr_dataset()
    dataset.ImageComments = "x" * 1025

    assert "ImageComments" not in stored(tmp_path, [dataset]).instances[0].tags


def test_text_file_is_no_dicom(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("nothing here")

    with pytest.raises(NotDicomError, match=r"note\.txt"):
        read_header(path)


def test_empty_file_is_no_dicom(tmp_path):
    path = tmp_path / "empty.dcm"
    path.touch()

    with pytest.raises(NotDicomError):
        read_header(path)


@pytest.mark.parametrize("length", [140, 180, 200, 260])
def test_file_that_ends_in_its_header_is_refused_by_name(tmp_path, length):
    whole = ct_series(tmp_path).instances[0].path.read_bytes()
    path = tmp_path / "short.dcm"
    path.write_bytes(whole[:length])

    with pytest.raises((DamagedFileError, MissingAttributeError)):
        read_header(path)


def test_data_set_without_preamble_is_refused(tmp_path):
    whole = ct_series(tmp_path).instances[0].path.read_bytes()
    path = tmp_path / "bare.dcm"
    path.write_bytes(whole[132:])

    with pytest.raises(NotDicomError, match=r"PS3\.10"):
        read_header(path)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_instance_without_identity_is_refused(tmp_path, keyword):
    path = ct_series(tmp_path).instances[0].path
    dataset = dcmread(path)
    del dataset[keyword]
    dataset.save_as(path)

    with pytest.raises(MissingAttributeError, match=keyword):
        read_header(path)


def test_media_directory_is_no_instance(tmp_path):
    path = ct_series(tmp_path).instances[0].path
    dataset = dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.save_as(path)

    with pytest.raises(UnsupportedObjectError, match="DICOMDIR"):
        read_header(path)


def test_errors_name_no_patient(tmp_path):
    dataset = slice_datasets()[0]
    path = stored(tmp_path, [dataset]).instances[0].path
    spoilt = dcmread(path)
    del spoilt.SOPInstanceUID
    spoilt.save_as(path)

    with pytest.raises(MissingAttributeError) as caught:
        read_header(path)

    for secret in (SUBJECT.patient_name, SUBJECT.patient_id, SUBJECT.birth_date):
        assert secret not in str(caught.value)


def test_parser_is_quiet_only_where_it_is_asked_to_be(caplog):
    logger = logging.getLogger("pydicom")
    caplog.set_level(logging.WARNING, logger="pydicom")

    with quiet_parser():
        logger.warning("a patient's value")
    logger.warning("something else")

    assert [record.message for record in caplog.records] == ["something else"]


def read_both_ways(path):
    """Return what the parser and the walk say of a file that both of them take, else nothing."""
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    try:
        parsed = read_header(path)
        found = read_structure(content[start:], parsed.transfer_syntax_uid)
    except DicomInputError:
        return ()
    return parsed, identify(found, transfer_syntax_uid=parsed.transfer_syntax_uid, path=path)


def test_the_walk_finds_what_the_parser_finds():
    files = sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm"))

    pairs = [pair for file in files if (pair := read_both_ways(file))]

    assert len(pairs) > 60
    assert [parsed.path.name for parsed, walked in pairs if walked != parsed] == []

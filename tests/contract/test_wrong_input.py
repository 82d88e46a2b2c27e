"""What sources get wrong reaches every object whole, or empty, and never makes one invalid."""

import io
import subprocess
from dataclasses import replace
from importlib.metadata import entry_points

import pydicom
import pytest
from pydicom.filewriter import dcmwrite

from dicom_io.check import check_object
from dicom_io.codes import REJECTED_FOR_QUALITY
from dicom_io.encode.key_objects import Rejection, encode_rejection
from dicom_io.encode.objects import encode_analyses
from dicom_io.encode.outcome import encode_outcome
from dicom_io.origin import Predecessor
from dicom_io.outcome import Outcome, OutcomeKind
from dicom_io.read import read_input
from tests.build import slice_datasets, stored
from tests.build_analysis import (
    make_analysis,
    make_explanation,
    make_finding,
    make_origin,
    make_segment,
)
from tests.peers import require

TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
#: Character set, and the patient's name in it.
NAMES = {
    "Greek": ("ISO_IR 126", "Διονυσίου^Μαρία"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Arabic": ("ISO_IR 127", "قباني^لنزار"),
    "Hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "Russian": ("ISO_IR 144", "Жуков^Юрий"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "Chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "Unicode": ("ISO_IR 192", "Nguyễn^Thị Ánh"),
}


def source_of(folder, change):
    """A stored CT whose every instance was spoilt, as the node reads it."""
    datasets = slice_datasets()
    for dataset in datasets:
        change(dataset)
    return read_input(stored(folder, datasets), "image")


def all_objects(source):
    """Every object of every encoder, and the two documents that no analysis makes."""
    encoders = {entry.name: entry.load() for entry in entry_points(group="pellucid.encoders")}
    analysis = make_analysis(
        source,
        findings=(make_finding(), make_finding(label="Läsion ≥ 5 mm")),
        segments=(brightest(source),),
        explanations=(make_explanation(source),),
    )
    origin = make_origin()
    objects = encode_analyses([analysis], [source], origin, encoders)
    header = source.headers[0]
    failed = Outcome(kind=OutcomeKind.FAILED, reason="the model's file is damaged: naïve ≥")
    withdrawn = [
        Predecessor(
            study_instance_uid=str(header.StudyInstanceUID),
            series_instance_uid=str(each.SeriesInstanceUID),
            sop_class_uid=str(each.SOPClassUID),
            sop_instance_uid=str(each.SOPInstanceUID),
        )
        for each in objects[:2]
    ]
    rejection = Rejection(title=REJECTED_FOR_QUALITY, words="Replaced.")
    return [
        *objects,
        encode_outcome(failed, header, origin),
        encode_rejection(withdrawn, header, origin=origin, reason=rejection),
    ]


def brightest(source):
    brightness = source.volume.voxels.sum(axis=0)
    return replace(make_segment(source), mask=brightness == brightness.max())


def as_bytes(dataset):
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def errors_of(validator, objects, folder):
    found = []
    for number, dataset in enumerate(objects):
        path = folder / f"{number}.dcm"
        path.write_bytes(as_bytes(dataset))
        ran = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        lines = (ran.stdout + ran.stderr).splitlines()
        found += [(dataset.SeriesDescription, x) for x in lines if x.startswith("Error")]
    return found


@pytest.mark.parametrize("script", NAMES)
def test_names_of_every_script_survive_in_every_object(script, tmp_path):
    character_set, name = NAMES[script]

    def change(dataset):
        dataset.SpecificCharacterSet = character_set
        dataset.PatientName = name

    for dataset in all_objects(source_of(tmp_path, change)):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        assert str(again.PatientName) == name
        assert again.SpecificCharacterSet == character_set


@pytest.mark.peers
@pytest.mark.parametrize("script", ["Greek", "Arabic", "Unicode"])
def test_another_toolkit_reads_the_name_in_every_object(script, tmp_path):
    dcmdump = require("/usr/bin/dcmdump", "apt-get install dcmtk")
    character_set, name = NAMES[script]

    def change(dataset):
        dataset.SpecificCharacterSet = character_set
        dataset.PatientName = name

    paths = []
    for number, dataset in enumerate(all_objects(source_of(tmp_path / "in", change))):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(as_bytes(dataset))
    ran = subprocess.run(
        [dcmdump, "+U8", "+P", "PatientName", *paths],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip

    assert ran.stdout.count(f"[{name}]") == len(paths)


@pytest.mark.parametrize("encoding", ["latin_1", "iso8859_7", "shift_jis"])
def test_high_bytes_of_no_declared_character_set_survive_as_they_are(encoding, tmp_path):
    octets = {"latin_1": "Müller^Änne", "iso8859_7": "Διονυσίου", "shift_jis": "山田"}[
        encoding
    ].encode(encoding)

    def change(dataset):
        del dataset.SpecificCharacterSet
        dataset.PatientName = octets.decode("latin_1")

    for dataset in all_objects(source_of(tmp_path, change)):
        written = as_bytes(dataset)

        assert octets in written
        assert "SpecificCharacterSet" not in pydicom.dcmread(io.BytesIO(written))


@pytest.mark.parametrize("missing", [("AccessionNumber",), TYPE_2], ids=["accession", "all"])
def test_missing_type_2_attributes_are_present_and_empty(missing, tmp_path):
    def change(dataset):
        for keyword in missing:
            if keyword in dataset:
                delattr(dataset, keyword)

    for dataset in all_objects(source_of(tmp_path, change)):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        assert check_object(again) == ()
        assert [again[keyword].value or "" for keyword in missing] == [""] * len(missing)


@pytest.mark.peers
def test_a_validator_accepts_all_objects_of_a_source_that_says_next_to_nothing(tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")

    def change(dataset):
        for keyword in (*TYPE_2, "Manufacturer", "StudyDescription"):
            if keyword in dataset:
                delattr(dataset, keyword)

    objects = all_objects(source_of(tmp_path / "in", change))

    assert errors_of(validator, objects, tmp_path) == []


def test_private_elements_of_the_source_reach_no_object(tmp_path):
    def change(dataset):
        block = dataset.private_block(0x0011, "ACME 1.1", create=True)
        block.add_new(0x01, "LO", "Müller Änne, room 3")
        item = pydicom.Dataset()
        item.private_block(0x0013, "ACME 1.1", create=True).add_new(0x01, "LO", "secret")
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "P1", "99ACME", "Head"
        dataset.ProcedureCodeSequence = [item]

    for dataset in all_objects(source_of(tmp_path, change)):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        assert [e for e in again.iterall() if e.tag.is_private] == []

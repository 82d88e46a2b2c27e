"""What every encoder must do, whatever it makes: a new one is tested by being an entry point."""

import io
import subprocess
from importlib.metadata import entry_points

import numpy as np
import pydicom
import pytest
from pydicom.filewriter import dcmwrite

from dicom_io.analysis import Verdict
from dicom_io.check import check_against_source, check_object
from dicom_io.encode.objects import encode_analyses
from tests.build_analysis import (
    OBLIQUE,
    SAGITTAL,
    make_analysis,
    make_card,
    make_enhanced_input,
    make_explanation,
    make_finding,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
)
from tests.peers import require

ENCODERS = {
    entry.name: entry.load
    for entry in sorted(entry_points(group="pellucid.encoders"), key=lambda entry: entry.name)
}


def make_bare_input(**said):
    """A CT that misses what it must say, and says that it was deidentified, not how."""
    source = make_input()
    for header in source.headers:
        del header.BodyPartExamined
        header.PatientIdentityRemoved = "YES"
        for keyword, value in said.items():
            setattr(header, keyword, value)
    return source


SOURCES = {
    "axial CT": make_input,
    "oblique MR": lambda: make_input(OBLIQUE, "MR"),
    "sagittal MR": lambda: make_input(SAGITTAL, "MR"),
    "multi-frame MR": make_enhanced_input,
    "CT that says little": make_bare_input,
    "knee on the left": lambda: make_bare_input(BodyPartExamined="KNEE", Laterality="L"),
    "radiograph": make_projection,
    "photograph": make_photograph,
}


def as_bytes(dataset):
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def all_objects(source, **changes):
    encoders = {name: load() for name, load in ENCODERS.items()}
    analysis = make_analysis(source, **changes)
    return encode_analyses([analysis], [source], make_origin(), encoders)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", SOURCES)
def test_objects_pass_our_own_check(name, kind):
    source = SOURCES[kind]()

    objects = ENCODERS[name]()(make_analysis(source), source, make_origin(), ())

    for dataset in objects:
        assert check_object(dataset) == ()
        assert check_against_source(dataset, source) == ()


@pytest.mark.peers
@pytest.mark.parametrize("kind", SOURCES)
def test_an_independent_validator_finds_no_error(kind, tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    source = SOURCES[kind]()

    errors = {}
    for number, dataset in enumerate(all_objects(source)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(as_bytes(dataset))
        ran = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        lines = (ran.stdout + ran.stderr).splitlines()
        errors[dataset.SeriesDescription] = [line for line in lines if line.startswith("Error")]

    assert errors
    assert {name: found for name, found in errors.items() if found} == {}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_retry_makes_the_same_bytes(kind):
    first = [as_bytes(dataset) for dataset in all_objects(SOURCES[kind]())]
    second = [as_bytes(dataset) for dataset in all_objects(SOURCES[kind]())]

    assert first == second


@pytest.mark.parametrize("name", ENCODERS)
def test_other_inputs_make_other_uids(name):
    source = make_input()
    encode = ENCODERS[name]()

    here = encode(make_analysis(source), source, make_origin(), ())
    there = encode(make_analysis(source), source, make_origin(inputs=("1.2.3.4.99",)), ())

    assert here[0].SOPInstanceUID != there[0].SOPInstanceUID
    assert here[0].SeriesInstanceUID != there[0].SeriesInstanceUID


def test_two_analyses_of_one_task_have_distinct_objects():
    source = make_input()
    analyses = [make_analysis(source), make_analysis(source, model=make_card(name="another"))]
    encoders = {name: load() for name, load in ENCODERS.items()}

    objects = encode_analyses(analyses, [source], make_origin(), encoders)

    assert len({dataset.SOPInstanceUID for dataset in objects}) == len(objects)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", SOURCES)
def test_nothing_found_is_encoded_without_a_crash(name, kind):
    source = SOURCES[kind]()
    empty = make_analysis(source, findings=(), segments=(), explanations=())

    objects = ENCODERS[name]()(empty, source, make_origin(), ())

    assert len(objects) == (1 if name == "report" else 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_withheld_heatmap_leaves_in_no_object(name):
    source = make_input()
    withheld = make_analysis(
        source,
        segments=(),
        explanations=(make_explanation(source, Verdict.WITHHELD),),
    )

    objects = ENCODERS[name]()(withheld, source, make_origin(), ())

    assert len(objects) == (1 if name == "report" else 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoding_changes_neither_headers_nor_arrays(name):
    source = make_input()
    analysis = make_analysis(source)
    headers = [str(header) for header in source.headers]
    relevance = analysis.explanations[0].heatmap.relevance.copy()

    ENCODERS[name]()(analysis, source, make_origin(), ())

    assert [str(header) for header in source.headers] == headers
    np.testing.assert_array_equal(analysis.explanations[0].heatmap.relevance, relevance)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 126", "Διονυσιος"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 127", "قباني^لنزار"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_every_script_survive(character_set, name):
    source = make_input(character_set=character_set, name=name)

    for dataset in all_objects(source, findings=(make_finding(label="Läsion ≥ 5 mm"),)):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        assert str(again.PatientName) == name
        assert again.SpecificCharacterSet == character_set


@pytest.mark.parametrize("kind", SOURCES)
def test_patient_and_study_are_those_of_the_source(kind):
    source = SOURCES[kind]()

    for dataset in all_objects(source):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        for keyword, value in {
            "PatientName": "Müller^Änne",
            "PatientID": "P-17",
            "PatientBirthDate": "19500102",
            "StudyInstanceUID": "1.2.3",
            "StudyDate": "20260228",
            "StudyTime": "235959",
            "AccessionNumber": "A-99",
            "PatientAge": "076Y",
        }.items():
            assert str(again[keyword].value) == value
        assert again.SeriesNumber >= 9000
        assert again.SeriesDescription.startswith("AI")
        assert again.SeriesInstanceUID != "1.2.3.5"

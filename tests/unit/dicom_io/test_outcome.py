"""What could not be analyzed is said, in a document of its own that no one takes for a result."""

import subprocess
from dataclasses import replace

import highdicom as hd
import pytest

from dicom_io.check import check_object
from dicom_io.encode.outcome import encode_outcome
from dicom_io.encode.study_header import tagged_header
from dicom_io.origin import Predecessor
from dicom_io.outcome import Outcome, OutcomeKind
from tests.build_analysis import make_input, make_origin
from tests.peers import require
from tests.unit.dicom_io.test_report import values

REJECTED = Outcome(
    kind=OutcomeKind.REJECTED,
    reason="The model was made for CT of the chest.",
    criterion="Modality is MR, expected CT",
    model_name="nodules",
    model_version="2.1",
    weights_sha256="ab" * 32,
)


def written(outcome=REJECTED, *, origin=None, header=None):
    return encode_outcome(outcome, header or make_input().headers[0], origin or make_origin())


@pytest.mark.parametrize(
    ("kind", "headline", "status"),
    [
        ("rejected", "NOT ANALYZED: the image is outside the intended use of nodules 2.1",
         "Not Attempted"),
        ("damaged", "NOT ANALYZED: images are damaged, nodules 2.1 was not run", "Not Attempted"),
        ("failed", "NOT ANALYZED: nodules 2.1 could not be run to its end", "Failed"),
        ("parked", "NOT ANALYZED YET: nodules 2.1 could not be run, a person has to act first",
         "Failed"),
    ],
)  # fmt: skip
def test_the_first_words_say_that_nothing_was_analyzed(kind, headline, status):
    dataset = written(replace(REJECTED, kind=OutcomeKind(kind)))

    assert values(dataset, "Conclusion") == [
        headline,
        "This says nothing about the patient: it is neither a finding nor an all-clear.",
    ]
    assert values(dataset, "Result of the analysis") == [
        "No algorithms succeeded; without findings"
    ]
    assert values(dataset, "Status of the analysis") == [status]
    assert dataset.SeriesDescription == "AI report: NOT ANALYZED nodules"


def test_criterion_reason_and_provenance_are_said():
    dataset = written()

    assert values(dataset, "Criterion of the intended use that is not met") == [
        "Modality is MR, expected CT"
    ]
    assert values(dataset, "Reason") == ["The model was made for CT of the chest."]
    assert values(dataset, "sha256 of the model's weights") == ["ab" * 32]
    assert values(dataset, "sha256 of the configuration") == ["c0ffee"]
    assert values(dataset, "Restriction of use") == ["Research use: not for diagnostic use"]


@pytest.mark.parametrize("outcome", [REJECTED, Outcome(kind=OutcomeKind.FAILED, reason="a bug")])
def test_it_passes_our_own_check_and_is_of_the_same_patient_and_study(outcome):
    header = make_input(name="Παπαδοπούλου^Ελένη", character_set="ISO_IR 126").headers[0]

    dataset = written(outcome, header=header)

    assert check_object(dataset) == ()
    assert dataset.PatientName == header.PatientName
    assert dataset.StudyInstanceUID == header.StudyInstanceUID


def test_it_can_be_made_of_what_is_known_of_an_image_that_cannot_be_read():
    tags = {
        "PatientName": "Παπαδοπούλου^Ελένη",
        "PatientID": "4711",
        "PatientBirthDate": "no date",
        "StudyDate": "20260102",
        "StudyInstanceUID": "1.2.3",
        "SpecificCharacterSet": "ISO_IR 999",
        "TimezoneOffsetFromUTC": "+25x",
    }

    dataset = written(header=tagged_header(tags))

    assert check_object(dataset) == ()
    assert (dataset.PatientName, dataset.PatientID) == (tags["PatientName"], "4711")
    assert (dataset.StudyInstanceUID, dataset.StudyDate) == ("1.2.3", "20260102")
    assert dataset.PatientBirthDate == ""


def test_the_same_outcome_has_the_same_identifier_and_another_reason_another():
    assert written().SOPInstanceUID == written().SOPInstanceUID
    assert written(replace(REJECTED, reason="other")).SOPInstanceUID != written().SOPInstanceUID


def test_it_names_the_document_that_it_takes_the_place_of():
    earlier = Predecessor(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.70",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.22",
        sop_instance_uid="1.2.3.71",
    )

    dataset = written(origin=replace(make_origin(), predecessors=(earlier,)))

    (study,) = dataset.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.70"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.71"
    assert written(origin=make_origin()).SOPInstanceUID == dataset.SOPInstanceUID


@pytest.mark.peers
def test_independent_readers_and_a_validator_read_it(tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    dsrdump = require("/usr/bin/dsrdump", "apt-get install dcmtk")
    path = tmp_path / "outcome.dcm"
    written().save_as(path, enforce_file_format=True)

    checked = subprocess.run([validator, path], capture_output=True, text=True, check=False)
    dumped = subprocess.run(
        [dsrdump, "+Pl", path], capture_output=True, encoding="latin-1", check=True
    )

    assert "Error" not in checked.stdout + checked.stderr
    assert "outside the intended use of nodules 2.1" in dumped.stdout
    assert hd.sr.srread(path).content[0].ContentSequence[0].value.startswith("NOT ANALYZED")
